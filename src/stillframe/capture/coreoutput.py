"""The file of a core: compressed, or as it is.

Blocks of memory are made ready by several processes at once, and end up in the
file in order; the headers come last, as only then it is known how much memory
follows them.
"""

import os
from dataclasses import dataclass
from typing import Final, Protocol

import zstandard

from stillframe.capture.corejob import Compression
from stillframe.capture.coreplan import Bounds
from stillframe.capture.zstdframe import stored_frame

LEVEL: Final = 1
"""Of zstd: its fastest regular one; the process waits meanwhile.  The levels below it took 8 to
20 % less time, and up to a quarter more room on the heap of a Python process."""


@dataclass(frozen=True, slots=True)
class Block:
    """A piece of the memory of a core."""

    offset: int
    """In that memory, bytes."""
    data: memoryview
    runs: list[tuple[int, int]]
    """The parts of ``data`` that were read, in order; the others are zeros."""


class Output(Protocol):
    """Where a core goes."""

    @property
    def start(self) -> int:
        """Where the memory begins in the file, bytes."""

    def make(self, block: Block) -> "bytes | memoryview":
        """Do what needs no other block; what `append` is to append.

        Raises `Stop` when the file would be larger than it may.
        """

    def append(self, made: "bytes | memoryview", end: int) -> int:
        """Append to the file that ends at ``end``; its new end.  Raises as `make`."""

    def finish(self, headers: bytes, end: int) -> None:
        """End the file at ``end``, and put the headers in front."""


class ZstdFile:
    """A frame for the headers and one for each block.

    The first stores its content as it is, so its size is known before.
    """

    def __init__(self, fd: int, bounds: Bounds, headers_size: int) -> None:
        self._fd = fd
        self._bounds = bounds
        self.start = len(stored_frame(bytes(headers_size)))
        parameters = zstandard.ZstdCompressionParameters.from_level(LEVEL, write_checksum=True)
        self._compressor = zstandard.ZstdCompressor(compression_params=parameters)

    def make(self, block: Block) -> bytes:
        """See `Output`."""
        return self._compressor.compress(block.data)

    def append(self, made: "bytes | memoryview", end: int) -> int:
        """See `Output`."""
        self._bounds.check_size(end + len(made))
        _pwrite_all(self._fd, made, end)
        return end + len(made)

    def finish(self, headers: bytes, end: int) -> None:
        """See `Output`."""
        os.ftruncate(self._fd, end)
        _pwrite_all(self._fd, stored_frame(headers), 0)


class PlainFile:
    """The core as it is; memory that the process never touched is a hole of the file."""

    def __init__(self, fd: int, bounds: Bounds, headers_size: int) -> None:
        self._fd = fd
        self._bounds = bounds
        self.start = headers_size

    def make(self, block: Block) -> memoryview:
        """See `Output`; each block has its place in the file, and goes there at once."""
        at = self.start + block.offset
        self._bounds.check_size(at + len(block.data))
        for first, last in block.runs:
            _pwrite_all(self._fd, block.data[first:last], at + first)
        return block.data

    def append(self, made: "bytes | memoryview", end: int) -> int:
        """See `Output`."""
        return end + len(made)

    def finish(self, headers: bytes, end: int) -> None:
        """See `Output`."""
        os.ftruncate(self._fd, end)  # in a hole, or before what others wrote when it was cut
        _pwrite_all(self._fd, headers, 0)


def open_output(compression: Compression, fd: int, bounds: Bounds, headers_size: int) -> Output:
    """A core in ``fd``, an empty file; its headers will have ``headers_size`` bytes."""
    kind = ZstdFile if compression is Compression.ZSTD else PlainFile
    return kind(fd, bounds, headers_size)


def _pwrite_all(fd: int, data: "bytes | memoryview", offset: int) -> None:
    view = memoryview(data)
    while view:
        size = os.pwrite(fd, view, offset)
        view = view[size:]
        offset += size
