"""Stage 4a: what the faulting instruction did, by capstone.

The kernel keeps the page fault's error code out of cores, so whether a fault
was a read or a write is only in the instruction.
"""

from collections.abc import Mapping
from typing import Literal, NamedTuple

import capstone  # type: ignore[import-untyped]

from stillframe.corefile.elf import Machine

MAX_INSTRUCTION = 15
"""Bytes; the longest of x86-64.  Intel SDM vol. 2, 2.3.11."""
_MASK = (1 << 64) - 1
_CANONICAL_BITS = 47


class Access(NamedTuple):
    """One access to memory by an instruction; ``size`` in bytes, 0 = not known."""

    kind: Literal["read", "write", "read and write"]
    size: int
    address: int
    registers: tuple[str, ...]
    """Base and index registers of the operand, as the core names them."""


class Instruction(NamedTuple):
    """The instruction at the crash."""

    mnemonic: str
    text: str
    accesses: tuple[Access, ...]
    operand: int | None
    """Value of its first register operand: the divisor of a division."""


def decode(machine: Machine, code: bytes, registers: Mapping[str, int]) -> Instruction | None:
    """Decode the first instruction of ``code``, which is at the thread's pc.

    ``None`` for bytes that are no instruction.
    """
    if machine is Machine.X86_64:
        engine = capstone.Cs(capstone.CS_ARCH_X86, capstone.CS_MODE_64)
        pc = registers["rip"]
    else:
        engine = capstone.Cs(capstone.CS_ARCH_ARM64, capstone.CS_MODE_LITTLE_ENDIAN)
        pc = registers["pc"]
    engine.detail = True
    for found in engine.disasm(code, pc, 1):
        values = {**registers, "rip": pc + found.size}
        operand = next((o.reg for o in found.operands if o.type == capstone.CS_OP_REG), None)
        return Instruction(
            found.mnemonic.split()[-1],
            f"{found.mnemonic} {found.op_str}".strip(),
            (*_operands(found, values), *_stack(found, values)),
            None if operand is None else _value(found, operand, values),
        )
    return None


def access_at(instruction: Instruction | None, address: int | None) -> Access | None:
    """The access that faulted: the one that touches the fault address.

    With ``address`` ``None`` (the kernel does not tell it for addresses that
    are not canonical) the one whose address is not canonical.
    """
    for access in instruction.accesses if instruction else ():
        if address is None:
            touched = not is_canonical(access.address)
        else:
            touched = access.address <= address < access.address + max(access.size, 1)
        if touched:
            return access
    return None


def is_canonical(address: int) -> bool:
    """Whether x86-64 with four-level paging can address it at all.

    >>> is_canonical(0x7FFF_FFFF_FFFF), is_canonical(0x4141414141414141)
    (True, False)
    """
    return address >> _CANONICAL_BITS in (0, _MASK >> _CANONICAL_BITS)


def _operands(found: "capstone.CsInsn", values: Mapping[str, int]) -> list[Access]:
    accesses = []
    for operand in found.operands:
        if operand.type != capstone.CS_OP_MEM or found.mnemonic in ("lea", "nop"):
            continue
        memory = operand.mem
        names = [found.reg_name(r) for r in (memory.base, memory.index) if r]
        base = _value(found, memory.base, values)
        index = _value(found, memory.index, values)
        if base is None or index is None:
            continue
        # Scale, segment and size are x86's alone.
        address = base + index * getattr(memory, "scale", 1) + memory.disp
        if segment := getattr(memory, "segment", 0):
            address += values.get(f"{found.reg_name(segment)}_base", 0)
        size = getattr(operand, "size", 0)
        accesses.append(
            Access(_kind(found.mnemonic, operand.access), size, address & _MASK, tuple(names))
        )
    return accesses


def _stack(found: "capstone.CsInsn", values: Mapping[str, int]) -> list[Access]:
    """What push, call and ret touch without saying so."""
    if "rsp" not in values:
        return []
    if found.mnemonic in ("push", "call"):
        return [Access("write", 8, values["rsp"] - 8 & _MASK, ("rsp",))]
    if found.mnemonic in ("pop", "ret", "leave"):
        return [Access("read", 8, values["rsp"], ("rsp",))]
    return []


def _value(found: "capstone.CsInsn", register: int, values: Mapping[str, int]) -> int | None:
    """Value of a general register or a 32-bit part of one; 0 for none, ``None`` for others."""
    if register == 0:
        return 0
    name = found.reg_name(register)
    if name in values:
        return values[name]
    whole = values.get(_PARTS.get(name, ""))
    return None if whole is None else whole & 0xFFFFFFFF


_PARTS = {
    **{f"e{n}": f"r{n}" for n in ("ax", "bx", "cx", "dx", "si", "di", "bp", "sp")},
    **{f"r{n}d": f"r{n}" for n in range(8, 16)},
    **{f"w{n}": f"x{n}" for n in range(31)},
}


def _kind(mnemonic: str, access: int) -> Literal["read", "write", "read and write"]:
    # capstone 5.0.9 says "read and write" of the stores of aarch64 (st*).
    if access == capstone.CS_AC_WRITE or mnemonic.startswith("st"):
        return "write"
    return "read and write" if access & capstone.CS_AC_WRITE else "read"
