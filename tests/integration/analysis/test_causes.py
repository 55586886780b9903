"""The cause of real deaths, and of programs that nobody has seen before."""

import random
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.integration.analysis.conftest import analyze_file, compile_c, crasher

MakeCore = Callable[..., Path]

CAUSES = {
    "null_read": "null pointer: read of 4 bytes at 0x0, rax is null",
    "null_write": "null pointer: write of 4 bytes at 0x0, rax is null",
    "wild": "wild pointer: read of 4 bytes at 0x123456789abc",
    "non_canonical": "wild pointer: read of 4 bytes at 0xdead00000000beef (not a canonical",
    "call_null": "null function pointer: call of 0x0",
    "exec_data": "execution of data: jump to 0x",
    "ro_write": "write to read-only memory: write of 1 byte at 0x",
    "bus": "bus error: read of 1 byte past the end of memfd:crasher",
    "ill": "trap instruction (ud2)",
    "div0": "division by zero",
    "int3": "breakpoint or trap without a debugger",
    "abort_call": "abort() was called",
    "assert_false": "assertion failed",
    "kill_self": "SIGSEGV sent by the process to itself",
    "raise_abrt": "SIGABRT raised by the process itself",
    "seccomp_trap": "seccomp: system call acct is forbidden",
    "overflow_main": "stack overflow at 0x",
    "overflow_thread": "stack overflow at 0x",
    "overflow_small_thread": "stack overflow at 0x",
    "overflow_supplied_stack": "stack overflow at 0x",
}


@pytest.mark.parametrize("libc", ["glibc", "musl"])
@pytest.mark.parametrize("way", CAUSES)
def test_a_snapshot_tells_why(snapshot: MakeCore, libc: str, way: str) -> None:
    assert analyze_file(snapshot(crasher(libc), way)).cause.startswith(CAUSES[way])


@pytest.mark.parametrize("way", ["null_write", "non_canonical", "bus", "overflow_main", "ro_write"])
def test_a_kernel_core_tells_the_same(kernel_core: MakeCore, way: str) -> None:
    analysis = analyze_file(kernel_core(crasher("glibc"), way))
    assert analysis.cause.startswith(CAUSES[way])
    assert analysis.involvement == "unknown"


def test_a_full_core_has_the_message_of_an_abort(kernel_core: MakeCore) -> None:
    cause = analyze_file(kernel_core(crasher("glibc"), "assert_false")).cause
    assert cause.startswith("assertion failed: crasher: ")
    assert cause.endswith("failed.")


def test_a_kill_by_somebody_else_is_not_the_programs_fault(
    snapshot: MakeCore, tmp_path: Path
) -> None:
    source = """
        #include <signal.h>
        #include <sys/wait.h>
        #include <unistd.h>
        int main(void) {
            if (fork() == 0) { kill(getppid(), SIGSEGV); _exit(0); }
            for (;;) pause();
        }
    """
    cause = analyze_file(snapshot(compile_c(source, tmp_path / "app"))).cause
    assert cause.startswith("SIGSEGV sent by process ")


REGISTERS = ["rax", "rbx", "rcx", "rdx", "rsi", "rdi", "r8", "r9", "r10", "r11", "r12", "r13"]
WIDTHS = {1: "b", 2: "w", 4: "l", 8: "q"}


def random_accesses() -> list[tuple[str, str, int]]:
    """Faulting instructions with the causes they must get: register, offset, width, direction."""
    choice = random.Random(20240229)
    cases = []
    for _ in range(12):
        register, width = choice.choice(REGISTERS), choice.choice([1, 2, 4, 8])
        offset, write = choice.randrange(0x8000), choice.random() < 0.5
        pointer = choice.choice([0, 0, 0x1234_5678_0000, 0xABCD_0000_0000_0000])
        action = f"{'write' if write else 'read'} of {width} byte{'s' if width > 1 else ''}"
        address, held = pointer + offset, f"{register} is 0x{pointer:x}"
        if pointer == 0:
            cause = f"null pointer: {action} at 0x{address:x}, {register} is null"
        elif pointer >> 47:
            cause = f"wild pointer: {action} at 0x{address:x} (not a canonical address), {held}"
        else:
            cause = f"wild pointer: {action} at 0x{address:x}, {held}"
        verb = ("mov" if write else "cmp") + WIDTHS[width]
        body = f"movabs ${pointer}, %{register}; {verb} $0, {offset}(%{register})"
        cases.append((body, cause, width))
    return cases


@pytest.mark.parametrize(("body", "cause", "width"), random_accesses())
def test_any_access_is_told_by_register_offset_width_and_direction(
    snapshot: MakeCore, tmp_path: Path, body: str, cause: str, width: int
) -> None:
    source = f'int main(void) {{ __asm__ volatile("{body}"); return {width}; }}'
    assert analyze_file(snapshot(compile_c(source, tmp_path / "app"))).cause == cause


@pytest.mark.parametrize("dividend", ["1", "(-2147483647 - 1)"])
def test_a_division_overflow_is_no_division_by_zero(
    snapshot: MakeCore, tmp_path: Path, dividend: str
) -> None:
    divisor = "0" if dividend == "1" else "-1"
    source = (
        f"int main(void) {{ volatile int a = {dividend}, b = {divisor};"
        ' int hi = a >> 31, lo = a; __asm__ volatile("idivl %2" : "+a"(lo), "+d"(hi)'
        ' : "r"(b)); return lo; }'
    )
    cause = analyze_file(snapshot(compile_c(source, tmp_path / "app"))).cause
    expected = "division by zero" if divisor == "0" else "integer division overflow"
    assert cause == expected
