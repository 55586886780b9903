"""Stage 4: the facts of the crash that a cause is told from, as plain values."""

import signal
from collections.abc import Callable
from typing import NamedTuple

from stillframe.corefile import CoreFile, Flag, SignalInfo, Thread
from stillframe.corefile.elf import PF_R, PF_W, PF_X

from .images import Images
from .instruction import MAX_INSTRUCTION, Access, Instruction, access_at, decode, is_canonical
from .signals import SI_KERNEL, has_address, has_sender

_AT_INSTRUCTION = frozenset({signal.SIGSEGV, signal.SIGBUS, signal.SIGILL, signal.SIGFPE})
"""Signals whose pc is at the instruction that caused them."""


class Region(NamedTuple):
    """A mapping: who may do what there, and the file behind it (empty for anonymous memory)."""

    readable: bool
    writable: bool
    executable: bool
    path: str


class Fault(NamedTuple):
    """The crash, without the stack."""

    signal: int
    code: int
    address: int | None
    """What was accessed: ``si_addr``, or computed where the kernel keeps it to itself."""
    sender_pid: int | None
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
    syscall: int
    syscall_name: str


def find_fault(core: CoreFile, images: Images, syscall_name: Callable[[int], str]) -> Fault | None:
    """The facts of the crashing thread; ``None`` for a core without a thread."""
    if not core.threads:
        return None
    thread, note, info = core.threads[0], core.note, _signal_info(core)
    # gcore stops a living process by SIGSTOP.
    number, code = 0 if info.signal == signal.SIGSTOP else info.signal, info.code
    address = info.address if has_address(number, code) else None
    sent = has_sender(code)
    code_bytes = read_code(core, images, thread.pc, MAX_INSTRUCTION)
    # After a system call, a breakpoint or a sent signal pc is at what comes next.
    faulted = not sent and number in _AT_INSTRUCTION
    instruction = decode(core.machine, code_bytes, thread.registers) if faulted else None
    access = access_at(instruction, address)
    if address is None and code == SI_KERNEL and access:
        address = access.address
    return Fault(
        signal=number,
        code=code,
        address=address,
        sender_pid=info.sender_pid if sent else None,
        pid=core.process.pid if core.process else thread.tid,
        pc=thread.pc,
        sp=thread.sp,
        registers=thread.registers,
        region=None if address is None else region_at(core, images, address),
        pc_region=region_at(core, images, thread.pc),
        stack_low=_stack_low(core, thread),
        stack_overflow=bool(note and note.fields.flags & Flag.STACK_OVERFLOW),
        instruction=instruction,
        access=access,
        syscall=info.syscall,
        syscall_name=syscall_name(info.syscall) if number == signal.SIGSYS else "",
    )


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
    if at is None or not is_canonical(thread.sp):
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
