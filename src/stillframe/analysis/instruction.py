"""Stage 4a: what the faulting instruction did, by capstone.

The kernel keeps the page fault's error code out of cores, so whether a fault
was a read or a write is only in the instruction.  What capstone gets wrong (5.0.9)
is put right here, one table for each machine.
"""

from collections.abc import Iterator, Mapping
from typing import Literal, NamedTuple

import capstone  # type: ignore[import-untyped]
from capstone import arm64

from stillframe.corefile.elf import Machine

MAX_INSTRUCTION = 15
"""Bytes; the longest of x86-64.  Intel SDM vol. 2, 2.3.11."""
_MASK = (1 << 64) - 1
_VECTOR = 16
"""Bytes; of vector instructions that want alignment the smallest, and cmpxchg16b's."""

Kind = Literal["read", "write", "read and write"]


class Access(NamedTuple):
    """One access to memory by an instruction; ``size`` in bytes, 0 = not known."""

    kind: Kind
    size: int
    address: int
    registers: tuple[str, ...]
    """Base and index registers of the operand, as the core names them."""


class Operand(NamedTuple):
    """A register operand, or a part of a register: as the instruction names it."""

    name: str
    size: int
    """Bytes."""
    value: int


class Instruction(NamedTuple):
    """The instruction at the crash."""

    mnemonic: str
    """Without its prefixes."""
    text: str
    accesses: tuple[Access, ...]
    operand: Operand | None
    """The first register operand: a divisor, or the target of a jump."""


def decode(machine: Machine, code: bytes, registers: Mapping[str, int]) -> Instruction | None:
    """Decode the first instruction of ``code``, which is at the thread's pc.

    ``None`` for bytes that are no instruction.
    """
    if machine is Machine.X86_64:
        engine = capstone.Cs(capstone.CS_ARCH_X86, capstone.CS_MODE_64)
        pc, accesses = registers["rip"], _accesses_x86
    else:
        engine = capstone.Cs(capstone.CS_ARCH_ARM64, capstone.CS_MODE_LITTLE_ENDIAN)
        pc, accesses = registers["pc"], _accesses_aarch64
    engine.detail = True
    for found in engine.disasm(code, pc, 1):
        values = {**registers, "rip": pc + found.size}
        mnemonic = found.mnemonic.split()[-1]
        return Instruction(
            mnemonic,
            f"{found.mnemonic} {found.op_str}".strip(),
            tuple(accesses(found, mnemonic, values)),
            _operand(found, values),
        )
    return None


def access_at(instruction: Instruction | None, address: int) -> Access | None:
    """The access that faulted: the one that touches the fault address."""
    for access in instruction.accesses if instruction else ():
        if access.address <= address < access.address + max(access.size, 1):
            return access
    return None


def refused_access(instruction: Instruction | None, *, checked: bool) -> Access | None:
    """The access that x86-64 refuses without telling an address, most likely reason first.

    An address that is not canonical, then one that is not aligned, which vector
    instructions want always and all others where alignment is ``checked`` (EFLAGS.AC).
    """
    accesses = instruction.accesses if instruction else ()
    for access in accesses:
        if not is_canonical(Machine.X86_64, access.address):
            return access
    smallest = 2 if checked else _VECTOR
    misaligned = (a for a in accesses if a.size >= smallest and a.address % a.size)
    return next(misaligned, None)


def is_canonical(machine: Machine, address: int) -> bool:
    """Whether the machine can address it at all, with paging in four levels.

    x86-64 has 47 bits for each half, aarch64 has 48 and may ignore the highest byte.

    >>> is_canonical(Machine.X86_64, 0x7FFF_FFFF_FFFF), is_canonical(Machine.X86_64, 1 << 47)
    (True, False)
    >>> is_canonical(Machine.AARCH64, 0xFFFF_FFFF_F000), is_canonical(Machine.AARCH64, 1 << 48)
    (True, False)
    """
    if machine is Machine.X86_64:
        return address >> 47 in (0, 0x1FFFF)
    return address >> 48 & 0xFF in (0, 0xFF)


