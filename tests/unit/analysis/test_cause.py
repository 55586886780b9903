"""One cause for each way to die, from plain facts; what is not known stays vague."""

import signal
from typing import Any

import pytest

from stillframe.analysis.cause import explain
from stillframe.analysis.fault import Fault, Region
from stillframe.analysis.instruction import Access, Instruction
from stillframe.analysis.model import Frame
from stillframe.analysis.signals import SEGV_ACCERR, SEGV_MAPERR, SI_KERNEL, SI_TKILL, SI_USER

TEXT = Region(True, False, True, "/app/server")
RODATA = Region(True, False, False, "/app/server")
DATA = Region(True, True, False, "/app/server")
GUARD = Region(False, False, False, "")
FILE = Region(True, False, False, "/data/index.db")
READ = Access("read", 8, 0x10, ("rax",))
WRITE = Access("write", 4, 0x10, ("rbx", "rcx"))
REGISTERS = {"rax": 0, "rbx": 0x4141, "rcx": 2}


def fault(number: int, code: int, address: int | None = None, **more: Any) -> Fault:
    facts: dict[str, Any] = {
        "sender_pid": None,
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
        "syscall": 0,
        "syscall_name": "",
    }
    return Fault(signal=number, code=code, address=address, **{**facts, **more})


def instruction(mnemonic: str, operand: int | None = None) -> Instruction:
    return Instruction(mnemonic, mnemonic, (), operand)


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
        "write to read-only memory: write of 4 bytes at 0x402000 in server",
    ),
    (
        fault(signal.SIGSEGV, SEGV_ACCERR, 0x402000, region=RODATA),
        "write to read-only memory: access at 0x402000 in server",
    ),
    (
        fault(signal.SIGSEGV, SEGV_ACCERR, 0x402000, region=GUARD, access=READ),
        "guard page: read of 8 bytes at 0x402000",
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
    (fault(signal.SIGFPE, 1, 0x401000), "division by zero"),
    (fault(signal.SIGFPE, 1, instruction=instruction("idiv", 0)), "division by zero"),
    (
        fault(signal.SIGFPE, 1, instruction=instruction("idiv", 0xFFFFFFFF)),
        "integer division overflow",
    ),
    (fault(signal.SIGFPE, 7), "arithmetic error (FPE_FLTINV)"),
    (fault(signal.SIGILL, 2, instruction=instruction("ud2")), "trap instruction (ud2)"),
    (fault(signal.SIGILL, 2), "illegal instruction at 0x401000"),
    (fault(signal.SIGTRAP, SI_KERNEL), "breakpoint or trap without a debugger"),
    (
        fault(signal.SIGSYS, 1, syscall=163, syscall_name="acct"),
        "seccomp: system call acct is forbidden",
    ),
    (fault(signal.SIGSYS, 1, syscall=999), "seccomp: system call 999 is forbidden"),
    (fault(signal.SIGSEGV, SI_USER, sender_pid=99), "SIGSEGV sent by process 99"),
    (
        fault(signal.SIGABRT, SI_USER, sender_pid=0),
        "SIGABRT sent from outside of its pid namespace",
    ),
    (
        fault(signal.SIGSEGV, SI_TKILL, sender_pid=10),
        "SIGSEGV sent by the process to itself",
    ),
    (fault(signal.SIGXCPU, SI_KERNEL), "killed by SIGXCPU (SI_KERNEL)"),
    (fault(0, 0), "no signal: a snapshot of a live process"),
]


@pytest.mark.parametrize(("facts", "sentence"), CASES, ids=[s for _, s in CASES])
def test_each_way_to_die_has_its_sentence(facts: Fault, sentence: str) -> None:
    assert explain(facts, [], "").sentence == sentence


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
        (["abort", "malloc_printerr", "free"], "", "heap corruption detected by malloc"),
        (["abort", "__cxa_throw", "f"], "", "uncaught C++ exception"),
        (["abort", "rust_panic", "f"], "", "panic"),
    ],
)
def test_an_abort_is_told_by_who_called_it(
    functions: list[str], message: str, sentence: str
) -> None:
    frames = [Frame(pc=1, trust="cfi", function=name) for name in functions]
    facts = fault(signal.SIGABRT, SI_TKILL, sender_pid=10)
    assert explain(facts, frames, message).sentence == sentence


def test_an_access_far_below_the_stack_is_no_overflow() -> None:
    facts = fault(signal.SIGSEGV, SEGV_MAPERR, 0x7FFD_FFFF_FFF8, sp=0x7FFE_0080_0000)
    assert explain(facts, [], "").sentence.startswith("wild pointer")
