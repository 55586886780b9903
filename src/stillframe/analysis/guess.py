"""Where a bad pointer probably comes from: heuristics, and always labelled as such.

Each looks at values alone, and each can be wrong: a sentence made of one says
"probably".
"""

from typing import NamedTuple

from .fault import Fault

_ERRORS = 4096
"""-1 to -4095 are errors of Linux system calls; -1 is MAP_FAILED.  ``IS_ERR_VALUE``."""
_MASK = (1 << 64) - 1
_TEXT = range(0x20, 0x7F)


class Guess(NamedTuple):
    """``label`` ends the sentence, ``hint`` is a sentence of its own; both say "probably"."""

    label: str
    hint: str


def guess_origin(fault: Fault) -> Guess | None:
    """Where the pointer of a bad access probably came from; ``None`` without an idea."""
    if fault.freed_link:
        return Guess(
            "probably read from freed memory",
            f"{fault.freed_link} holds what glibc's malloc leaves in the first bytes of a freed "
            "block, so probably an object was used after free().",
        )
    for name in fault.access.registers if fault.access else ():
        if found := _by_value(name, fault.registers.get(name, 0)):
            return found
    if fault.beside == "behind":
        return Guess(
            "probably past the end of a mapping",
            "Probably a loop or an index ran past the end of its memory; or what was there was "
            "unmapped before.",
        )
    if fault.beside == "near":
        return Guess(
            "probably unmapped before",
            "Other mappings are near, so probably it was mapped once and then unmapped: munmap(), "
            "free() of a large block, dlclose(), or the stack of a thread that has ended.",
        )
    return None


def _by_value(name: str, value: int) -> Guess | None:
    if value > _MASK - _ERRORS:
        number = value - _MASK - 1
        what = "MAP_FAILED or another error" if number == -1 else "an error number"
        return Guess(
            f"probably an unchecked error: {name} is {number}",
            f"{number} is {what}, so probably the result of a call was used unchecked.",
        )
    raw = value.to_bytes(8, "little")
    if value and len(set(raw)) == 1:
        return Guess(
            f"probably filled with 0x{raw[0]:02x}",
            f"All bytes of {name} are 0x{raw[0]:02x}: probably memory that was filled (memset(), "
            "an overrun or an allocator) was used as a pointer.",
        )
    if all(byte in _TEXT for byte in raw):
        return Guess(
            "probably overwritten by text",
            f"The bytes of {name} are readable characters: probably a string was written over "
            "the pointer.",
        )
    return None
