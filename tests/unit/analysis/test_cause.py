"""One cause for each way to die, from plain facts; what is not known stays vague."""

import signal
from typing import Any

import pytest

from stillframe.analysis.cause import explain
from stillframe.analysis.fault import Fault, Region
from stillframe.analysis.instruction import Access, Instruction, Operand
from stillframe.analysis.model import Frame
from stillframe.analysis.signals import (
    SEGV_ACCERR,
    SEGV_MAPERR,
    SEGV_PKUERR,
    SI_KERNEL,
    SI_TKILL,
    SI_USER,
)
from stillframe.corefile.elf import Machine

TEXT = Region(True, False, True, "/app/server")
RODATA = Region(True, False, False, "/app/server")
DATA = Region(True, True, False, "/app/server")
GUARD = Region(False, False, False, "")
FILE = Region(True, False, False, "/data/index.db")
READ = Access("read", 8, 0x10, ("rax",))
VECTOR = Access("read", 16, 0x402001, ("rax",))
WRITE = Access("write", 4, 0x10, ("rbx", "rcx"))
REGISTERS = {"rax": 0, "rbx": 0x4141, "rcx": 2}


def fault(number: int, code: int, address: int | None = None, **more: Any) -> Fault:
    facts: dict[str, Any] = {
        "machine": Machine.X86_64,
        "sender_pid": None,
        "sender_uid": 1000,
        "pid": 10,
        "pc": 0x401000,
        "sp": 0x7FFE_0000_8000,
        "registers": REGISTERS,
        "region": None,
        "pc_region": TEXT,
        "stack_low": 0x7FFE_0000_0000,
        "stack_overflow": False,
        "instruction": None,
        "access": None,
        "target": None,
        "divisor": None,
        "beside": "",
        "freed_link": "",
        "syscall": 0,
        "syscall_name": "",
    }
    return Fault(signal=number, code=code, address=address, **{**facts, **more})


def instruction(mnemonic: str, name: str = "", value: int = 0, size: int = 8) -> Instruction:
    return Instruction(mnemonic, mnemonic, (), Operand(name, size, value) if name else None)


