"""Stage 5: why it died, in words.

One small function per way to die, tried in order; each looks at the
:class:`.fault.Fault` and the stack, and nobody looks at names of programs.  What
is a guess says "probably".  ``docs/reference/causes.md`` has an example of each.
"""

import signal
from collections.abc import Callable, Sequence
from typing import NamedTuple

from stillframe.corefile.elf import Machine

from .abort import explain_abort
from .escape import base_name
from .fault import Fault
from .fingerprint import find_cycle, frame_key
from .guess import guess_origin
from .instruction import is_canonical
from .model import Frame
from .noise import in_libc, is_allocator
from .signals import (
    BUS_ADRALN,
    BUS_ADRERR,
    SEGV_ACCERR,
    SEGV_PKUERR,
    SI_KERNEL,
    SI_TIMER,
    SYS_SECCOMP,
    code_name,
    signal_name,
)

NULL_LIMIT = 64 << 10
"""Addresses below are null plus an offset: vm.mmap_min_addr keeps them unmapped."""
OVERFLOW_REACH = 1 << 20
"""Bytes below the stack that one frame may overshoot; arbitrary."""
_END = 1 << 64
_KERNEL_HALF = 1 << 63
_HLT, _INT3 = "hlt", "int3"
_TRAPS = ("ud2", "ud1", "ud0", "udf", "brk")
_PRIVILEGED = frozenset(
    [
        *("cli", "sti", "in", "out", "insb", "insw", "insd", "outsb", "outsw", "outsd"),
        *("rdmsr", "wrmsr", "rdpmc", "lgdt", "lidt", "lldt", "ltr", "lmsw", "clts", "invlpg"),
        *("invd", "wbinvd", "swapgs", "sysret", "sysexit", "monitor", "mwait", "xsetbv"),
    ]
)
"""Instructions of x86-64 that only a kernel may execute.  Intel SDM vol. 3, 5.9."""
_JUMPS = {"call": "call", "jmp": "jump", "ret": "return"}
_SENDERS = ("raise", "kill", "tgkill", "pthread_kill", "sigqueue", "killpg", "pthread_sigqueue")
_MAX_CYCLE_NAMES = 3


class Cause(NamedTuple):
    """A sentence for the column and a hint for the paragraph; both may hold pod text."""

    sentence: str
    hint: str


def explain(fault: Fault, frames: Sequence[Frame], abort_message: str, exception: str) -> Cause:
    """The cause of a crash, by the crashing thread's frames, innermost first.

    ``abort_message`` is what libc printed and ``exception`` the type of the C++
    exception nobody caught; both are empty where they are not known.
    """
    if fault.signal == 0:
        return Cause("no signal: a snapshot of a live process", "")
    for rule in _RULES:
        if found := rule(fault, frames):
            return found
    if fault.signal == signal.SIGABRT or _is_hlt(fault):
        return Cause(*explain_abort(frames, abort_message, exception, by_hlt=_is_hlt(fault)))
    return _by_kernel(fault)


def _by_kernel(fault: Fault) -> Cause:
    """A signal that the kernel sent, for a reason that is no fault of an instruction."""
    name = signal_name(fault.signal)
    if fault.code == SI_TIMER:
        return Cause(f"{name} sent by a timer", "Look for timer_create() in the program.")
    if fault.code == SI_KERNEL and (told := _LIMITS.get(fault.signal)):
        return Cause(*told)
    return Cause(f"killed by {name} ({code_name(fault.signal, fault.code)})", "")


_LIMITS: dict[int, tuple[str, str]] = {
    signal.SIGXCPU: ("CPU time limit exceeded", "RLIMIT_CPU: see ulimit -t."),
    signal.SIGXFSZ: ("file size limit exceeded", "RLIMIT_FSIZE: see ulimit -f."),
    signal.SIGQUIT: ("SIGQUIT from the terminal", "Somebody pressed the key for it."),
}


