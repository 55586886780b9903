"""The core reader: notes, memory, maps, and what it says of broken input.

Cores are built by `tests.support.corewriter`, which shares no code with it.
"""

import struct

import pytest

from stillframe.corefile import CoreFile
from stillframe.corefile.elf import PN_XNUM, iter_notes
from stillframe.errors import InvalidInputError
from tests.support.corewriter import (
    Core,
    R,
    W,
    X,
    at,
    elf,
    image,
    note,
    nt_file,
    prstatus,
    sent_by,
)


def small() -> Core:
    return (
        Core()
        .thread(7, 11, rip=0x1004, rsp=0x7000, rax=3)
        .process(7, b"app")
        .signal(11, 1, at(0x10))
        .add(6, struct.pack("<6Q", 33, 0x9000, 6, 4096, 0, 0))
        .files((0x1000, 0x3000, 0, b"/bin/app"), (0x4000, 0x5000, 0x2000, b"/bin/app"))
        .thread(8, rip=0x1100, rsp=0x8000)
        .map(0x1000, b"abcdefgh", R | X, 0x2000)
        .map(0x7000, bytes(range(16)), R | W)
        .map(0x7010, bytes(range(16, 32)), R | W)
    )


@pytest.fixture
def core() -> CoreFile:
    return CoreFile.from_bytes(small().build())


def test_threads_come_in_order_with_registers(core: CoreFile) -> None:
    assert [(t.tid, t.pc, t.sp) for t in core.threads] == [
        (7, 0x1004, 0x7000),
        (8, 0x1100, 0x8000),
    ]
    assert core.threads[0].registers["rax"] == 3
    assert core.threads[0].signal == 11


def test_signature_mask_is_that_of_return_addresses() -> None:
    masks = struct.pack("<QQ", 0, 0x7F << 48)
    signing = small().add(0x406, masks, b"LINUX").build()
    broken = CoreFile.from_bytes(small().add(0x406, masks[:8], b"LINUX").build())

    assert CoreFile.from_bytes(small().build()).signature_mask == 0
    assert CoreFile.from_bytes(signing).signature_mask == 0x7F << 48
    assert (broken.signature_mask, broken.problems) == (0, ["NT_ARM_PAC_MASK of 8 bytes"])


def test_only_the_thread_of_the_process_note_has_a_name(core: CoreFile) -> None:
    assert [t.name for t in core.threads] == ["app", None]


def test_siginfo_has_code_and_address(core: CoreFile) -> None:
    assert core.signal is not None
    assert (core.signal.signal, core.signal.code, core.signal.address) == (11, 1, 0x10)


def test_siginfo_of_a_sent_signal_has_its_sender() -> None:
    core = CoreFile.from_bytes(Core().thread(1).signal(15, 0, sent_by(42, 1000)).build())
    assert core.signal is not None
    assert (core.signal.sender_pid, core.signal.sender_uid) == (42, 1000)


def test_auxv_ends_at_null(core: CoreFile) -> None:
    assert core.auxv == {33: 0x9000, 6: 4096}


def test_files_have_offsets_in_bytes(core: CoreFile) -> None:
    assert [(f.start, f.offset, f.path) for f in core.files] == [
        (0x1000, 0, "/bin/app"),
        (0x4000, 0x2000, "/bin/app"),
    ]


@pytest.mark.parametrize(
    ("address", "path"), [(0xFFF, None), (0x1000, "/bin/app"), (0x3000, None), (0x4FFF, "/bin/app")]
)
def test_file_at_respects_both_ends(core: CoreFile, address: int, path: str | None) -> None:
    found = core.file_at(address)
    assert (found.path if found else None) == path


def test_read_crosses_adjacent_segments(core: CoreFile) -> None:
    assert core.read(0x7008, 16) == bytes(range(8, 24))


def test_read_stops_where_the_core_holds_nothing(core: CoreFile) -> None:
    assert core.read(0x1004, 100) == b"efgh"
    assert core.read(0x7018, 100) == bytes(range(24, 32))
    assert core.read(0x6FFF, 4) == b""


