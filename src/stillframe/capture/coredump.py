"""The memory of a stopped process, streamed into a compressed core.

Flows in: a snapshot (its notes, and pages that only it has), the process's
``mem``, ``smaps`` and ``pagemap``, and a file.  Flows out: a valid core in that
file, whole or cut at the deadline, and a `Dumped` that says which.  Runs in the
disposable reader of `tracer`.  Memory use does not depend on the process's size:
one buffer, and at most `corewriter.MAX_SEGMENTS` segments.
"""

import errno
import io
import os
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import zstandard

from stillframe.capture.corejob import Dumped
from stillframe.capture.corewriter import (
    GAP,
    MAX_SEGMENTS,
    Load,
    cut,
    encode_headers,
    headers_size,
    loads_of,
    overlaps,
    uncovered,
)
from stillframe.capture.pages import PAGE, Kind, Mapping, PageTables
from stillframe.capture.zstdframe import stored_frame
from stillframe.corefile import CoreFile
from stillframe.corefile.elf import PF_R, PF_W, PF_X

CHUNK: Final = 1 << 20
"""Bytes read at once: more is not faster (measured: 3.4 GiB/s from 256 KiB on)."""
LEVEL: Final = 1
"""Of zstd: its fastest regular one; the process waits meanwhile.

In this thread: with a worker of zstd's own 256 MiB took 552 ms instead of 444 (bench/core), and
twice the memory."""
_GAPS: Final = (GAP, 64 * GAP, 4096 * GAP)
"""Tried one after the other until the segments are few enough."""
TOO_LATE: Final = "the time to hold the process was over"
_ZEROS: Final = memoryview(bytes(CHUNK))


class Stop(Exception):  # noqa: N818 -- an end, not an error
    """The core ends here, for the reason in the message."""


@dataclass(frozen=True, slots=True)
class Planned:
    """One segment, and where its content comes from."""

    load: Load
    kind: Kind | None
    """None: from the snapshot."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """A stopped process."""

    mem_fd: int
    tables: PageTables
    mappings: Callable[[], Iterable[Mapping]]
    """In order of address; read as often as needed."""
    filter: int
    """``coredump_filter``."""
    shared_memory: int
    """Device of shared anonymous memory."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Bounds:
    """Where a core ends at the latest."""

    deadline: float
    """Seconds on the monotonic clock."""
    max_bytes: int
    """Of the file, compressed."""
    clock: Callable[[], float] = time.monotonic

    def late(self) -> bool:
        """Whether the time is over."""
        return self.clock() > self.deadline

    def check(self, written: int) -> None:
        """Raises `Stop` when it is time, or ``written`` bytes are all that may be."""
        if self.late():
            raise Stop(TOO_LATE)
        if written > self.max_bytes:
            raise Stop("the core reached the size that is allowed")


def dump(
    source: Source,
    snapshot: CoreFile,
    notes: Callable[[bool], bytes],
    fd: int,
    bounds: Bounds,
) -> Dumped:
    """Write the core of ``source`` to ``fd``, an empty file.

    ``notes`` gives all notes of the core; its argument says whether the core is
    truncated, and must not change the size.  Raises `Stop` when there was no time
    for any memory, `OSError` when our disk fails.
    """
    planned, cause = _plan(source, snapshot, bounds)
    loads = [segment.load for segment in planned]
    size = headers_size(len(notes(False)), len(loads))
    os.lseek(fd, len(stored_frame(bytes(size))), os.SEEK_SET)
    compressor = zstandard.ZstdCompressor(level=LEVEL, write_checksum=True)
    with io.FileIO(fd, "wb", closefd=False) as file:
        memory = _Memory(compressor.stream_writer(file, closefd=False), source, snapshot, bounds)
        try:
            for segment in planned:
                memory.copy(segment)
        except Stop as stop:
            cause = str(stop)
        memory.finish()
    if cause and memory.written == 0:
        raise Stop(cause)
    headers = encode_headers(snapshot.machine, notes(bool(cause)), cut(loads, memory.written))
    _pwrite_all(fd, stored_frame(headers))
    return Dumped(bytes=size + memory.written, truncated=cause, unreadable=memory.unreadable)


