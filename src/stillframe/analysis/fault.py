"""Stage 4: the facts of the crash that a cause is told from, as plain values."""

import signal
from collections.abc import Callable
from typing import Literal, NamedTuple

from stillframe.corefile import CoreFile, Flag, SignalInfo, Thread
from stillframe.corefile.elf import PF_R, PF_W, PF_X, Machine

from .images import Images
from .instruction import (
    MAX_INSTRUCTION,
    Access,
    Instruction,
    access_at,
    decode,
    is_canonical,
    refused_access,
)
from .signals import BUS_ADRALN, SI_KERNEL, has_address, has_sender

_AT_INSTRUCTION = frozenset({signal.SIGSEGV, signal.SIGBUS, signal.SIGILL, signal.SIGFPE})
"""Signals whose pc is at the instruction that caused them."""
_INT3 = b"\xcc"
NEIGHBOURHOOD = 16 << 20
"""Bytes to the next mapping within which an address may have been one; arbitrary."""
_PAGE_BITS = 12
_PAGE = 1 << _PAGE_BITS


class Region(NamedTuple):
    """A mapping: who may do what there, and the file behind it (empty for anonymous memory)."""

    readable: bool
    writable: bool
    executable: bool
    path: str


class Fault(NamedTuple):
    """The crash, without the stack."""

    machine: Machine
    signal: int
    code: int
    address: int | None
    """What was accessed: ``si_addr``, or computed where the kernel keeps it to itself."""
    sender_pid: int | None
    sender_uid: int | None
    pid: int
    pc: int
    sp: int
    registers: dict[str, int]
    region: Region | None
    """Where ``address`` is; ``None`` where nothing is mapped."""
    pc_region: Region | None
    stack_low: int | None
    """Lowest address of the crashing thread's stack, as far as one can tell."""
    stack_overflow: bool
    """The library found the stack pointer outside of the stack."""
    instruction: Instruction | None
    access: Access | None
    target: int | None
    """Where a jump, call or return at pc leads to; ``None`` if it is none or not known."""
    divisor: int | None
    """Of a division at pc, unsigned."""
    beside: Literal["", "behind", "near"]
    """Where an ``address`` in no mapping is: just behind the end of one, near one, or neither."""
    freed_link: str
    """The register that holds what glibc leaves in freed memory, if there is one."""
    syscall: int
    syscall_name: str


def find_fault(
    core: CoreFile, images: Images, syscall_name: Callable[[Machine, int], str]
) -> Fault | None:
    """The facts of the crashing thread; ``None`` for a core without a thread."""
    if not core.threads:
        return None
    thread, note, info = core.threads[0], core.note, _signal_info(core)
    # gcore stops a living process by SIGSTOP.
    number, code = 0 if info.signal == signal.SIGSTOP else info.signal, info.code
    sent = has_sender(code)
    instruction = None if sent else _instruction(core, images, thread, number)
    if _address_told(core.machine, number, code):
        address: int | None = info.address
        access = access_at(instruction, info.address)
    else:
        access = None if sent else refused_access(instruction, checked=number == signal.SIGBUS)
        address = access.address if access else None
    region = None if address is None else region_at(core, images, address)
    return Fault(
        machine=core.machine,
        signal=number,
        code=code,
        address=address,
        sender_pid=info.sender_pid if sent else None,
        sender_uid=info.sender_uid if sent else None,
        pid=core.process.pid if core.process else thread.tid,
        pc=thread.pc,
        sp=thread.sp,
        registers=thread.registers,
        region=region,
        pc_region=region_at(core, images, thread.pc),
        stack_low=_stack_low(core, thread),
        stack_overflow=bool(note and note.fields.flags & Flag.STACK_OVERFLOW),
        instruction=instruction,
        access=access,
        target=_target(core, instruction),
        divisor=_divisor(core, instruction) if number == signal.SIGFPE else None,
        beside="" if region or address is None else _beside(core, address),
        freed_link=_freed_link(core, thread, access),
        syscall=info.syscall,
        syscall_name=syscall_name(core.machine, info.syscall) if number == signal.SIGSYS else "",
    )


def _address_told(machine: Machine, number: int, code: int) -> bool:
    """Whether ``si_addr`` is the address: x86-64 says 0 of misaligned accesses (#AC)."""
    hidden = machine is Machine.X86_64 and (number, code) == (signal.SIGBUS, BUS_ADRALN)
    return has_address(number, code) and not hidden