_HARMLESS = frozenset({"lea", "nop", "prfm", "prfum"})
"""They name memory and never fault."""
_READERS = frozenset(["cmp", "test", "bt", "cmpsb", "cmpsw", "cmpsd", "cmpsq"])
"""Of the instructions whose first of several operands is memory, those that do not write it."""
_STORES = ("fst", "fnst", "fist", "fbst", "fsave", "fnsave", "fxsave", "xsave", "stmxcsr")
"""How instructions begin that write their only operand."""
_PUSHES = frozenset(["push", "call", "pushfq", "enter"])
_POPS = frozenset(["pop", "ret", "popfq", "iretq"])


def _accesses_x86(
    found: "capstone.CsInsn", mnemonic: str, values: Mapping[str, int]
) -> Iterator[Access]:
    for place, operand in enumerate(found.operands):
        if (
            operand.type != capstone.CS_OP_MEM
            or mnemonic in _HARMLESS
            or mnemonic.startswith("prefetch")
        ):
            continue
        memory = operand.mem
        base = _value(found, memory.base, values)
        index = _value(found, memory.index, values)
        if base is None or index is None:
            continue
        address = base + index * memory.scale + memory.disp
        if memory.segment:
            address += values.get(f"{found.reg_name(memory.segment)}_base", 0)
        names = tuple(_name(found, r, values) for r in (memory.base, memory.index) if r)
        first = place == 0 and len(found.operands) > 1
        kind = _kind_x86(mnemonic, operand.access, first=first)
        yield Access(kind, operand.size, address & _MASK, names)
    # What these touch without saying so.
    if mnemonic in _PUSHES:
        yield Access("write", 8, values["rsp"] - 8 & _MASK, ("rsp",))
    elif mnemonic in _POPS:
        yield Access("read", 8, values["rsp"], ("rsp",))
    elif mnemonic == "leave":
        yield Access("read", 8, values["rbp"], ("rbp",))


def _kind_x86(mnemonic: str, access: int, *, first: bool) -> Kind:
    """Capstone takes some stores for reads: movups, movnti, cmpxchg, fstp."""
    if mnemonic.startswith("cmpxchg"):
        return "read and write"
    if access & capstone.CS_AC_WRITE:
        return "read and write" if access & capstone.CS_AC_READ else "write"
    stores = mnemonic.startswith(_STORES) or (first and mnemonic not in _READERS)
    return "write" if stores else "read"


_ATOMICS = ("ldadd", "ldclr", "ldeor", "ldset", "ldsm", "ldum", "swp", "cas")
_ATOMIC_STORES = ("stadd", "stclr", "steor", "stset", "stsm", "stum")
_WIDTHS = {"b": 1, "h": 2, "s": 4, "w": 4, "d": 8, "x": 8, "q": 16}
"""Bytes of a register by the first letter of its name."""
_STATUS_FIRST = ("stxr", "stlxr", "stxp", "stlxp")
_PAIRS = ("ldp", "stp", "ldnp", "stnp", "ldxp", "ldaxp", "stxp", "stlxp", "casp")
_ZEROED = 64
"""Bytes that ``dc zva`` clears; 64 on every processor Linux is known to run on."""