CASES: list[tuple[Fault, str]] = [
    (
        fault(signal.SIGSEGV, SEGV_MAPERR, 0x10, access=READ),
        "null pointer: read of 8 bytes at 0x10, rax is null",
    ),
    (
        fault(signal.SIGSEGV, SEGV_MAPERR, 0x10, access=WRITE),
        "null pointer: write of 4 bytes at 0x10, rbx is 0x4141, rcx is 0x2",
    ),
    (fault(signal.SIGSEGV, SEGV_MAPERR, 0xFFFF), "null pointer: access at 0xffff"),
    (fault(signal.SIGSEGV, SEGV_MAPERR, 0x10000), "wild pointer: access at 0x10000"),
    (
        fault(signal.SIGSEGV, SI_KERNEL, 0xDEAD << 48, access=READ),
        "wild pointer: read of 8 bytes at 0xdead000000000000 (not a canonical address), "
        "rax is null",
    ),
    (
        fault(signal.SIGSEGV, SI_KERNEL),
        "wild pointer: access to an address that is not canonical",
    ),
    (
        fault(signal.SIGSEGV, SI_KERNEL, instruction=instruction("hlt")),
        "abort: the process stopped itself (hlt)",
    ),
    (
        fault(signal.SIGSEGV, SEGV_MAPERR, 0, pc=0, pc_region=None),
        "null function pointer: call of 0x0",
    ),
    (
        fault(signal.SIGSEGV, SEGV_MAPERR, 0x777777, pc=0x777777, pc_region=None),
        "wild jump: nothing is mapped at 0x777777",
    ),
    (
        fault(signal.SIGSEGV, SEGV_ACCERR, 0x601000, pc=0x601000, region=DATA, pc_region=DATA),
        "execution of data: jump to 0x601000 in server",
    ),
    (
        fault(signal.SIGSEGV, SEGV_ACCERR, 0x402000, region=RODATA, access=WRITE),
        "write to read-only memory: write of 4 bytes at 0x402000 in server, "
        "rbx is 0x4141, rcx is 0x2",
    ),
    (
        fault(signal.SIGSEGV, SEGV_ACCERR, 0x402000, region=RODATA),
        "write to read-only memory: access at 0x402000 in server",
    ),
    (
        fault(signal.SIGSEGV, SEGV_ACCERR, 0x402000, region=GUARD, access=READ),
        "guard page: read of 8 bytes at 0x402000, rax is null",
    ),
    (
        fault(signal.SIGSEGV, SEGV_ACCERR, 0x402000),
        "access without permission: access at 0x402000",
    ),
    (
        fault(signal.SIGSEGV, SEGV_MAPERR, 0x7FFD_FFFF_FFF8, sp=0x7FFD_FFFF_FFF8),
        "stack overflow at 0x7ffdfffffff8",
    ),
    (
        fault(signal.SIGSEGV, SEGV_ACCERR, 0x7FFD_FFFF_F000, sp=0x7FFE_0000_0010, region=GUARD),
        "stack overflow at 0x7ffdfffff000",
    ),
    (
        fault(signal.SIGSEGV, SEGV_ACCERR, 0x5000_0FF8, sp=0x5000_1000, stack_overflow=True),
        "stack overflow at 0x50000ff8",
    ),
    (
        fault(signal.SIGBUS, 2, 0x7000, region=FILE, access=READ),
        "bus error: read of 8 bytes past the end of index.db at 0x7000",
    ),
    (
        fault(signal.SIGBUS, 2, 0x7000, region=GUARD),
        "bus error: access at 0x7000, no memory behind it",
    ),
    (fault(signal.SIGBUS, 1, 0x7001), "bus error: misaligned access at 0x7001"),
    (fault(signal.SIGBUS, 4, 0x7000), "bus error: memory failure at 0x7000"),
    (fault(signal.SIGFPE, 1, 0x401000), "division by zero, or its overflow"),
    (
        fault(signal.SIGFPE, 1, instruction=instruction("idiv", "ecx", 0, 4), divisor=0),
        "division by zero: ecx is 0",
    ),
    (
        fault(signal.SIGFPE, 1, instruction=instruction("idiv", "cx", 0xFFFF, 2), divisor=0xFFFF),
        "integer division overflow: cx is -1",
    ),
    (
        fault(signal.SIGFPE, 1, instruction=instruction("div", "rcx", 3), divisor=3),
        "integer division overflow: rcx is 0x3",
    ),
    (fault(signal.SIGFPE, 7), "invalid floating-point operation (FPE_FLTINV)"),
    (fault(signal.SIGFPE, 14), "arithmetic error (14)"),
    (fault(signal.SIGILL, 2, instruction=instruction("ud2")), "trap instruction (ud2)"),
    (fault(signal.SIGILL, 2), "illegal instruction at 0x401000"),
    (
        fault(signal.SIGILL, 2, instruction=instruction("vpaddd")),
        "illegal instruction (vpaddd) at 0x401000",
    ),
    (fault(signal.SIGTRAP, SI_KERNEL), "breakpoint or trap without a debugger"),
    (
        fault(signal.SIGTRAP, SI_KERNEL, instruction=instruction("int3")),
        "breakpoint (int3) without a debugger",
    ),
    (fault(signal.SIGTRAP, 1, instruction=instruction("brk")), "trap instruction (brk)"),
    (
        fault(signal.SIGSYS, 1, syscall=163, syscall_name="acct"),
        "seccomp: system call acct is forbidden",
    ),
    (fault(signal.SIGSYS, 1, syscall=999), "seccomp: system call 999 is forbidden"),
    (fault(signal.SIGSEGV, SI_USER, sender_pid=99), "SIGSEGV sent by process 99 (uid 1000)"),
    (
        fault(signal.SIGABRT, SI_USER, sender_pid=0),
        "SIGABRT sent from outside of its pid namespace (uid 1000)",
    ),
    (
        fault(signal.SIGSEGV, SI_TKILL, sender_pid=10),
        "SIGSEGV sent by the process to itself",
    ),
    (
        fault(signal.SIGSEGV, SEGV_MAPERR, 0xFFFF_9C3F_2000, machine=Machine.AARCH64),
        "wild pointer: access at 0xffff9c3f2000",
    ),
    (fault(signal.SIGXCPU, SI_KERNEL), "CPU time limit exceeded"),
    (fault(signal.SIGXFSZ, SI_KERNEL), "file size limit exceeded"),
    (fault(signal.SIGQUIT, SI_KERNEL), "SIGQUIT from the terminal"),
    (fault(signal.SIGALRM, SI_KERNEL), "killed by SIGALRM (SI_KERNEL)"),
    (fault(signal.SIGALRM, -2), "SIGALRM sent by a timer"),
    (
        fault(signal.SIGSEGV, SEGV_PKUERR, 0x402000, region=DATA, access=READ),
        "protection key: read of 8 bytes at 0x402000 in server, rax is null",
    ),
    (
        fault(signal.SIGSEGV, SEGV_MAPERR, (1 << 64) - 8, access=READ),
        "null pointer: read of 8 bytes at 0xfffffffffffffff8, rax is null",
    ),
    (
        fault(signal.SIGSEGV, SEGV_MAPERR, 0xFFFF8000 << 32, access=WRITE),
        "wild pointer: write of 4 bytes at 0xffff800000000000 (the kernel's half), "
        "rbx is 0x4141, rcx is 0x2",
    ),
    (
        fault(
            signal.SIGSEGV, SI_KERNEL, 0x402001, access=VECTOR, instruction=instruction("movaps")
        ),
        "misaligned read of 16 bytes at 0x402001, rax is null",
    ),
    (
        fault(signal.SIGBUS, SI_KERNEL, 0xDEAD << 48, access=READ),
        "wild pointer: read of 8 bytes at 0xdead000000000000 (not a canonical address), "
        "rax is null",
    ),
    (
        fault(signal.SIGSEGV, SI_KERNEL, instruction=instruction("cli")),
        "privileged instruction (cli)",
    ),
    (
        fault(
            signal.SIGSEGV,
            SI_KERNEL,
            instruction=instruction("call", "rdx", 0xDEAD << 48),
            target=0xDEAD << 48,
        ),
        "wild jump: call to 0xdead000000000000 (not a canonical address), "
        "rdx is 0xdead000000000000",
    ),
    (
        fault(signal.SIGSEGV, SI_KERNEL, instruction=instruction("ret"), target=0x4141 << 48),
        "wild jump: return to 0x4141000000000000 (not a canonical address), "
        "probably an overwritten return address",
    ),
    (
        fault(signal.SIGSEGV, SEGV_MAPERR, 0x777777, pc=0x777777, pc_region=None, beside="near"),
        "wild jump: nothing is mapped at 0x777777, probably unloaded before",
    ),
    (fault(0, 0), "no signal: a snapshot of a live process"),
]