class _Memory:
    """The stream of memory after the headers."""

    def __init__(
        self,
        out: "zstandard.ZstdCompressionWriter",
        source: Source,
        snapshot: CoreFile,
        bounds: Bounds,
    ) -> None:
        self._out = out
        self.written = 0
        """Bytes, uncompressed."""
        self.unreadable = 0
        self._source = source
        self._snapshot = snapshot
        self._bounds = bounds
        self._buffer = memoryview(bytearray(CHUNK))
        note = snapshot.note
        self._secrets = (
            tuple((secret.address, secret.address + secret.size) for secret in note.secrets)
            if note
            else ()
        )

    def copy(self, segment: Planned) -> None:
        """Write the content of one segment, ``filesz`` bytes."""
        at, end = segment.load.vaddr, segment.load.vaddr + segment.load.filesz
        if segment.kind is None:
            self._write(self._snapshot.read(at, end - at))
            return
        for first, last in self._source.tables.saved(at, end, segment.kind):
            self._zeros(first - at)
            self._read(first, last)
            at = last
        self._zeros(end - at)

    def finish(self) -> None:
        """End the stream: what was written can be decompressed."""
        self._out.flush(zstandard.FLUSH_FRAME)

    def _read(self, address: int, end: int) -> None:
        while address < end:
            chunk = self._buffer[: min(CHUNK, end - address)]
            size = self._fill(chunk, address)
            self._write(self._without_secrets(chunk[:size], address))
            address += size

    def _fill(self, chunk: memoryview, address: int) -> int:
        """Read what can be read, at least a page: zeros where the kernel refuses."""
        try:
            size = os.preadv(self._source.mem_fd, [chunk], address)
        except OSError as error:
            if error.errno not in (errno.EIO, errno.EFAULT):
                raise
            self.unreadable += 1
            chunk[:PAGE] = _ZEROS[:PAGE]
            return PAGE
        if size == 0:
            raise Stop("the process was gone")
        return size

    def _without_secrets(self, chunk: memoryview, address: int) -> memoryview:
        for start, end in self._secrets:
            first = max(start - address, 0)
            last = min(end - address, len(chunk))
            if first < last:
                chunk[first:last] = _ZEROS[: last - first]
        return chunk

    def _zeros(self, size: int) -> None:
        while size > 0:
            self._write(_ZEROS[:size])
            size -= CHUNK

    def _write(self, data: "bytes | memoryview") -> None:
        self._bounds.check(self._out.tell())
        self._out.write(data)
        self.written += len(data)


def _plan(source: Source, snapshot: CoreFile, bounds: Bounds) -> tuple[list[Planned], str]:
    """All segments in the order of the file, and why some are missing.

    What the snapshot has of the process comes first, the stacks above all: a
    core that is cut must still have them.
    """
    live, cause = _plan_live(source, bounds)
    extra = list(_of_snapshot(snapshot, [planned.load for planned in live]))
    ranges = [(s.vaddr, s.vaddr + s.filesz) for s in snapshot.segments]
    first: list[Planned] = []
    last: list[Planned] = []
    for planned in (*extra[: MAX_SEGMENTS // 2], *live):
        (first if overlaps(planned.load, ranges) else last).append(planned)
    return first + last, cause


def _plan_live(source: Source, bounds: Bounds) -> tuple[list[Planned], str]:
    """The segments of the process's own memory, in order of address; as few as are allowed."""
    live: list[Planned] = []
    for gap in _GAPS:
        live.clear()
        for planned in _live(source, gap):
            if bounds.late():
                return live, TOO_LATE
            if len(live) == MAX_SEGMENTS // 2:
                break
            live.append(planned)
        else:
            return live, ""
    return live, "the process has too many separate pages"


def _live(source: Source, gap: int) -> Iterator[Planned]:
    for mapping in source.mappings():
        kind = mapping.kind(source.filter, source.shared_memory)
        if kind is not None:
            saved = source.tables.saved(mapping.start, mapping.end, kind)
            flags = _flags(mapping.permissions)
            for load in loads_of(
                mapping.start, mapping.end, saved, kind=kind, flags=flags, gap=gap
            ):
                yield Planned(load, kind)


def _of_snapshot(snapshot: CoreFile, live: Sequence[Load]) -> Iterator[Planned]:
    """What only the snapshot has: the vDSO, and the first pages of mapped files."""
    at = 0
    for segment in snapshot.segments:
        end = segment.vaddr + segment.filesz
        for start, stop in uncovered(max(segment.vaddr, at), end, live):
            size = len(snapshot.read(start, stop - start))
            if size:
                yield Planned(Load(start, size, size, segment.flags), None)
        at = max(at, end)


def _flags(permissions: str) -> int:
    letters = zip(permissions, (PF_R, PF_W, PF_X), strict=False)
    return sum(flag for letter, flag in letters if letter != "-")


def _pwrite_all(fd: int, data: bytes) -> None:
    at = 0
    while at < len(data):
        at += os.pwrite(fd, data[at:], at)
