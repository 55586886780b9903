"""The file of a core: compressed, or as it is.

Memory comes in batches, from many threads at once; the headers come last,
because how much memory follows them is known at the end only.
"""

import os
from collections.abc import Callable, Sequence
from typing import Final, Protocol

import zstandard

from stillframe.capture.corejob import Compression
from stillframe.capture.coreplan import Bounds
from stillframe.capture.zstdframe import stored_frame

LEVEL: Final = 1
"""Of zstd: its fastest regular one; the process waits meanwhile.  The levels below it took 8 to
20 % less time, and a quarter more room on the heap of a Python process."""
Runs = Sequence[tuple[int, int]]
"""First and last offset in a batch of what has to be written; the rest is zeros."""
Store = Callable[[int, memoryview, Runs], bytes]
"""Stores a batch, told its offset in the core's memory, as far as that need not wait for others;
the bytes that remain to be appended in its turn.  Raises `Stop` when the file has its size."""


class Output(Protocol):
    """Where a core goes."""

    def storer(self) -> Store:
        """How batches are stored; each thread needs its own."""

    def append(self, rest: bytes) -> None:
        """Take what a batch left for its turn; raises `Stop` when the file has its size."""

    def finish(self, headers: bytes, memory: int) -> None:
        """Put the headers, of the size that was announced, in front of ``memory`` bytes."""


def open_output(compression: Compression, fd: int, bounds: Bounds, headers_size: int) -> Output:
    """A core in ``fd``, an empty file; its headers will have ``headers_size`` bytes."""
    kind = ZstdFile if compression is Compression.ZSTD else PlainFile
    return kind(fd, bounds, headers_size)


class ZstdFile:
    """A zstd frame for each batch: threads compress without waiting for each other.

    The headers' frame stores them as they are, so its size is known before.
    """

    def __init__(self, fd: int, bounds: Bounds, headers_size: int) -> None:
        self._fd = fd
        self._bounds = bounds
        self._end = len(stored_frame(bytes(headers_size)))

    def storer(self) -> Store:
        """See `Output`."""
        compressor = zstandard.ZstdCompressor(level=LEVEL, write_checksum=True)
        return lambda _offset, batch, _runs: compressor.compress(batch)

    def append(self, rest: bytes) -> None:
        """See `Output`."""
        self._bounds.check_size(self._end + len(rest))
        _pwrite_all(self._fd, rest, self._end)
        self._end += len(rest)

    def finish(self, headers: bytes, _memory: int) -> None:
        """See `Output`."""
        _pwrite_all(self._fd, stored_frame(headers), 0)


class PlainFile:
    """The core as it is; memory that the process never touched is a hole of the file."""

    def __init__(self, fd: int, bounds: Bounds, headers_size: int) -> None:
        self._fd = fd
        self._bounds = bounds
        self._start = headers_size

    def storer(self) -> Store:
        """See `Output`."""
        return self._store

    def append(self, rest: bytes) -> None:
        """See `Output`; nothing is ever left."""

    def finish(self, headers: bytes, memory: int) -> None:
        """See `Output`."""
        os.ftruncate(self._fd, self._start + memory)  # it may end in a hole, or was cut
        _pwrite_all(self._fd, headers, 0)

    def _store(self, offset: int, batch: memoryview, runs: Runs) -> bytes:
        at = self._start + offset
        self._bounds.check_size(at + len(batch))
        for first, last in runs:
            _pwrite_all(self._fd, batch[first:last], at + first)
        return b""


def _pwrite_all(fd: int, data: "bytes | memoryview", offset: int) -> None:
    view = memoryview(data)
    while view:
        size = os.pwrite(fd, view, offset)
        view = view[size:]
        offset += size
