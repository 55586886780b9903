"""The core reader: a round trip for whatever is in a core, and no crash on anything.

"No crash" is: a value or InvalidInputError, for noise, cut and flipped input.
"""

import struct

from hypothesis import example, given
from hypothesis import strategies as st

from stillframe.corefile import CoreFile
from stillframe.corefile.elf import build_id, iter_notes
from stillframe.corefile.vendor import decode_note
from stillframe.errors import InvalidInputError
from tests.support.corewriter import REGISTERS, Core, at, image, note

u64 = st.integers(0, 2**64 - 1)
s32 = st.integers(-(2**31), 2**31 - 1)
registers = st.fixed_dictionaries(dict.fromkeys(REGISTERS.split(), u64))
threads = st.lists(st.tuples(s32, st.integers(0, 64), registers), max_size=4)
paths = st.binary(min_size=1, max_size=40).filter(lambda path: b"\0" not in path)
memory = st.lists(
    st.tuples(st.integers(0, 200), st.binary(max_size=4096), st.integers(0, 7)),
    max_size=6,
    unique_by=lambda piece: piece[0],
)


@st.composite
def cores(draw: st.DrawFn) -> Core:
    core = Core()
    for tid, signal, values in draw(threads):
        core.thread(tid, signal, **values)
    core.process(draw(s32), draw(st.binary(max_size=15)))
    core.signal(draw(st.integers(1, 64)), draw(s32), at(draw(u64)))
    core.files(*draw(st.lists(st.tuples(u64, u64, st.just(0), paths), max_size=4)))
    for page, content, flags in draw(memory):
        core.map(page * 4096, content, flags, 4096)
    return core


def exercise(data: bytes) -> None:
    """Everything the reader offers, at addresses of its own choice."""
    try:
        core = CoreFile.from_bytes(data)
    except InvalidInputError:
        return
    assert len(core.problems) <= 16
    for segment in core.segments[:4]:
        assert len(core.read(segment.vaddr - 8, 64)) <= 64
        assert len(core.read(segment.end - 8, 64)) <= 64
    for file in core.files[:4]:
        assert core.file_at(file.start) is None or file.path is not None


@given(threads)
def test_threads_read_back(values: list[tuple[int, int, dict[str, int]]]) -> None:
    core = Core()
    for tid, signal, named in values:
        core.thread(tid, signal, **named)
    read = CoreFile.from_bytes(core.build()).threads
    assert [(t.tid, t.signal, t.registers) for t in read] == values


@given(memory)
def test_memory_reads_back(pieces: list[tuple[int, bytes, int]]) -> None:
    core = Core()
    for page, content, flags in pieces:
        core.map(page * 4096, content, flags, 4096)
    read = CoreFile.from_bytes(core.build())
    for page, content, flags in pieces:
        assert read.read(page * 4096, 4096)[: len(content)] == content
        segment = read.segment_at(page * 4096 + 4095)
        assert segment is not None
        assert segment.flags == flags


@given(st.lists(st.tuples(st.binary(max_size=12), u64, st.binary(max_size=50)), max_size=6))
def test_notes_read_back(notes: list[tuple[bytes, int, bytes]]) -> None:
    stored = [(name.rstrip(b"\0"), kind % 2**32, desc) for name, kind, desc in notes]
    data = b"".join(note(*record) for record in stored)
    assert [tuple(record) for record in iter_notes(data)] == stored


@given(st.binary(min_size=1, max_size=64))
def test_a_build_id_reads_back(value: bytes) -> None:
    assert build_id(image(value)) == value


@given(cores(), st.integers(0, 2000))
def test_cut_cores_never_crash_the_reader(core: Core, cut: int) -> None:
    data = core.build()
    exercise(data[: max(len(data) - cut, 0)])


@given(cores(), st.lists(st.tuples(st.integers(0, 8 * 6000), st.integers(0, 255)), max_size=20))
def test_flipped_bytes_never_crash_the_reader(core: Core, flips: list[tuple[int, int]]) -> None:
    data = bytearray(core.build())
    for where, value in flips:
        data[where % len(data)] = value
    exercise(bytes(data))


@given(st.binary(max_size=600))
@example(b"\x7fELF\x02\x01\x01" + b"\xff" * 57)
def test_noise_never_crashes_the_reader(noise: bytes) -> None:
    exercise(noise)
    exercise(b"\x7fELF\x02\x01\x01".ljust(16, b"\0") + noise)
    exercise(Core(notes=noise).build())


@given(st.binary(max_size=300))
def test_noise_never_crashes_the_vendor_note(noise: bytes) -> None:
    try:
        found = decode_note(noise)
    except ValueError:
        return
    assert len(found.annotations) <= 64
    assert len(found.secrets) <= 64


words = st.binary(min_size=1, max_size=300).filter(lambda word: b"\0" not in word)


@given(
    st.lists(st.tuples(u64, u64), max_size=64),
    st.dictionaries(words.map(lambda word: word[:63]), words.map(lambda word: word[:255])),
)
def test_what_an_application_said_reads_back(
    secrets: list[tuple[int, int]], said: dict[bytes, bytes]
) -> None:
    text = b"".join(key + b"\0" + value + b"\0" for key, value in said.items())
    ranges = b"".join(struct.pack("<QQ", *secret) for secret in secrets)
    head = struct.pack("<II", 160, 1).ljust(152, b"\0")
    note = decode_note(head + struct.pack("<II", len(text), len(secrets)) + ranges + text)

    assert note.secrets == tuple(secrets)
    assert list(note.annotations.items())[:64] == list(decoded(said).items())[:64]


def decoded(said: dict[bytes, bytes]) -> dict[str, str]:
    return {
        key.decode("utf-8", "backslashreplace"): value.decode("utf-8", "backslashreplace")
        for key, value in list(said.items())[:64]
    }