@pytest.mark.parametrize(("facts", "sentence"), CASES, ids=[s for _, s in CASES])
def test_each_way_to_die_has_its_sentence(facts: Fault, sentence: str) -> None:
    assert explain(facts, [], "", "").sentence == sentence


@pytest.mark.parametrize(
    ("functions", "message", "sentence"),
    [
        (["raise", "abort", "main"], "", "abort() was called"),
        (["raise", "main"], "", "SIGABRT raised by the process itself"),
        (["raise", "abort", "main"], "out of tea", "abort: out of tea"),
        (["raise", "abort", "__assert_fail", "main"], "", "assertion failed"),
        (
            ["raise", "abort", "__assert_fail", "main"],
            "app: a.c:7: main: Assertion `x' failed.",
            "assertion failed: app: a.c:7: main: Assertion `x' failed.",
        ),
        (["abort", "__fortify_fail", "__stack_chk_fail", "f"], "", "stack smashing detected"),
        (["abort", "__fortify_fail", "__chk_fail", "f"], "", "buffer overflow detected"),
        (
            ["abort", "__fortify_fail", "__chk_fail", "f"],
            "*** buffer overflow detected ***: terminated",
            "buffer overflow detected",
        ),
        (["abort", "__cxa_throw", "f"], "", "uncaught C++ exception"),
        (["abort", "std::terminate()", "__cxa_throw", "f"], "", "uncaught C++ exception"),
        (
            ["abort", "__gxx_personality_v0", "_Unwind_RaiseException", "__cxa_throw", "f"],
            "",
            "C++ exception left a noexcept function",
        ),
        (["abort", "std::terminate()", "__cxa_pure_virtual"], "", "pure virtual function called"),
        (["abort", "_ZSt9terminatev", "f"], "", "std::terminate() was called"),
        (["abort", "rust_panic", "f"], "", "panic"),
    ],
)
def test_an_abort_is_told_by_who_called_it(
    functions: list[str], message: str, sentence: str
) -> None:
    frames = [Frame(pc=1, trust="cfi", function=name) for name in functions]
    facts = fault(signal.SIGABRT, SI_TKILL, sender_pid=10)
    assert explain(facts, frames, message, "").sentence == sentence


def test_an_access_far_below_the_stack_is_no_overflow() -> None:
    facts = fault(signal.SIGSEGV, SEGV_MAPERR, 0x7FFD_FFFF_FFF8, sp=0x7FFE_0080_0000)
    assert explain(facts, [], "", "").sentence.startswith("wild pointer")


LIBC = "/lib/x86_64-linux-gnu/libc.so.6"


