"""Write an ELF core: header, notes and the table of segments.  Computes only, no I/O.

Flows in: notes and segments as values.  Flows out: the bytes before the
memory, which follows without gaps.  The layout is that of Linux ``fs/binfmt_elf.c:elf_core_dump``.
"""

import struct
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate
from typing import Final

from stillframe.capture.pages import PAGE, Kind
from stillframe.corefile.elf import ET_CORE, PT_LOAD, PT_NOTE, NoteRecord

MAX_SEGMENTS: Final = 32768
"""Half of what ``e_phnum`` can say without a section header; gdb reads them all at start."""
GAP: Final = 16 * PAGE
"""Bytes of zeros that are cheaper to write than one more segment; arbitrary."""
_EHDR: Final = struct.Struct("<16sHHIQQQIHHHHHH")
_PHDR: Final = struct.Struct("<IIQQQQQQ")
_NHDR: Final = struct.Struct("<III")
_IDENT: Final = b"\x7fELF\x02\x01\x01\x03"
"""64 bits, little-endian, version 1, ELFOSABI_LINUX."""


@dataclass(frozen=True, slots=True)
class Load:
    """One ``PT_LOAD``; addresses and sizes in bytes."""

    vaddr: int
    filesz: int
    memsz: int
    flags: int
    """``PF_R | PF_W | PF_X``."""

    @property
    def end(self) -> int:
        """First address after it."""
        return self.vaddr + self.memsz


def encode_note(record: NoteRecord) -> bytes:
    r"""One note, padded to four bytes.

    >>> len(encode_note(NoteRecord(b"CORE", 1, b"\1")))
    24
    """
    name = record.name + b"\0"
    head = _NHDR.pack(len(name), len(record.desc), record.type)
    return head + _padded(name) + _padded(record.desc)


def headers_size(notes: int, loads: int) -> int:
    """Bytes before the memory: whole pages, for ``notes`` bytes and so many segments."""
    return -(-(_EHDR.size + (loads + 1) * _PHDR.size + notes) // PAGE) * PAGE


def encode_headers(machine: int, notes: bytes, loads: Sequence[Load]) -> bytes:
    """All bytes before the memory, which follows in the order of ``loads``.

    The table is in order of address all the same, as elf(5) demands.
    """
    table_end = _EHDR.size + (len(loads) + 1) * _PHDR.size
    size = headers_size(len(notes), len(loads))
    parts = [
        _EHDR.pack(
            _IDENT, ET_CORE, machine, 1, 0, _EHDR.size, 0, 0, _EHDR.size, _PHDR.size,
            len(loads) + 1, 0, 0, 0,
        ),
        _PHDR.pack(PT_NOTE, 0, table_end, 0, 0, len(notes), 0, 4),
    ]  # fmt: skip
    offsets = accumulate((load.filesz for load in loads), initial=size)
    parts += (
        _PHDR.pack(PT_LOAD, load.flags, offset, load.vaddr, 0, load.filesz, load.memsz, PAGE)
        for load, offset in sorted(zip(loads, offsets, strict=False), key=lambda x: x[0].vaddr)
    )
    parts.append(notes)
    return b"".join(parts).ljust(size, b"\0")


def loads_of(
    start: int,
    end: int,
    saved: Iterable[tuple[int, int]],
    *,
    kind: Kind,
    flags: int,
    gap: int = GAP,
) -> Iterator[Load]:
    """The segments of one mapping, whose ranges ``saved`` come in order of address.

    Where nothing is saved means zeros, the segments cover the mapping from end
    to end, and small gaps are filled; else they hold the saved ranges alone.

    >>> loads = loads_of(0, 9, [(2, 3), (7, 8)], kind=Kind.ZEROS, flags=6, gap=1)
    >>> [(load.vaddr, load.filesz, load.memsz) for load in loads]
    [(0, 0, 2), (2, 1, 5), (7, 1, 2)]
    """
    if kind is not Kind.ZEROS:
        for first, last in saved:
            yield Load(first, last - first, last - first, flags)
        return
    at, filled = start, start
    for first, last in saved:
        if first - filled > gap:
            yield Load(at, filled - at, first - at, flags)
            at = first
        filled = last
    yield Load(at, filled - at, end - at, flags)


def cut(loads: Sequence[Load], written: int) -> list[Load]:
    """The segments of a core whose memory ends after ``written`` bytes.

    >>> [load.filesz for load in cut([Load(0, 8, 8, 4), Load(8, 8, 8, 4)], 10)]
    [8, 2]
    """
    kept = []
    for load in loads:
        filesz = min(load.filesz, written)
        written -= filesz
        kept.append(load if filesz == load.filesz else replace(load, filesz=filesz))
    return kept


def uncovered(start: int, end: int, loads: Sequence[Load]) -> Iterator[tuple[int, int]]:
    """The parts of a range that no segment in ``loads`` (in order of address) covers.

    >>> list(uncovered(0, 10, [Load(2, 1, 2, 4), Load(6, 1, 1, 4)]))
    [(0, 2), (4, 6), (7, 10)]
    """
    index = bisect_right(loads, start, key=lambda load: load.end)
    while start < end:
        load = loads[index] if index < len(loads) else None
        if load is None or load.vaddr >= end:
            yield start, end
            return
        if load.vaddr > start:
            yield start, load.vaddr
        start = load.end
        index += 1


def overlaps(load: Load, ranges: Sequence[tuple[int, int]]) -> bool:
    """Whether a segment and any of the ``ranges`` (in order of address) have memory in common.

    >>> overlaps(Load(4, 2, 2, 4), [(0, 4), (5, 9)]), overlaps(Load(4, 1, 1, 4), [(0, 4), (5, 9)])
    (True, False)
    """
    index = bisect_right(ranges, load.vaddr, key=lambda part: part[1])
    return index < len(ranges) and ranges[index][0] < load.end


def _padded(data: bytes) -> bytes:
    return data + bytes(-len(data) % 4)
