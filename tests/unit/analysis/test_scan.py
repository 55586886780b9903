"""The stack scan: what counts as a call, and which leftovers it rejects."""

import struct

import pytest

from stillframe.analysis.scan import MAX_SCAN_FRAMES, Code, scan
from stillframe.corefile.elf import Machine

BASE = 0x10000


def code_of(text: bytes, machine: Machine = Machine.X86_64) -> Code:
    """Code at BASE; module "lib" below 0x1000 into it, "app" above."""
    return Code(
        machine,
        lambda at: text[at - BASE - 8 : at - BASE] if at >= BASE + 8 else b"",
        lambda at: "lib" if at < BASE + 0x1000 else "app",
    )


def text_with(*calls: tuple[int, bytes]) -> bytes:
    text = bytearray(0x2000)
    for offset, instruction in calls:
        text[offset : offset + len(instruction)] = instruction
    return bytes(text)


def call(at: int, target: int) -> tuple[int, bytes]:
    return at, b"\xe8" + struct.pack("<i", target - at - 5)


def words(*values: int) -> bytes:
    return struct.pack(f"<{len(values)}Q", *values)


@pytest.mark.parametrize(
    "instruction",
    [
        b"\xff\xd0",  # call *%rax
        b"\x41\xff\xd3",  # call *%r11
        b"\xff\x50\x08",  # call *8(%rax)
        b"\xff\x54\x24\x10",  # call *16(%rsp)
        b"\xff\x15\x01\x02\x03\x04",  # call *x(%rip)
        b"\xff\x94\x24\x01\x02\x03\x04",  # call *x(%rsp)
    ],
)
def test_indirect_calls_are_calls(instruction: bytes) -> None:
    found = BASE + 0x100 + len(instruction)
    text = text_with((0x100, instruction))
    assert scan(words(5, found, BASE + 0x300), BASE, code_of(text)) == [found]


def test_indirect_jumps_are_not_calls() -> None:
    text = text_with((0x100, b"\xff\xe0"))
    assert scan(words(BASE + 0x102), BASE, code_of(text)) == []


def test_a_direct_call_must_lead_to_the_frame_before_it() -> None:
    text = text_with(call(0x100, 0x400), call(0x200, 0x500))
    stale, real = BASE + 0x205, BASE + 0x105
    assert scan(words(stale, real), BASE + 0x410, code_of(text)) == [real]


def test_the_chain_goes_on_from_each_frame_found() -> None:
    text = text_with(call(0x110, 0x400), call(0x210, 0x100))
    chain = [BASE + 0x115, BASE + 0x215]
    assert scan(words(*chain), BASE + 0x410, code_of(text)) == chain


def test_a_direct_call_into_another_module_goes_through_its_plt() -> None:
    text = text_with(call(0x1100, 0x1800))
    assert scan(words(BASE + 0x1105), BASE + 0x10, code_of(text)) == [BASE + 0x1105]


def test_the_number_of_frames_is_bounded() -> None:
    text = text_with((0x100, b"\xff\xd0"))
    assert len(scan(words(*[BASE + 0x102] * 100), BASE, code_of(text))) == MAX_SCAN_FRAMES


@pytest.mark.parametrize(
    ("word", "pc", "found"),
    [
        (0x94000040, 0x200, True),  # bl +0x100, from 0x100 to 0x200
        (0x94000040, 0x180, False),  # the callee starts after pc
        (0xD63F0020, 0x700, True),  # blr x1
        (0xD61F0020, 0x700, False),  # br x1
    ],
)
def test_aarch64_calls(word: int, pc: int, *, found: bool) -> None:
    text = text_with((0x100, struct.pack("<I", word)))
    result = scan(words(BASE + 0x104), BASE + pc, code_of(text, Machine.AARCH64))
    assert bool(result) is found


def test_signed_return_addresses_are_stripped() -> None:
    text = text_with((0x100, struct.pack("<I", 0xD63F0020)))  # blr x1
    code = code_of(text, Machine.AARCH64)
    stack = words(BASE + 0x104 | 0x2B << 48)
    assert scan(stack, BASE, code) == []
    assert scan(stack, BASE, code._replace(signature_mask=0x7F << 48)) == [BASE + 0x104]


def test_a_stack_that_ends_in_half_a_word_is_scanned_to_there() -> None:
    assert scan(b"\xff" * 13, BASE, code_of(text_with())) == []
