"""The core writer: what goes in comes out, as pyelftools and our own reader see it.

The process is made of files: one for its memory, one for its page tables.
"""

import ctypes
import io
import mmap
import os
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
import zstandard
from elftools.elf.elffile import ELFFile
from hypothesis import given, settings
from hypothesis import strategies as st

from stillframe.capture.coredump import CHUNK, dump
from stillframe.capture.corejob import Compression, Dumped
from stillframe.capture.coreoutput import open_output
from stillframe.capture.coreplan import Bounds, Source, Stop
from stillframe.capture.corewriter import GAP, Load, cut, encode_note, loads_of, uncovered
from stillframe.capture.pages import DEFAULT_FILTER, PAGE, Kind, Mapping, PageTables
from stillframe.capture.zstdframe import BLOCK, stored_frame
from stillframe.corefile import CoreFile
from stillframe.corefile.elf import NoteRecord, iter_notes
from tests.support import corewriter

BASE = 1 << 20
PAGES = 96
"""Pages of the fake process, more than two gaps."""
unhurried = settings(deadline=None)  # the machine may be busy
HERE = st.frozensets(st.integers(0, PAGES - 1))
FOREVER = Bounds(deadline=float("inf"), max_bytes=1 << 40)
NOTES = corewriter.note(b"CORE", 1, corewriter.prstatus(7, 11))


