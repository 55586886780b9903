"""The pure stages on anything: they end, stay in bounds, and ignore what they must."""

import struct

import msgspec
from hypothesis import example, given
from hypothesis import strategies as st

from stillframe.analysis import Analysis, Frame, render_text
from stillframe.analysis.assemble import Evidence, assemble
from stillframe.analysis.cfi import has_cfi
from stillframe.analysis.escape import escape
from stillframe.analysis.fault import find_fault
from stillframe.analysis.fingerprint import find_cycle, fingerprint, normalize
from stillframe.analysis.images import find_images
from stillframe.analysis.instruction import MAX_INSTRUCTION, decode
from stillframe.analysis.model import JAVA_MODULE
from stillframe.analysis.noise import significant
from stillframe.analysis.scan import MAX_SCAN_FRAMES, Code, scan
from stillframe.analysis.stack import Stack
from stillframe.analysis.trust import TrustedFrame, judge
from stillframe.analysis.unwind import RawFrame
from stillframe.corefile import CoreFile
from stillframe.corefile.elf import Machine
from stillframe.corefile.notes import REGISTERS
from tests.property.corefile.test_reader import cores
from tests.support.corewriter import Core, image

u64 = st.integers(0, 2**64 - 1)
raw_frames = st.builds(
    RawFrame, u64, u64, st.text(), st.text(), st.integers(0, 2**31), st.booleans(), st.booleans()
)
names = st.sampled_from(
    ["f", "g", "main", "raise", "abort", "memcpy", "_start", "", "~stub", "Unsafe_Put", "A.f(int)"]
)
modules = st.sampled_from(
    ["/app/x", "/lib/libc.so.6", "/lib/libstillframe.so", "/lib/libjvm.so", JAVA_MODULE, ""]
)
frames = st.lists(
    st.builds(Frame, pc=u64, trust=st.just("cfi"), function=names, module=modules,
              offset=st.one_of(st.none(), u64)),
    max_size=40,
)  # fmt: skip


@given(cores(), st.lists(raw_frames, min_size=1, max_size=80))
def test_an_answer_always_fits_its_bounds_and_renders(core: Core, raw: list[RawFrame]) -> None:
    read = CoreFile.from_bytes(core.build())
    images = find_images(read, [])
    stack = Stack([TrustedFrame(frame, "cfi") for frame in raw], len(raw), len(raw))
    fault = find_fault(read, images, lambda _, number: str(number))
    answer = assemble(Evidence(read, images, fault, [stack], "message", soft_errors=["error"]))
    assert msgspec.json.decode(msgspec.json.encode(answer), type=Analysis) == answer
    assert all(line.isprintable() for line in render_text(answer).split("\n"))


said = st.lists(st.one_of(st.just(b"stillframe.request"), st.binary(max_size=300)), max_size=20)


@given(said.map(b"\0".join), st.integers(0, 3))
def test_what_an_application_said_is_printable_and_bounded(text: bytes, secrets: int) -> None:
    """Every byte of it is the pod's."""
    head = struct.pack("<II", 160, 1).ljust(152, b"\0")
    note = head + struct.pack("<II", len(text), secrets) + bytes(16 * secrets) + text
    read = CoreFile.from_bytes(Core().thread(7).add(1, note, name=b"STILLFRAME").build())
    images = find_images(read, [])
    answer = assemble(
        Evidence(read, images, find_fault(read, images, lambda _, number: str(number)), [])
    )

    assert answer.note is not None
    assert "stillframe.request" not in answer.note.annotations
    assert msgspec.convert(msgspec.to_builtins(answer), Analysis) == answer
    lines = render_text(answer).splitlines()
    assert all(line.isprintable() and len(line) <= 1024 for line in lines)
    starts = [line.split(":")[0] for line in lines]
    assert starts.count("Annotation") == len(answer.note.annotations)
    assert starts.count("Request") == bool(answer.note.request)
    assert starts.count("Left out") == bool(secrets)


@given(st.text(), st.integers(1, 300))
def test_escaped_text_is_printable_and_bounded(text: str, limit: int) -> None:
    safe = escape(text, limit)
    assert safe.isprintable()
    assert len(safe) <= limit
    assert escape(safe, limit) == safe


@given(st.binary(max_size=MAX_INSTRUCTION), st.sampled_from(Machine), st.data())
def test_any_bytes_decode_to_an_instruction_or_none(
    code: bytes, machine: Machine, data: st.DataObject
) -> None:
    registers = {name: data.draw(u64) for name in REGISTERS[machine]}
    found = decode(machine, code, registers)
    for access in found.accesses if found else ():
        assert 0 <= access.address < 2**64


@given(st.binary(max_size=4096), u64, st.binary(max_size=8), st.sampled_from(Machine))
def test_a_scan_of_anything_is_bounded(
    stack: bytes, pc: int, before: bytes, machine: Machine
) -> None:
    found = scan(stack, pc, Code(machine, lambda at: before, lambda at: at % 2))
    assert len(found) <= MAX_SCAN_FRAMES


@given(st.lists(raw_frames, max_size=20), st.integers(), st.integers())
def test_judging_keeps_a_prefix(raw: list[RawFrame], a: int, b: int) -> None:
    verdict = judge(raw, lambda pc: bool(hash((pc, a)) % 3), lambda pc: bool(hash((pc, b)) % 2))
    assert [frame.raw for frame in verdict.frames] == raw[: len(verdict.frames)]


@given(st.binary(max_size=200), st.integers(0, 4095), u64)
def test_frame_information_of_noise_is_none_or_some(noise: bytes, where: int, vaddr: int) -> None:
    data = bytearray(image(b"id"))
    data[where : where + len(noise)] = noise
    assert has_cfi(bytes(data), vaddr) in (True, False)


@given(frames)
def test_what_tells_is_never_empty_and_always_from_the_stack(stack: list[Frame]) -> None:
    told = significant(stack)
    assert bool(told) == bool(stack)
    assert all(frame in stack for frame in told)


@given(frames, st.integers(0, 2**40))
def test_the_fingerprint_does_not_see_addresses(stack: list[Frame], slide: int) -> None:
    moved = [msgspec.structs.replace(frame, pc=(frame.pc + slide) % 2**64) for frame in stack]
    assert fingerprint(moved) == fingerprint(stack)


@given(st.lists(st.sampled_from("abc"), min_size=1, max_size=8), st.integers(0, 7))
def test_a_cycle_is_found_from_any_of_its_frames(cycle: list[str], start: int) -> None:
    turned = cycle[start % len(cycle) :] + cycle[: start % len(cycle)]
    assert find_cycle(turned * 8) == find_cycle(cycle * 8) != []


@given(st.text(max_size=60))
@example("@0")
@example(" const")
def test_a_name_never_becomes_empty(name: str) -> None:
    assert bool(normalize(name)) == bool(name)
