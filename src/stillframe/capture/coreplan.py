"""What a core will hold, in the order of the file: computed before anything is written.

Flows in: a stopped process and its snapshot.  Flows out: segments as `Planned`
values, at most `corewriter.MAX_SEGMENTS`, however large the process is.
"""

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from stillframe.capture.corewriter import (
    GAP,
    MAX_SEGMENTS,
    Load,
    loads_of,
    overlaps,
    uncovered,
)
from stillframe.capture.pages import Kind, Mapping, PageTables
from stillframe.corefile import CoreFile
from stillframe.corefile.elf import PF_R, PF_W, PF_X

_GAPS: Final = (GAP, 64 * GAP, 4096 * GAP)
"""Tried one after the other until the segments are few enough."""
TOO_LATE: Final = "the time to hold the process was over"


class Stop(Exception):  # noqa: N818 -- an end, not an error
    """The core ends here, for the reason in the message."""


@dataclass(frozen=True, slots=True)
class Planned:
    """One segment, and where its content comes from."""

    load: Load
    kind: Kind | None
    """None: from the snapshot."""


@dataclass(frozen=True, slots=True)
class Piece:
    """A part of the content of a segment."""

    segment: Planned
    start: int
    end: int
    """Addresses."""


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
    """Of the file."""
    clock: Callable[[], float] = time.monotonic

    def late(self) -> bool:
        """Whether the time is over."""
        return self.clock() > self.deadline

    def check_time(self) -> None:
        """Raises `Stop` when it is time."""
        if self.late():
            raise Stop(TOO_LATE)

    def check_size(self, file_bytes: int) -> None:
        """Raises `Stop` when a file of that size is more than may be."""
        if file_bytes > self.max_bytes:
            raise Stop("the core reached the size that is allowed")


def plan(source: Source, snapshot: CoreFile, bounds: Bounds) -> tuple[list[Planned], str]:
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


def blocks(planned: Iterable[Planned], size: int) -> Iterator[list[Piece]]:
    """The content of all segments, in blocks of ``size`` bytes; the last may be smaller.

    >>> loads = [Planned(Load(0, 3, 3, 4), None), Planned(Load(8, 1, 1, 4), None)]
    >>> [[(piece.start, piece.end) for piece in block] for block in blocks(loads, 2)]
    [[(0, 2)], [(2, 3), (8, 9)]]
    """
    block: list[Piece] = []
    room = size
    for segment in planned:
        at, end = segment.load.vaddr, segment.load.vaddr + segment.load.filesz
        while at < end:
            stop = min(end, at + room)
            block.append(Piece(segment, at, stop))
            room -= stop - at
            at = stop
            if room == 0:
                yield block
                block, room = [], size
    if block:
        yield block


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