def _instruction(core: CoreFile, images: Images, thread: Thread, number: int) -> Instruction | None:
    """What faulted; after a system call pc is at what comes next, and so it is after int3."""
    pc, registers = thread.pc, thread.registers
    if number == signal.SIGTRAP:
        if core.machine is Machine.X86_64:
            if read_code(core, images, pc - 1, 1) != _INT3:
                return None
            pc = pc - 1
            registers = {**registers, "rip": pc}
    elif number not in _AT_INSTRUCTION:
        return None
    return decode(core.machine, read_code(core, images, pc, MAX_INSTRUCTION), registers)


def _target(core: CoreFile, instruction: Instruction | None) -> int | None:
    """Where an indirect jump, a call or a return of x86-64 goes, where the core has it."""
    if instruction is None or instruction.mnemonic not in ("call", "jmp", "ret"):
        return None
    if instruction.operand:
        return instruction.operand.value
    reads = [access for access in instruction.accesses if access.kind == "read"]
    return _word(core, reads[0].address, 8) if reads else None


def _divisor(core: CoreFile, instruction: Instruction | None) -> int | None:
    if instruction is None or instruction.mnemonic not in ("div", "idiv"):
        return None
    if instruction.operand:
        return instruction.operand.value
    return next((_word(core, a.address, a.size) for a in instruction.accesses), None)


def _word(core: CoreFile, address: int, size: int) -> int | None:
    read = core.read(address, size)
    return int.from_bytes(read, "little") if len(read) == size else None


def _beside(core: CoreFile, address: int) -> Literal["", "behind", "near"]:
    if core.segment_at(address - _PAGE):
        return "behind"
    near = any(
        segment.vaddr - NEIGHBOURHOOD <= address < segment.end + NEIGHBOURHOOD
        for segment in core.segments
    )
    return "near" if near else ""


def _freed_link(core: CoreFile, thread: Thread, access: Access | None) -> str:
    """A register of the access that holds an address of the heap, shifted by a page.

    glibc 2.32 and later store the link of a freed chunk as ``(&link >> 12) ^ next``,
    and ``next`` is null in the first of a list (safe-linking, ``malloc/malloc.c``).
    """
    for name in access.registers if access else ():
        value = thread.registers.get(name, 0)
        segment = core.segment_at(value << _PAGE_BITS)
        writable = segment is not None and segment.flags & PF_W
        if value >> 16 and writable and core.file_at(value << _PAGE_BITS) is None:
            return name
    return ""


def _signal_info(core: CoreFile) -> SignalInfo:
    """The siginfo of the core, else as much as vendor note or thread tell of it."""
    if core.signal:
        return core.signal
    if core.note:
        note = core.note.fields
        return SignalInfo(note.signal, note.code, note.address, note.sender_pid, note.sender_uid, 0)
    return SignalInfo(core.threads[0].signal, SI_KERNEL, 0, 0, 0, 0)


def region_at(core: CoreFile, images: Images, address: int) -> Region | None:
    """The mapping at an address.

    The kernel and our library list every mapping, saved or not; gcore leaves
    out files, whose permissions are then what the file wants.
    """
    segment, file = core.segment_at(address), core.file_at(address)
    if segment is None and file is None:
        return None
    image = images.at(address)
    flags = segment.flags if segment else image.flags_at(address) if image else 0
    path = file.path if file else ""
    return Region(bool(flags & PF_R), bool(flags & PF_W), bool(flags & PF_X), path)


def is_code(core: CoreFile, images: Images, address: int) -> bool:
    """Whether an address is in executable memory."""
    region = region_at(core, images, address)
    return region is not None and region.executable


def read_code(core: CoreFile, images: Images, address: int, size: int) -> bytes:
    """Bytes of executable memory: from the core, else from the file mapped there."""
    if not is_code(core, images, address):
        return b""
    if code := core.read(address, size):
        return code
    image, mapped = images.at(address), core.file_at(address)
    if image is None or image.file is None or mapped is None:
        return b""
    offset = address - mapped.start + mapped.offset
    return image.file.data[offset : offset + min(size, mapped.end - address)]


def _stack_low(core: CoreFile, thread: Thread) -> int | None:
    """The lowest address of the writable mapping that the stack pointer is in or just below."""
    at = next((a for a in _near(thread.sp) if _is_stack(core, a)), None)
    if at is None or not is_canonical(core.machine, thread.sp):
        return None
    low = core.segment_at(at)
    while low and (below := core.segment_at(low.vaddr - 1)) and below.flags == low.flags:
        low = below
    return low.vaddr if low else None


def _near(sp: int) -> range:
    """The stack pointer, and the megabyte above it: one frame may overshoot the guard page."""
    return range(sp, sp + (1 << 20), 4096)


def _is_stack(core: CoreFile, address: int) -> bool:
    segment = core.segment_at(address)
    return segment is not None and segment.flags & (PF_R | PF_W) == PF_R | PF_W