def test_an_unsaved_mapping_is_still_a_mapping(core: CoreFile) -> None:
    segment = core.segment_at(0x2FFF)
    assert segment is not None
    assert segment.flags == R | X
    assert core.segment_at(0x3000) is None


def test_a_whole_core_has_no_problems(core: CoreFile) -> None:
    assert core.problems == []
    assert not core.truncated


def test_a_truncated_core_says_so_and_keeps_its_notes() -> None:
    data = small().build()
    core = CoreFile.from_bytes(data[:-8])
    assert core.truncated
    assert core.problems == [f"the core is truncated: {len(data) - 8} of {len(data)} bytes"]
    assert len(core.threads) == 2
    assert core.read(0x7010, 16) == bytes(range(16, 24))


def test_what_a_truncated_segment_lacks_is_not_filled_from_the_next() -> None:
    data = Core().thread(1).map(0x7010, b"n" * 16, R).map(0x7000, b"t" * 16, R).build()
    assert CoreFile.from_bytes(data[:-4]).read(0x7000, 32) == b"t" * 12


def test_a_note_that_is_cut_short_is_left_out() -> None:
    whole = note(b"CORE", 1, prstatus(1))
    assert [record.type for record in iter_notes(whole + whole[:-4])] == [1]


def test_one_bad_note_costs_only_itself() -> None:
    broken = Core().thread(1).add(0x46494C45, struct.pack("<QQ", 1 << 60, 1)).process(1)
    core = CoreFile.from_bytes(broken.build())
    assert core.process is not None
    assert core.problems == [f"NT_FILE of 16 bytes claims {1 << 60} files"]


def test_names_that_are_missing_from_nt_file_are_a_problem() -> None:
    desc = nt_file([(0, 1, 0, b"/a"), (1, 2, 0, b"/b")])[:-3]
    core = CoreFile.from_bytes(Core().thread(1).add(0x46494C45, desc).build())
    assert core.problems == ["NT_FILE has 1 names for 2 files"]


def test_notes_of_other_owners_are_ignored() -> None:
    core = CoreFile.from_bytes(Core().thread(1).add(1, b"x", name=b"LINUX").build())
    assert len(core.threads) == 1
    assert core.problems == []


def test_bytes_that_are_not_utf8_survive_as_escapes() -> None:
    core = CoreFile.from_bytes(Core().thread(1).process(1, b"a\xff\0zz").build())
    assert core.process is not None
    assert core.process.comm == "a\\xff"


def test_a_core_without_threads_is_read_and_says_so() -> None:
    core = CoreFile.from_bytes(Core().build())
    assert core.threads == ()
    assert core.problems == ["the core has no thread"]


def many_headers(count: int) -> bytes:
    data = bytearray(small().build())
    struct.pack_into("<H", data, 56, PN_XNUM)
    struct.pack_into("<Q", data, 40, len(data))
    return bytes(data) + struct.pack("<44xI16x", count)


def test_more_than_65534_program_headers_are_counted_in_section_0() -> None:
    assert len(CoreFile.from_bytes(many_headers(4)).segments) == 3


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "NotElf"),
        (b"\x7fELF", "NotElf"),
        (b"#!/bin/sh\n" * 20, "NotElf"),
        (elf(4, []).replace(b"\x02\x01\x01", b"\x01\x01\x01", 1), "UnsupportedElf"),
        (elf(4, [], machine=243), "UnsupportedElf"),
        (image(), "NotCore"),
        (small().build()[:100], "TruncatedHeaders"),
        (many_headers((1 << 18) + 1), "TooManySegments"),
    ],
)
def test_what_is_no_core_is_refused_with_a_reason(data: bytes, reason: str) -> None:
    with pytest.raises(InvalidInputError) as caught:
        CoreFile.from_bytes(data)
    assert caught.value.reason == reason
