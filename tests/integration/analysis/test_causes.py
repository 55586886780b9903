"""The cause of real deaths, where it is not the corpus's on glibc (``test_corpus``) or made up on
the spot (``test_generated_causes``): other libcs, other kinds of core, other processes."""

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.integration.analysis.conftest import CRASHERS, compile_c, crasher
from tests.integration.analysis.inprocess import analyze_here

MakeCore = Callable[..., Path]

MUSL = {
    "null_write": "null pointer: write of 4 bytes at 0x0, rax is null",
    "call_null": "null function pointer: call of 0x0",
    "ro_write": "write to read-only memory: write of 1 byte at 0x",
    "bus": "bus error: read of 1 byte past the end of memfd:crasher",
    "div0": "division by zero: ecx is 0",
    "assert_false": "assertion failed",
    "stack_smash": "stack smashing detected",
    "double_free": "null pointer: read of 8 bytes at 0x10, rax is null, in a function of libc",
    "raise_abrt": "SIGABRT raised by the process itself",
    "seccomp_trap": "seccomp: system call acct is forbidden",
    "overflow_small_thread": "stack overflow at 0x",
}
KERNEL = {
    "null_write": "null pointer: write of 4 bytes at 0x0, rax is null",
    "non_canonical": "wild pointer: read of 4 bytes at 0xdead00000000beef (not a canonical",
    "misaligned": "misaligned read of 16 bytes at 0x",
    "bus": "bus error: read of 1 byte past the end of memfd:crasher",
    "overflow_main": "stack overflow at 0x",
    "ro_write": "write to read-only memory: write of 1 byte at 0x",
    "assert_false": "assertion failed: crasher: ",
    "double_free": "heap corruption detected by malloc: free(): double free detected",
}


@pytest.mark.parametrize("way", MUSL)
def test_a_snapshot_of_musl_tells_why(snapshot: MakeCore, way: str) -> None:
    assert analyze_here(snapshot(crasher("musl"), way)).cause.startswith(MUSL[way])


@pytest.mark.parametrize("way", KERNEL)
def test_a_kernel_core_tells_the_same(kernel_core: MakeCore, way: str) -> None:
    analysis = analyze_here(kernel_core(crasher("glibc"), way))
    assert analysis.cause.startswith(KERNEL[way])
    assert analysis.involvement == "unknown"


def test_a_full_core_has_the_exception_itself(kernel_core: MakeCore) -> None:
    told = analyze_here(kernel_core(CRASHERS / "glibc/crasher++", "uncaught_exception")).cause
    assert told == "uncaught C++ exception: std::runtime_error"


@pytest.mark.parametrize("thrown", ["7", "app::bad<int>()", "(char const *)0"])
def test_an_exception_of_any_type_is_named(snapshot: MakeCore, tmp_path: Path, thrown: str) -> None:
    names = {"7": "int", "app::bad<int>()": "app::bad<int>", "(char const *)0": "char const*"}
    text, app = tmp_path / "app.cc", tmp_path / "app"
    text.write_text(
        "namespace app { template <typename T> struct bad { T first, second; }; }\n"
        f"int main() {{ throw {thrown}; }}\n"
    )
    subprocess.run(["g++", "-g", "-o", app, text], check=True)
    told = analyze_here(snapshot(app)).cause
    assert told == f"uncaught C++ exception: probably {names[thrown]}"


def test_a_kill_by_somebody_else_is_not_the_programs_fault(
    snapshot: MakeCore, tmp_path: Path
) -> None:
    source = """
        #define _GNU_SOURCE
        #include <signal.h>
        #include <stdio.h>
        #include <unistd.h>
        int main(int argc, char **argv) {
            int ends[2], child;
            char go;
            if (pipe(ends)) return 1;
            child = fork();
            if (child == 0) {
                if (setresuid(4242, -1, -1) || read(ends[0], &go, 1) != 1) return 1;
                kill(getppid(), SIGSEGV);
                _exit(0);
            }
            FILE *file = fopen(argv[1], "w");
            fprintf(file, "%d", child);
            fclose(file);
            for (write(ends[1], "g", 1);;) pause();
        }
    """
    text = tmp_path / "child"
    cause = analyze_here(snapshot(compile_c(source, tmp_path / "app", "-w"), text)).cause
    assert cause == f"SIGSEGV sent by process {text.read_text()} (uid 4242)"
