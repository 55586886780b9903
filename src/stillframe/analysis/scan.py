"""Stage 3b: a stack scan, where a module has no call frame information (musl).

Every aligned word on the stack that points behind a call instruction in
executable code may be a return address.  Old ones linger in unused slots, so
these frames are labelled ``scan`` and their number is bounded.
"""

import struct
from collections.abc import Callable
from typing import NamedTuple

from stillframe.corefile import CoreFile, Thread
from stillframe.corefile.elf import Machine

MAX_SCAN_BYTES = 16 << 10
MAX_SCAN_FRAMES = 24
"""Both arbitrary: a few real frames are worth more than many doubtful ones."""

MAX_FUNCTION = 4096
"""Bytes a function may be long when a call is checked against its callee; arbitrary."""

_INDIRECT_LENGTHS = (2, 3, 4, 6, 7)
"""Bytes from FF to the end of ``call r/m64``, by addressing mode."""


class Code(NamedTuple):
    """What a scan must know about the process's code."""

    machine: Machine
    before: Callable[[int], bytes]
    """The 8 bytes of executable code before an address, or fewer where there is no code."""
    module: Callable[[int], object]
    """Something that is equal for addresses in the same module."""
    signature_mask: int = 0
    """Bits to strip from a return address; see :class:`CoreFile`."""


def scan(stack: bytes, pc: int, code: Code) -> list[int]:
    """Return addresses in ``stack`` (from the stack pointer upwards), innermost first.

    A direct call inside one module must lead to the function found before it
    (``pc`` at first); that removes most leftovers of earlier calls.  The price is
    a lost frame where that function was entered by a tail call.
    """
    found: list[int] = []
    usable = min(len(stack), MAX_SCAN_BYTES) // 8 * 8
    for (signed,) in struct.iter_unpack("<Q", stack[:usable]):
        word = signed & ~code.signature_mask
        if word >= 4096 and _may_return_to(word, pc, code):
            found.append(word)
            pc = word
            if len(found) == MAX_SCAN_FRAMES:
                break
    return found


def jumped_from(core: CoreFile, thread: Thread, code: Code) -> list[int]:
    """The return address of a call that led to no code: on the stack, or in the link register."""
    if core.machine is Machine.X86_64:
        stack = core.read(thread.sp, 8)
    else:
        stack = thread.registers["x30"].to_bytes(8, "little")
    return scan(stack, thread.pc, code)


def _may_return_to(address: int, callee: int, code: Code) -> bool:
    before = code.before(address)
    direct, indirect = (
        (_direct_x86, _indirect_x86)
        if code.machine is Machine.X86_64
        else (_direct_aarch64, _indirect_aarch64)
    )
    displacement = direct(before)
    if displacement is None:
        return indirect(before)
    if code.module(address) != code.module(callee):
        return True  # through the PLT
    return 0 <= callee - (address + displacement) < MAX_FUNCTION


def _direct_x86(code: bytes) -> int | None:
    """Displacement of the near call that ``code`` ends with.  Intel SDM vol. 2, CALL."""
    if len(code) < 5 or code[-5] != 0xE8:
        return None
    return int.from_bytes(code[-4:], "little", signed=True)


def _indirect_x86(code: bytes) -> bool:
    """Whether ``code`` ends with ``call r/m64`` (FF /2)."""
    return any(
        len(code) >= length and code[-length] == 0xFF and (code[1 - length] >> 3) & 7 == 2
        for length in _INDIRECT_LENGTHS
    )


def _direct_aarch64(code: bytes) -> int | None:
    """Displacement of BL, from the address after it.  Arm ARM, C6.2."""
    if len(code) < 4 or code[-1] >> 2 != 0b100101:
        return None
    words = int.from_bytes(code[-4:], "little") & 0x3FFFFFF
    return ((words ^ 0x2000000) - 0x2000000) * 4 - 4


def _indirect_aarch64(code: bytes) -> bool:
    """Whether ``code`` ends with BLR."""
    return len(code) >= 4 and int.from_bytes(code[-4:], "little") & 0xFFFFFC1F == 0xD63F0000
