"""Stage 5: why it died, in words.

One small function per way to die, tried in order; each looks at the
:class:`.fault.Fault` and the stack, and nobody looks at names of programs.  What
is a guess says "probably".
"""

import signal
from collections.abc import Callable, Sequence
from typing import NamedTuple

from .escape import base_name
from .fault import Fault
from .instruction import is_canonical
from .model import Frame
from .signals import (
    BUS_ADRALN,
    BUS_ADRERR,
    SEGV_ACCERR,
    SI_KERNEL,
    SYS_SECCOMP,
    code_name,
    signal_name,
)

NULL_LIMIT = 64 << 10
"""Addresses below are null plus an offset: vm.mmap_min_addr keeps them unmapped."""
OVERFLOW_REACH = 1 << 20
"""Bytes below the stack that one frame may overshoot; arbitrary."""
_UD2, _HLT = "ud2", "hlt"


class Cause(NamedTuple):
    """A sentence for the column and a hint for the paragraph; both may hold pod text."""

    sentence: str
    hint: str


def explain(fault: Fault, frames: Sequence[Frame], abort_message: str) -> Cause:
    """The cause of a crash."""
    if fault.signal == 0:
        return Cause("no signal: a snapshot of a live process", "")
    for rule in _RULES:
        if found := rule(fault):
            return found
    if fault.signal == signal.SIGABRT:
        return _abort([frame.function for frame in frames], abort_message)
    what = f"{signal_name(fault.signal)} ({code_name(fault.signal, fault.code)})"
    return Cause(f"killed by {what}", "")


def _sent(fault: Fault) -> Cause | None:
    if fault.sender_pid is None:
        return None
    name = signal_name(fault.signal)
    if fault.sender_pid != fault.pid:
        inside = f"by process {fault.sender_pid}"
        who = inside if fault.sender_pid else "from outside of its pid namespace"
        return Cause(f"{name} sent {who}", "The process was killed; its own code did not fail.")
    if fault.signal == signal.SIGABRT:
        return None
    return Cause(f"{name} sent by the process to itself", "Look who called raise() or kill().")


def _stack_overflow(fault: Fault) -> Cause | None:
    if fault.signal not in (signal.SIGSEGV, signal.SIGBUS) or fault.address is None:
        return None
    low = fault.stack_low
    near = low is not None and low - OVERFLOW_REACH <= fault.address < low
    below = fault.sp - OVERFLOW_REACH <= fault.address < fault.sp + 4096
    if not below or not (near or fault.stack_overflow):
        return None
    return Cause(
        f"stack overflow at 0x{fault.address:x}",
        "A function calls itself without end, or needs more stack than the thread has.",
    )


def _jump(fault: Fault) -> Cause | None:
    if fault.signal not in (signal.SIGSEGV, signal.SIGBUS):
        return None
    if fault.address != fault.pc:
        return None
    hint = "Look at the caller, the next frame: which function pointer did it call?"
    if fault.pc < NULL_LIMIT:
        return Cause(f"null function pointer: call of 0x{fault.pc:x}", hint)
    if fault.code == SEGV_ACCERR or (fault.pc_region and not fault.pc_region.executable):
        where = _where(fault)
        return Cause(f"execution of data: jump to 0x{fault.pc:x}{where}", hint)
    return Cause(f"wild jump: nothing is mapped at 0x{fault.pc:x}", hint)


def _null_pointer(fault: Fault) -> Cause | None:
    if fault.signal != signal.SIGSEGV or fault.address is None or fault.address >= NULL_LIMIT:
        return None
    return Cause(
        f"null pointer: {_what(fault)} at 0x{fault.address:x}{_registers(fault)}",
        "A pointer was null where the code expects an object"
        + (f"; 0x{fault.address:x} is the offset into it." if fault.address else "."),
    )


def _forbidden(fault: Fault) -> Cause | None:
    if fault.signal != signal.SIGSEGV or fault.code != SEGV_ACCERR or fault.address is None:
        return None
    at = f"0x{fault.address:x}{_where(fault)}"
    if fault.region and not fault.region.readable:
        return Cause(
            f"guard page: {_what(fault)} at {at}", "The memory is mapped without any permission."
        )
    kind = "write to read-only memory" if _writes(fault) else "access without permission"
    return Cause(f"{kind}: {_what(fault)} at {at}", "Constants and code cannot be written.")


def _wild_pointer(fault: Fault) -> Cause | None:
    if fault.signal != signal.SIGSEGV:
        return None
    hint = "The pointer was overwritten, never set, or its memory is gone."
    if fault.address is not None:
        kind = "" if is_canonical(fault.address) else " (not a canonical address)"
        at = f"0x{fault.address:x}{kind}"
        return Cause(f"wild pointer: {_what(fault)} at {at}{_registers(fault)}", hint)
    if fault.code == SI_KERNEL and fault.instruction and fault.instruction.mnemonic == _HLT:
        return Cause("abort: the process stopped itself (hlt)", "")
    if fault.code == SI_KERNEL:
        return Cause("wild pointer: access to an address that is not canonical", hint)
    return None