def _sent(fault: Fault, frames: Sequence[Frame]) -> Cause | None:
    if fault.sender_pid is None:
        return None
    name = signal_name(fault.signal)
    if fault.sender_pid != fault.pid:
        inside = f"by process {fault.sender_pid}"
        who = inside if fault.sender_pid else "from outside of its pid namespace"
        return Cause(
            f"{name} sent {who} (uid {fault.sender_uid})",
            "The process was killed; its own code did not fail.",
        )
    if fault.signal == signal.SIGABRT:
        return None
    how = next((n for f in frames if (n := f.function.lstrip("_")) in _SENDERS), "")
    return Cause(
        f"{name} sent by the process to itself" + (f" with {how}()" if how else ""),
        "Look who called raise() or kill().",
    )


def _stack_overflow(fault: Fault, frames: Sequence[Frame]) -> Cause | None:
    if fault.signal not in (signal.SIGSEGV, signal.SIGBUS) or fault.address is None:
        return None
    low = fault.stack_low
    near = low is not None and low - OVERFLOW_REACH <= fault.address < low
    below = fault.sp - OVERFLOW_REACH <= fault.address < fault.sp + 4096
    if not below or not (near or fault.stack_overflow):
        return None
    at = f"stack overflow at 0x{fault.address:x}"
    if cycle := find_cycle([frame_key(frame) for frame in frames]):
        named = (key.partition("!") for key in cycle[:_MAX_CYCLE_NAMES])
        names = [f"{function}()" if function else place for place, _, function in named]
        more = ["..."] if len(cycle) > _MAX_CYCLE_NAMES else []
        return Cause(
            f"{at}: recursion of {', '.join([*names, *more])}",
            "It calls itself without end, or deeper than the thread's stack allows.",
        )
    return Cause(
        at, "A function calls itself without end, or needs more stack than the thread has."
    )


def _jump(fault: Fault, _frames: Sequence[Frame]) -> Cause | None:
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
    sentence = f"wild jump: nothing is mapped at 0x{fault.pc:x}"
    if fault.beside == "near":
        unloaded = "Probably code that was unloaded before: dlclose(), or a JIT's."
        return Cause(f"{sentence}, probably unloaded before", f"{hint} {unloaded}")
    return Cause(sentence, hint)


def _wild_target(fault: Fault, _frames: Sequence[Frame]) -> Cause | None:
    """A jump to where no code can be: refused at the jump itself, without an address."""
    hidden = fault.signal in (signal.SIGSEGV, signal.SIGBUS) and fault.code == SI_KERNEL
    if not hidden or fault.access or fault.instruction is None or fault.target is None:
        return None
    if is_canonical(fault.machine, fault.target):
        return None
    verb = _JUMPS[fault.instruction.mnemonic]
    at = f"wild jump: {verb} to 0x{fault.target:x} (not a canonical address)"
    if verb == "return":
        return Cause(
            f"{at}, probably an overwritten return address",
            "Probably a buffer on the stack of the function at the top was overrun.",
        )
    operand = fault.instruction.operand
    of = f", {operand.name} is 0x{operand.value:x}" if operand else ""
    return Cause(f"{at}{of}", "The function pointer was overwritten, or never set.")


def _null_pointer(fault: Fault, frames: Sequence[Frame]) -> Cause | None:
    if fault.signal != signal.SIGSEGV or fault.address is None:
        return None
    behind = fault.address >= _END - NULL_LIMIT and _has_null(fault)
    if not behind and fault.address >= NULL_LIMIT:
        return None
    offset = fault.address - _END if behind else fault.address
    hint = "A pointer was null where the code expects an object"
    hint += f"; {_signed(offset)} is the offset into it." if offset else "."
    return _with_libc(
        Cause(f"null pointer: {_what(fault)} at 0x{fault.address:x}{_registers(fault)}", hint),
        frames,
    )


def _forbidden(fault: Fault, frames: Sequence[Frame]) -> Cause | None:
    if fault.signal != signal.SIGSEGV or fault.address is None:
        return None
    at = f"0x{fault.address:x}{_where(fault)}"
    if fault.code == SEGV_PKUERR:
        return Cause(
            f"protection key: {_what(fault)} at {at}{_registers(fault)}",
            "The thread's PKRU register forbids this memory: see pkeys(7).",
        )
    if fault.code != SEGV_ACCERR:
        return None
    if fault.region and not fault.region.readable:
        return _with_libc(
            Cause(
                f"guard page: {_what(fault)} at {at}{_registers(fault)}",
                "The memory is mapped without any permission: a guard behind a stack or a buffer, "
                "or memory given back.",
            ),
            frames,
        )
    kind = "write to read-only memory" if _writes(fault) else "access without permission"
    return _with_libc(
        Cause(
            f"{kind}: {_what(fault)} at {at}{_registers(fault)}",
            "Constants and code cannot be written.",
        ),
        frames,
    )