def libc_frames(*functions: str) -> list[Frame]:
    frames = [Frame(pc=1, trust="cfi", function=name, module=LIBC) for name in functions]
    return [*frames, Frame(pc=1, trust="cfi", function="free", module="/app/server")]


@pytest.mark.parametrize(
    ("frames", "sentence"),
    [
        (libc_frames("raise", "abort", "", "__libc_free"), "heap corruption detected by malloc: x"),
        (libc_frames("raise", "abort"), "abort: x"),
        ([*libc_frames("raise", "abort"), *libc_frames("malloc")], "abort: x"),
    ],
)
def test_only_libcs_own_free_is_a_corrupted_heap(frames: list[Frame], sentence: str) -> None:
    facts = fault(signal.SIGABRT, SI_TKILL, sender_pid=10)
    assert explain(facts, frames, "x", "").sentence == sentence


def test_an_exception_is_named() -> None:
    facts = fault(signal.SIGABRT, SI_TKILL, sender_pid=10)
    frames = [Frame(pc=1, trust="cfi", function="__cxa_throw")]
    told = explain(facts, frames, "", "std::bad_alloc").sentence
    assert told == "uncaught C++ exception: std::bad_alloc"


def test_hlt_is_told_by_who_executed_it() -> None:
    facts = fault(signal.SIGSEGV, SI_KERNEL, instruction=instruction("hlt"))
    frames = [Frame(pc=1, trust="cfi", function="__stack_chk_fail")]
    assert explain(facts, frames, "", "").sentence == "stack smashing detected"


@pytest.mark.parametrize(
    ("functions", "end"),
    [
        (["f", "g"], "f8"),
        (["walk"] * 9, "f8: recursion of walk()"),
        (["b", "a"] * 9, "f8: recursion of a(), b()"),
        ([""] * 9, "f8: recursion of server+0x1240"),
        (["a", "b", "c", "d"] * 5, "f8: recursion of a(), b(), c(), ..."),
    ],
)
def test_a_recursion_that_overflows_the_stack_is_named(functions: list[str], end: str) -> None:
    facts = fault(signal.SIGSEGV, SEGV_MAPERR, 0x7FFD_FFFF_FFF8, sp=0x7FFD_FFFF_FFF8)
    frames = [
        Frame(pc=1, trust="cfi", module="/app/server", offset=0x1248, function=name)
        for name in functions
    ]
    assert explain(facts, frames, "", "").sentence == f"stack overflow at 0x7ffdffffff{end}"


@pytest.mark.parametrize(
    ("frame", "end"),
    [
        (libc_frames("strlen")[0], ", in strlen()"),
        (libc_frames("")[0], ", in a function of libc"),
        (libc_frames("realloc")[0], ", in realloc(): probably heap corruption"),
        (libc_frames()[0], ""),
    ],
)
def test_a_pointer_that_libc_was_handed_says_so(frame: Frame, end: str) -> None:
    facts = fault(signal.SIGSEGV, SEGV_MAPERR, 0x10, access=READ)
    told = explain(facts, [frame], "", "").sentence
    assert told == f"null pointer: read of 8 bytes at 0x10, rax is null{end}"


def test_who_sent_a_signal_to_itself_says_how() -> None:
    facts = fault(signal.SIGSEGV, SI_TKILL, sender_pid=10)
    told = explain(facts, libc_frames("", "raise"), "", "").sentence
    assert told == "SIGSEGV sent by the process to itself with raise()"


@pytest.mark.parametrize(
    ("value", "more", "label"),
    [
        ((1 << 64) - 1, {}, "probably an unchecked error: rax is -1"),
        ((1 << 64) - 12, {}, "probably an unchecked error: rax is -12"),
        (0x4141414141414141, {}, "probably filled with 0x41"),
        (0x6F77206F6C6C6568, {}, "probably overwritten by text"),
        (0x123456789ABC, {"beside": "near"}, "probably unmapped before"),
        (0x123456789ABC, {"beside": "behind"}, "probably past the end of a mapping"),
        (0x555555559, {"freed_link": "rax"}, "probably read from freed memory"),
        (0x123456789ABC, {}, ""),
    ],
)
def test_a_guess_where_a_pointer_came_from_says_probably(
    value: int, more: dict[str, Any], label: str
) -> None:
    access = Access("read", 8, value, ("rax",))
    facts = fault(
        signal.SIGSEGV, SEGV_MAPERR, value, registers={"rax": value}, access=access, **more
    )
    cause = explain(facts, [], "", "")
    assert cause.sentence.endswith(f"rax is 0x{value:x}{', ' if label else ''}{label}")
    assert ("robably" in cause.hint) is bool(label)