def page(number: int) -> bytes:
    return struct.pack("<Q", number + 1) * (PAGE // 8)


@contextmanager
def process(
    present: frozenset[int], kind: Kind = Kind.ZEROS, pages: int = PAGES
) -> Iterator[Source]:
    """One mapping with some of its pages present; the memory of others is forbidden."""
    mem, pagemap = os.memfd_create("mem"), os.memfd_create("pagemap")
    try:
        for number in range(pages):
            os.pwrite(mem, page(number) if number in present else b"!" * PAGE, BASE + number * PAGE)
            entry = (1 << 63) if number in present else (1 << 63 | 1 << 61)
            os.pwrite(pagemap, struct.pack("<Q", entry), (BASE // PAGE + number) * 8)
        device = 0 if kind is Kind.ZEROS else 42
        mapping = Mapping(BASE, BASE + pages * PAGE, "rw-p", device, "")
        yield Source(
            mem_fd=mem,
            tables=PageTables(pagemap),  # a file refuses the ioctl, so it is walked
            mappings=lambda: [mapping],
            filter=DEFAULT_FILTER,
            shared_memory=1,
        )
    finally:
        os.close(mem)
        os.close(pagemap)


def snapshot(*memory: tuple[int, int, bytes, int], notes: bytes = NOTES) -> CoreFile:
    return CoreFile.from_bytes(corewriter.Core(notes, list(memory)).build())


def written(source: Source, of: CoreFile, bounds: Bounds = FOREVER) -> tuple[bytes, str]:
    core, done = dumped(source, of, bounds)
    return core, done.truncated


def dumped(
    source: Source,
    of: CoreFile,
    bounds: Bounds = FOREVER,
    compression: Compression = Compression.ZSTD,
    readers: int | None = None,
) -> tuple[bytes, Dumped]:
    fd = os.memfd_create("core")
    try:
        open_ = partial(open_output, compression, fd, bounds)
        done = dump(source, of, lambda truncated: NOTES, open_, bounds, readers=readers)
        os.lseek(fd, 0, os.SEEK_SET)
        with open(fd, "rb", closefd=False) as file:
            core = file.read()
        if compression is Compression.ZSTD:
            decompressor = zstandard.ZstdDecompressor()
            core = decompressor.stream_reader(core, read_across_frames=True).read()
        assert len(core) == done.bytes
        return core, done
    finally:
        os.close(fd)


def expected(present: frozenset[int]) -> bytes:
    return b"".join(page(n) if n in present else bytes(PAGE) for n in range(PAGES))


def memory_of(elf: ELFFile) -> dict[int, bytes]:
    """Page by page, what the segments have and what they leave as zeros."""
    found = {}
    for segment in elf.iter_segments("PT_LOAD"):
        data = segment.data().ljust(segment["p_memsz"], b"\0")
        for at in range(0, len(data), PAGE):
            assert segment["p_vaddr"] + at not in found
            found[segment["p_vaddr"] + at] = data[at : at + PAGE]
    return found


@unhurried
@given(HERE)
def test_pyelftools_reads_back_what_was_present_and_zeros(present: frozenset[int]) -> None:
    with process(present) as source:
        core, cause = written(source, snapshot())
    elf = ELFFile(io.BytesIO(core))
    assert cause == ""
    assert elf["e_type"] == "ET_CORE"
    assert elf["e_ident"]["EI_OSABI"] == "ELFOSABI_LINUX"
    assert b"".join(memory_of(elf).values()) == expected(present)
    vaddrs = [segment["p_vaddr"] for segment in elf.iter_segments("PT_LOAD")]
    assert vaddrs == sorted(vaddrs)
    (notes,) = elf.iter_segments("PT_NOTE")
    assert notes.data() == NOTES


@unhurried
@given(HERE)
def test_of_a_files_mapping_only_copied_pages_are_in_the_core(present: frozenset[int]) -> None:
    with process(present, Kind.FILE) as source:
        core, _ = written(source, snapshot())
    memory = memory_of(ELFFile(io.BytesIO(core)))
    assert memory == {BASE + n * PAGE: page(n) for n in present}


@unhurried
@given(HERE, st.integers(0, PAGES + 8))
def test_the_snapshot_fills_in_what_the_process_does_not_give(
    present: frozenset[int], first: int
) -> None:
    saved = b"s" * (8 * PAGE)
    at = BASE + first * PAGE
    with process(present) as source:
        core, _ = written(source, snapshot((at, 4, saved, len(saved))))
    read = CoreFile.from_bytes(core)
    beyond = range(max(at, BASE + PAGES * PAGE), at + len(saved), PAGE)
    assert all(read.read(address, PAGE) == b"s" * PAGE for address in beyond)
    for number in present:
        assert read.read(BASE + number * PAGE, PAGE) == page(number)


@unhurried
@given(HERE, st.integers(0, 2 * PAGES))
def test_a_core_that_is_cut_has_its_beginning_and_the_stack(
    present: frozenset[int], ticks: int
) -> None:
    """The clock ticks at each look: late while the memory is planned or written."""
    now = iter(range(1 << 20))
    bounds = Bounds(deadline=ticks, max_bytes=1 << 40, clock=lambda: next(now))
    with process(present) as source:
        stack = (BASE - PAGE, 6, b"k" * PAGE, PAGE)
        try:
            core, cause = written(source, snapshot(stack), bounds)
        except Stop:
            return
    read = CoreFile.from_bytes(core)
    assert not read.truncated
    assert read.problems == []
    assert read.threads[0].signal == 11
    assert read.read(BASE - PAGE, PAGE) == b"k" * PAGE
    for number in present:
        assert read.read(BASE + number * PAGE, PAGE) in (page(number), b"")[: 2 if cause else 1]


@unhurried
@given(HERE)
def test_a_core_that_is_not_compressed_is_the_same(present: frozenset[int]) -> None:
    with process(present) as source:
        compressed, _ = dumped(source, snapshot())
        plain, _ = dumped(source, snapshot(), compression=Compression.NONE)
    assert plain == compressed


MANY = 5 * CHUNK // PAGE


@pytest.mark.parametrize("readers", [1, 2, 3])
@pytest.mark.parametrize("compression", Compression)
def test_many_blocks_come_in_order(compression: Compression, readers: int) -> None:
    present = frozenset(number for number in range(MANY) if number % 37)
    with process(present, pages=MANY) as source:
        core, done = dumped(source, snapshot(), compression=compression, readers=readers)
    assert done.truncated == ""
    read = CoreFile.from_bytes(core)
    for number in range(MANY):
        assert read.read(BASE + number * PAGE, PAGE) == (
            page(number) if number in present else bytes(PAGE)
        )


@pytest.mark.parametrize("readers", [1, 3])
@pytest.mark.parametrize("compression", Compression)
def test_a_core_never_has_more_bytes_than_it_may(compression: Compression, readers: int) -> None:
    bounds = Bounds(deadline=float("inf"), max_bytes=5 * CHUNK // 2)
    noise = os.urandom(MANY * PAGE)
    with process(frozenset(range(MANY)), pages=MANY) as source:
        os.pwrite(source.mem_fd, noise, BASE)
        core, done = dumped(source, snapshot(), bounds, compression, readers)
    assert "size that is allowed" in done.truncated
    assert CHUNK <= len(core) - PAGE <= bounds.max_bytes
    assert CoreFile.from_bytes(core).read(BASE, len(noise)) == noise[: len(core) - PAGE]


@pytest.mark.parametrize("readers", [1, 3])
def test_a_process_that_dies_while_its_pages_are_looked_up_leaves_what_was_read(
    readers: int,
) -> None:
    with process(frozenset(range(MANY)), pages=MANY) as source:
        dying = replace(source, tables=Dying(source.tables))
        core, done = dumped(dying, snapshot(), readers=readers)
    assert done.truncated == "the process was gone"
    found = CoreFile.from_bytes(core).read(BASE, MANY * PAGE)
    assert found
    assert found == b"".join(map(page, range(MANY // 2)))


class Dying(PageTables):
    """Page tables of a process that dies when half of it was looked up for the copy."""

    def __init__(self, tables: PageTables) -> None:
        self._tables = tables
        self._planned = False

    def saved(self, start: int, end: int, kind: Kind) -> Iterator[tuple[int, int]]:
        middle = BASE + MANY // 2 * PAGE
        if self._planned and end > middle:
            yield from self._tables.saved(start, max(start, middle), kind)
            raise ProcessLookupError
        self._planned = True
        yield from self._tables.saved(start, end, kind)


@pytest.mark.parametrize("block", [0, 1])
def test_an_error_while_pages_are_looked_up_is_no_core(block: int) -> None:
    """By the first of two readers or by the second."""
    with process(frozenset(range(MANY)), pages=MANY) as source:
        broken = replace(source, tables=Broken(source.tables, BASE + block * CHUNK))
        with pytest.raises(OSError, match="descriptor"):
            dumped(broken, snapshot(), readers=2)


class Broken(PageTables):
    """Page tables that cannot be read from an address on, other than all at once."""

    def __init__(self, tables: PageTables, at: int) -> None:
        self._tables = tables
        self._at = at

    def saved(self, start: int, end: int, kind: Kind) -> Iterator[tuple[int, int]]:
        broken = start == self._at and end - start <= CHUNK
        return (PageTables(1 << 20) if broken else self._tables).saved(start, end, kind)


def test_pages_that_the_kernel_refuses_are_zeros_and_counted() -> None:
    memory = mmap.mmap(-1, 3 * PAGE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    memory[:] = b"m" * len(memory)
    start = ctypes.addressof(ctypes.c_char.from_buffer(memory))
    assert ctypes.CDLL(None).munmap(ctypes.c_void_p(start + PAGE), ctypes.c_size_t(PAGE)) == 0
    with process(frozenset()) as source:
        (mapping,) = source.mappings()
        pagemap = os.memfd_create("pagemap")
        os.pwrite(pagemap, struct.pack("<3Q", *[1 << 63] * 3), start // PAGE * 8)
        mem = os.open("/proc/self/mem", os.O_RDONLY)
        holed = replace(
            source,
            mem_fd=mem,
            tables=PageTables(pagemap),
            mappings=lambda: [replace(mapping, start=start, end=start + 3 * PAGE)],
        )
        core, done = dumped(holed, snapshot())
        os.close(mem)
        os.close(pagemap)
    assert (done.unreadable, done.truncated) == (1, "")
    expected_ = b"m" * PAGE + bytes(PAGE) + b"m" * PAGE
    assert CoreFile.from_bytes(core).read(start, 3 * PAGE) == expected_


def test_a_process_that_dies_meanwhile_leaves_what_was_read() -> None:
    with process(frozenset(range(PAGES))) as source:
        os.truncate(source.mem_fd, BASE + 2 * PAGE)  # reads end there, as those of a dead process
        core, cause = written(source, snapshot())
    assert cause == "the process was gone"
    assert CoreFile.from_bytes(core).read(BASE, 3 * PAGE) == page(0) + page(1)


def test_there_is_no_core_without_any_memory() -> None:
    with process(frozenset({1})) as source, pytest.raises(Stop):
        written(source, snapshot(), Bounds(deadline=0, max_bytes=1, clock=lambda: 1))


def test_secrets_are_zeros_to_the_byte() -> None:
    start, size = BASE + 3, PAGE + 5
    note = struct.pack("<II", 160, 1) + bytes(148) + struct.pack("<I", 1)
    note += struct.pack("<QQ", start, size)
    notes = NOTES + corewriter.note(b"STILLFRAME", 1, note)
    everything = frozenset(range(PAGES))
    with process(everything) as source:
        core, _ = written(source, snapshot(notes=notes))
    content = CoreFile.from_bytes(core).read(BASE, 3 * PAGE)
    plain = expected(everything)[: 3 * PAGE]
    assert content == plain[:3] + bytes(size) + plain[3 + size :]


@unhurried
@given(HERE)
def test_segments_cover_an_anonymous_mapping_without_overlap(present: frozenset[int]) -> None:
    ranges = [(n * PAGE, (n + 1) * PAGE) for n in sorted(present)]
    loads = list(loads_of(0, PAGES * PAGE, ranges, kind=Kind.ZEROS, flags=6))
    assert loads[0].vaddr == 0
    assert [load.end for load in loads] == [*(load.vaddr for load in loads[1:]), PAGES * PAGE]
    assert sum(load.filesz for load in loads) <= len(present) * (PAGE + GAP)
    for first, last in ranges:
        assert any(load.vaddr <= first and last <= load.vaddr + load.filesz for load in loads)


LOADS = st.lists(st.integers(0, 9), max_size=6).map(
    lambda sizes: [Load(20 * index, size, 10, 4) for index, size in enumerate(sizes)]
)


@unhurried
@given(LOADS, st.integers(0, 60))
def test_a_cut_keeps_exactly_what_was_written(loads: list[Load], size: int) -> None:
    kept = cut(loads, size)
    assert sum(load.filesz for load in kept) == min(size, sum(load.filesz for load in loads))
    assert [load.end for load in kept] == [load.end for load in loads]


@unhurried
@given(LOADS, st.integers(0, 120), st.integers(0, 40))
def test_uncovered_parts_and_segments_make_up_the_range(
    loads: list[Load], start: int, size: int
) -> None:
    parts = list(uncovered(start, start + size, loads))
    free = {at for first, last in parts for at in range(first, last)}
    taken = {at for load in loads for at in range(load.vaddr, load.end)}
    assert free == set(range(start, start + size)) - taken
    assert all(first < last for first, last in parts)


@unhurried
@given(st.binary(max_size=20), st.integers(0, 2**32 - 1), st.binary(max_size=40))
def test_a_note_reads_back(name: bytes, kind: int, desc: bytes) -> None:
    record = NoteRecord(name.rstrip(b"\0"), kind, desc)
    assert list(iter_notes(encode_note(record))) == [record]


@pytest.mark.parametrize("size", [0, 1, BLOCK - 1, BLOCK, BLOCK + 1, 3 * BLOCK])
def test_a_stored_frame_is_zstd_of_a_size_that_its_content_does_not_change(size: int) -> None:
    content = os.urandom(size)
    frame = stored_frame(content)
    assert zstandard.ZstdDecompressor().stream_reader(frame).read() == content
    assert len(frame) == len(stored_frame(bytes(size)))


def test_many_notes_make_headers_of_whole_pages(tmp_path: Path) -> None:
    with process(frozenset({0})) as source:
        core, _ = written(source, snapshot())
    (load, *_rest) = ELFFile(io.BytesIO(core)).iter_segments("PT_LOAD")
    assert load["p_offset"] % PAGE == 0