def _misaligned(fault: Fault, _frames: Sequence[Frame]) -> Cause | None:
    """Refused by the processor though the address is canonical."""
    if (fault.signal, fault.code) == (signal.SIGBUS, BUS_ADRALN):
        at = "" if fault.address is None else f" at 0x{fault.address:x}"
        return Cause(
            f"bus error: misaligned {_what(fault)}{at}{_registers(fault)}",
            "The instruction wants an address that is a multiple of its size.",
        )
    if (fault.signal, fault.code) != (signal.SIGSEGV, SI_KERNEL) or fault.access is None:
        return None
    if fault.address is None or not is_canonical(fault.machine, fault.address):
        return None
    name = fault.instruction.mnemonic if fault.instruction else ""
    return Cause(
        f"misaligned {_what(fault)} at 0x{fault.address:x}{_registers(fault)}",
        f"{name} wants an address that is a multiple of {fault.access.size}: a cast to a type of "
        "stricter alignment, or a stack that is not aligned.",
    )


def _wild_pointer(fault: Fault, frames: Sequence[Frame]) -> Cause | None:
    hidden = fault.signal == signal.SIGBUS and fault.code == SI_KERNEL  # #SS: by rsp or rbp
    if fault.signal != signal.SIGSEGV and not hidden:
        return None
    hint = "The pointer was overwritten, never set, or its memory is gone."
    if fault.address is not None:
        at = f"0x{fault.address:x}{_kind_of_address(fault.machine, fault.address)}"
        sentence = f"wild pointer: {_what(fault)} at {at}{_registers(fault)}"
        guess = guess_origin(fault)
        if guess:
            sentence, hint = f"{sentence}, {guess.label}", guess.hint
        return _with_libc(Cause(sentence, hint), frames)
    if fault.code != SI_KERNEL or _is_hlt(fault):
        return None
    if fault.instruction and fault.instruction.mnemonic in _PRIVILEGED:
        return Cause(
            f"privileged instruction ({fault.instruction.mnemonic})",
            "Only a kernel may execute it: probably the process jumped into data.",
        )
    return Cause("wild pointer: access to an address that is not canonical", hint)


def _bus_error(fault: Fault, _frames: Sequence[Frame]) -> Cause | None:
    if fault.signal != signal.SIGBUS or fault.address is None:
        return None
    at = f"0x{fault.address:x}"
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


def _arithmetic(fault: Fault, _frames: Sequence[Frame]) -> Cause | None:
    if fault.signal != signal.SIGFPE:
        return None
    name = code_name(fault.signal, fault.code)
    if name == "FPE_INTDIV":
        return _division(fault)
    what = _FLOATS.get(name)
    return Cause(f"{what} ({name})" if what else f"arithmetic error ({name})", _FLOAT_HINT)


_FLOATS = {
    "FPE_INTOVF": "integer overflow",
    "FPE_FLTDIV": "floating-point division by zero",
    "FPE_FLTOVF": "floating-point overflow",
    "FPE_FLTUND": "floating-point underflow",
    "FPE_FLTRES": "inexact floating-point result",
    "FPE_FLTINV": "invalid floating-point operation",
}
_FLOAT_HINT = "The program asked for such traps: see feenableexcept(3)."


def _division(fault: Fault) -> Cause:
    """x86-64 has one trap for both; aarch64 has none."""
    if fault.divisor is None or fault.instruction is None:
        return Cause("division by zero, or its overflow", "")
    operand = fault.instruction.operand
    if operand:
        divisor, size = operand.name, operand.size
    else:
        access = fault.instruction.accesses[0]
        divisor, size = f"the divisor at 0x{access.address:x}", access.size
    if fault.divisor == 0:
        return Cause(f"division by zero: {divisor} is 0", "")
    if fault.instruction.mnemonic == "idiv" and fault.divisor == (1 << 8 * size) - 1:
        return Cause(
            f"integer division overflow: {divisor} is -1",
            f"The smallest integer of {8 * size} bits divided by -1 has no result.",
        )
    return Cause(
        f"integer division overflow: {divisor} is 0x{fault.divisor:x}",
        f"The quotient does not fit into {8 * size} bits.",
    )