def _accesses_aarch64(
    found: "capstone.CsInsn", mnemonic: str, values: Mapping[str, int]
) -> Iterator[Access]:
    if mnemonic == "dc" and found.op_str.startswith("zva") and (operand := _operand(found, values)):
        yield Access("write", _ZEROED, operand.value // _ZEROED * _ZEROED, (operand.name,))
    for operand in found.operands:
        if operand.type != capstone.CS_OP_MEM or mnemonic in _HARMLESS:
            continue
        memory = operand.mem
        base = _value(found, memory.base, values)
        index = _value(found, memory.index, values)
        if base is None or index is None:
            continue
        address = base + _extended(operand, index) + memory.disp
        names = (_name(found, r, values) for r in (memory.base, memory.index) if r)
        size = _size_aarch64(found, mnemonic)
        yield Access(_kind_aarch64(mnemonic), size, address & _MASK, tuple(names))


def _extended(operand: "arm64.Arm64Op", index: int) -> int:
    if operand.ext == arm64.ARM64_EXT_SXTW:
        index = (index & 0xFFFFFFFF ^ 0x80000000) - 0x80000000
    return index << operand.shift.value if operand.shift.type == arm64.ARM64_SFT_LSL else index


def _kind_aarch64(mnemonic: str) -> Kind:
    """Capstone says nothing of atomics, and "read and write" of most stores."""
    if mnemonic.startswith((*_ATOMICS, *_ATOMIC_STORES)):
        return "read and write"
    return "write" if mnemonic.startswith("st") else "read"


def _size_aarch64(found: "capstone.CsInsn", mnemonic: str) -> int:
    """Capstone does not tell it: by the mnemonic's last letters, else by the register."""
    if mnemonic[:3] in ("ld1", "ld2", "ld3", "ld4", "st1", "st2", "st3", "st4"):
        return 0
    pair = 2 if mnemonic.startswith(_PAIRS) else 1
    if mnemonic.endswith("sw"):
        return 4 * pair
    if mnemonic[-1] in "bh":
        return _WIDTHS[mnemonic[-1]]
    registers = [o.reg for o in found.operands if o.type == capstone.CS_OP_REG]
    data = registers[1 if mnemonic.startswith(_STATUS_FIRST) else 0 :]
    return _WIDTHS.get(found.reg_name(data[0])[0], 0) * pair if data else 0


def _operand(found: "capstone.CsInsn", values: Mapping[str, int]) -> Operand | None:
    for operand in found.operands:
        if operand.type == capstone.CS_OP_REG:
            value = _value(found, operand.reg, values)
            name = found.reg_name(operand.reg)
            return None if value is None else Operand(name, getattr(operand, "size", 8), value)
    return None


def _name(found: "capstone.CsInsn", register: int, values: Mapping[str, int]) -> str:
    """The whole register, where an instruction names a part of it."""
    name = str(found.reg_name(register))
    return name if name in values or name not in _PARTS else _PARTS[name].whole


def _value(found: "capstone.CsInsn", register: int, values: Mapping[str, int]) -> int | None:
    """Value of a general register or a part of one; 0 for none, ``None`` for others."""
    if register == 0:
        return 0
    name = found.reg_name(register)
    if name in ("xzr", "wzr", "riz"):
        return 0
    if name in values:
        return values[name]
    part = _PARTS.get(name)
    if part is None or part.whole not in values:
        return None
    return values[part.whole] >> part.shift & (1 << part.bits) - 1


class _Part(NamedTuple):
    """Bits of a register that have a name of their own."""

    whole: str
    shift: int
    bits: int


def _parts() -> Iterator[tuple[str, _Part]]:
    for n in range(31):
        yield f"w{n}", _Part(f"x{n}", 0, 32)
    for n in range(8, 16):
        for suffix, bits in (("d", 32), ("w", 16), ("b", 8)):
            yield f"r{n}{suffix}", _Part(f"r{n}", 0, bits)
    for name in ("ax", "bx", "cx", "dx", "si", "di", "bp", "sp"):
        yield f"e{name}", _Part(f"r{name}", 0, 32)
        yield name, _Part(f"r{name}", 0, 16)
        yield f"{name.removesuffix('x')}l", _Part(f"r{name}", 0, 8)
    for letter in "abcd":
        yield f"{letter}h", _Part(f"r{letter}x", 8, 8)


_PARTS = dict(_parts())
