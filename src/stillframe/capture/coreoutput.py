"""The file of a core: compressed, or as it is.

Memory comes in pieces, and the headers last: how much memory follows them is
known at the end only.
"""

import io
import os
from typing import Final, Protocol

import zstandard

from stillframe.capture.corejob import Compression
from stillframe.capture.coreplan import Bounds
from stillframe.capture.zstdframe import stored_frame

LEVEL: Final = 1
"""Of zstd: its fastest regular one; the process waits meanwhile.  The levels below it took 8 to
20 % less time, and up to a quarter more room on the heap of a Python process."""
JOB: Final = 512 << 10
"""Bytes that one thread of zstd compresses at a time, the least it takes; by default it is 2 MiB,
which made 256 MiB slower than without threads."""
MAX_THREADS: Final = 4
"""Each takes a processor of the node, and about 2 MiB."""
_ZEROS: Final = memoryview(bytes(1 << 20))


class Output(Protocol):
    """Where a core goes."""

    def write(self, data: "bytes | memoryview") -> None:
        """Append memory; raises `Stop`, with nothing written, when the file has its size."""

    def skip(self, size: int) -> None:
        """Append zeros; raises as `write`."""

    def finish(self, headers: bytes) -> None:
        """End the file and put the headers in front, of the size that was announced."""


def open_output(compression: Compression, fd: int, bounds: Bounds, headers_size: int) -> Output:
    """A core in ``fd``, an empty file; its headers will have ``headers_size`` bytes."""
    kind = ZstdFile if compression is Compression.ZSTD else PlainFile
    return kind(fd, bounds, headers_size)


class ZstdFile:
    """One frame for the headers and one for all memory, compressed by zstd's own threads.

    The first stores its content as it is, so its size is known before.  The file
    may exceed its size by what the threads hold, some MiB.
    """

    def __init__(self, fd: int, bounds: Bounds, headers_size: int) -> None:
        self._fd = fd
        self._bounds = bounds
        self._start = os.lseek(fd, len(stored_frame(bytes(headers_size))), os.SEEK_SET)
        self._file = io.FileIO(fd, "wb", closefd=False)
        # One thread would only take turns with us.
        threads = max(2, min(len(os.sched_getaffinity(0)), MAX_THREADS))
        parameters = zstandard.ZstdCompressionParameters.from_level(
            LEVEL, threads=threads, job_size=JOB, write_checksum=True
        )
        compressor = zstandard.ZstdCompressor(compression_params=parameters)
        self._out = compressor.stream_writer(self._file, closefd=False)

    def write(self, data: "bytes | memoryview") -> None:
        """See `Output`."""
        self._bounds.check_size(self._start + self._out.tell())
        self._out.write(data)

    def skip(self, size: int) -> None:
        """See `Output`."""
        while size > 0:
            self.write(_ZEROS[:size])
            size -= len(_ZEROS)

    def finish(self, headers: bytes) -> None:
        """See `Output`."""
        self._out.flush(zstandard.FLUSH_FRAME)
        _pwrite_all(self._fd, stored_frame(headers), 0)


class PlainFile:
    """The core as it is; memory that the process never touched is a hole of the file."""

    def __init__(self, fd: int, bounds: Bounds, headers_size: int) -> None:
        self._fd = fd
        self._bounds = bounds
        self._end = headers_size

    def write(self, data: "bytes | memoryview") -> None:
        """See `Output`."""
        self._bounds.check_size(self._end + len(data))
        _pwrite_all(self._fd, data, self._end)
        self._end += len(data)

    def skip(self, size: int) -> None:
        """See `Output`."""
        self._bounds.check_size(self._end + size)
        self._end += size

    def finish(self, headers: bytes) -> None:
        """See `Output`."""
        os.ftruncate(self._fd, self._end)  # it may end in a hole
        _pwrite_all(self._fd, headers, 0)


def _pwrite_all(fd: int, data: "bytes | memoryview", offset: int) -> None:
    view = memoryview(data)
    while view:
        size = os.pwrite(fd, view, offset)
        view = view[size:]
        offset += size