def _illegal(fault: Fault, _frames: Sequence[Frame]) -> Cause | None:
    if fault.signal != signal.SIGILL:
        return None
    if fault.instruction and fault.instruction.mnemonic in _TRAPS:
        return _trap(fault.instruction.mnemonic)
    if fault.instruction:
        name = fault.instruction.mnemonic
        return Cause(
            f"illegal instruction ({name}) at 0x{fault.pc:x}",
            f"Probably this CPU does not have {name}: the code was built for a newer one.",
        )
    return Cause(
        f"illegal instruction at 0x{fault.pc:x}",
        "The code is not for this CPU, or the process jumped into data.",
    )


def _breakpoint(fault: Fault, _frames: Sequence[Frame]) -> Cause | None:
    if fault.signal != signal.SIGTRAP:
        return None
    if fault.instruction and fault.instruction.mnemonic in _TRAPS:
        return _trap(fault.instruction.mnemonic)
    hint = "Often a failed check of a runtime."
    if fault.instruction and fault.instruction.mnemonic == _INT3:
        return Cause("breakpoint (int3) without a debugger", hint)
    return Cause("breakpoint or trap without a debugger", hint)


def _trap(mnemonic: str) -> Cause:
    return Cause(
        f"trap instruction ({mnemonic})",
        "The compiler puts it where code must not come: __builtin_trap(), a failed "
        "check, or the end of a function that must not return.",
    )


def _seccomp(fault: Fault, _frames: Sequence[Frame]) -> Cause | None:
    if fault.signal != signal.SIGSYS or fault.code != SYS_SECCOMP:
        return None
    name = fault.syscall_name or str(fault.syscall)
    return Cause(
        f"seccomp: system call {name} is forbidden",
        "The process's own or its container's seccomp profile traps this call.",
    )


_RULES: tuple[Callable[[Fault, Sequence[Frame]], Cause | None], ...] = (
    _sent,
    _seccomp,
    _stack_overflow,
    _jump,
    _wild_target,
    _null_pointer,
    _forbidden,
    _misaligned,
    _wild_pointer,
    _bus_error,
    _arithmetic,
    _illegal,
    _breakpoint,
)


def _is_hlt(fault: Fault) -> bool:
    """Musl's own way to abort, on x86-64."""
    return bool(fault.instruction and fault.instruction.mnemonic == _HLT)


def _with_libc(cause: Cause, frames: Sequence[Frame]) -> Cause:
    """Says so where it was libc's code that was handed the pointer."""
    if not frames or not in_libc(frames[0]):
        return cause
    function = frames[0].function
    sentence = f"{cause.sentence}, in {f'{function}()' if function else 'a function of libc'}"
    if not is_allocator(frames[0]):
        hint = "It was handed to libc, or malloc's records are corrupt: look at the caller."
        return Cause(sentence, f"{cause.hint} {hint}")
    return Cause(
        f"{sentence}: probably heap corruption",
        "Probably memory was freed twice, was never allocated, or an overrun destroyed malloc's "
        "records; the stack shows where it was noticed.",
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


def _has_null(fault: Fault) -> bool:
    names = fault.access.registers if fault.access else ()
    return any(fault.registers.get(name) == 0 for name in names)


def _registers(fault: Fault) -> str:
    """Such as ", rax is null": what the address was made of."""
    names = dict.fromkeys(n for n in (fault.access.registers if fault.access else ()) if n != "rip")
    parts = (f"{n} is {_value(fault.registers[n])}" for n in names if n in fault.registers)
    joined = ", ".join(parts)
    return f", {joined}" if joined else ""


def _value(value: int) -> str:
    return f"0x{value:x}" if value else "null"


def _signed(value: int) -> str:
    return f"-0x{-value:x}" if value < 0 else f"0x{value:x}"


def _kind_of_address(machine: Machine, address: int) -> str:
    if not is_canonical(machine, address):
        return " (not a canonical address)"
    return " (the kernel's half)" if address >= _KERNEL_HALF else ""


def _where(fault: Fault) -> str:
    path = fault.region.path if fault.region else ""
    return f" in {base_name(path)}" if path else ""