def _bus_error(fault: Fault) -> Cause | None:
    if fault.signal != signal.SIGBUS or fault.address is None:
        return None
    at = f"0x{fault.address:x}"
    if fault.code == BUS_ADRALN:
        return Cause(f"bus error: misaligned {_what(fault)} at {at}", "")
    if fault.code == BUS_ADRERR and fault.region and fault.region.path:
        file = base_name(fault.region.path)
        hint = "The file was truncated after it was mapped, or its disk could not be read."
        return Cause(f"bus error: {_what(fault)} past the end of {file} at {at}", hint)
    if fault.code == BUS_ADRERR:
        return Cause(
            f"bus error: {_what(fault)} at {at}, no memory behind it",
            "A shared memory object is shorter than its mapping, or its tmpfs is full.",
        )
    return Cause(f"bus error: memory failure at {at}", "The hardware reported bad memory.")


def _arithmetic(fault: Fault) -> Cause | None:
    if fault.signal != signal.SIGFPE:
        return None
    name = code_name(fault.signal, fault.code)
    if name == "FPE_INTDIV":
        if fault.instruction and fault.instruction.operand:
            return Cause(
                "integer division overflow", "The smallest integer divided by -1 has no result."
            )
        return Cause("division by zero", "")
    return Cause(f"arithmetic error ({name})", "")


def _illegal(fault: Fault) -> Cause | None:
    if fault.signal != signal.SIGILL:
        return None
    if fault.instruction and fault.instruction.mnemonic in (_UD2, "udf", "brk"):
        return Cause(
            f"trap instruction ({fault.instruction.mnemonic})",
            "The compiler puts it where code must not come: __builtin_trap(), a failed "
            "check, or the end of a function that must not return.",
        )
    return Cause(
        f"illegal instruction at 0x{fault.pc:x}",
        "The code is not for this CPU, or the process jumped into data.",
    )


def _breakpoint(fault: Fault) -> Cause | None:
    if fault.signal != signal.SIGTRAP:
        return None
    return Cause("breakpoint or trap without a debugger", "Often a failed check of a runtime.")


def _seccomp(fault: Fault) -> Cause | None:
    if fault.signal != signal.SIGSYS or fault.code != SYS_SECCOMP:
        return None
    name = fault.syscall_name or str(fault.syscall)
    return Cause(
        f"seccomp: system call {name} is forbidden",
        "The process's own or its container's seccomp profile traps this call.",
    )


_ABORTS: tuple[tuple[tuple[str, ...], str, str], ...] = (
    (("__assert_fail", "__assert_fail_base", "__assert"), "assertion failed", ""),
    (
        ("__stack_chk_fail", "__stack_chk_fail_local"),
        "stack smashing detected",
        "A buffer on the stack of the function below was overrun.",
    ),
    (
        ("__fortify_fail", "__chk_fail"),
        "buffer overflow detected",
        "A checked call would have written past the end of a buffer.",
    ),
    (
        ("malloc_printerr", "__libc_free", "__libc_realloc"),
        "heap corruption detected by malloc",
        "Memory was freed twice or overrun earlier; the stack shows where it was noticed.",
    ),
    (
        ("__cxa_throw", "__verbose_terminate_handler", "_ZSt9terminatev", "std::terminate"),
        "uncaught C++ exception",
        "",
    ),
    (("rust_panic", "__rust_start_panic", "rust_begin_unwind"), "panic", ""),
)


def _abort(functions: Sequence[str], message: str) -> Cause:
    for names, sentence, hint in _ABORTS:
        if any(name in functions for name in names):
            return Cause(f"{sentence}: {message}" if message else sentence, hint)
    if message:
        return Cause(f"abort: {message}", "")
    raised = "raise" in functions and "abort" not in functions
    return Cause("SIGABRT raised by the process itself" if raised else "abort() was called", "")


_RULES: tuple[Callable[[Fault], Cause | None], ...] = (
    _sent,
    _seccomp,
    _stack_overflow,
    _jump,
    _null_pointer,
    _forbidden,
    _wild_pointer,
    _bus_error,
    _arithmetic,
    _illegal,
    _breakpoint,
)


def _what(fault: Fault) -> str:
    """Such as "write of 4 bytes", or "access" where the instruction is not known."""
    if fault.access is None:
        return "access"
    size = fault.access.size
    unit = "byte" if size == 1 else "bytes"
    return f"{fault.access.kind} of {size} {unit}" if size else fault.access.kind


def _writes(fault: Fault) -> bool:
    if fault.access is not None:
        return fault.access.kind != "read"
    return fault.region is not None and fault.region.readable and not fault.region.writable


def _registers(fault: Fault) -> str:
    """Such as ", rax is null": what the address was made of."""
    names = fault.access.registers if fault.access else ()
    parts = (f"{n} is {_value(fault.registers[n])}" for n in names if n in fault.registers)
    joined = ", ".join(parts)
    return f", {joined}" if joined else ""


def _value(value: int) -> str:
    return f"0x{value:x}" if value else "null"


def _where(fault: Fault) -> str:
    path = fault.region.path if fault.region else ""
    return f" in {base_name(path)}" if path else ""
