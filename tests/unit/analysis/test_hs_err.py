"""The log of a JVM, read: real ones of two versions, and what others may hold.

- the crashing thread, the error and the frames, as Java writes methods
- a native method that the VM's unwinder missed is where the VM's Java frames have it
- nothing that may be secret is looked at
"""

from pathlib import Path

import pytest

from stillframe.analysis.hs_err import MAX_CHARACTERS, MAX_FRAMES, HsErr, parse, readable
from stillframe.analysis.java import said, summary

GOLDEN = Path(__file__).parents[2] / "golden/hs_err"


def golden(name: str) -> HsErr:
    log = parse((GOLDEN / f"{name}.log").read_bytes())
    assert log is not None
    return log


def java(name: str) -> list[tuple[str, int | None]]:
    return [(frame.function, frame.offset) for frame in golden(name).stack if frame.java]


STUB = ("~StubRoutines::call_stub", None)


def test_a_fault_in_the_vm_has_the_java_code_that_called_it() -> None:
    log = golden("25-unsafe")
    assert log.problematic_frame == "V [libjvm.so+0x11a91ed] Unsafe_PutLong+0xad"
    assert log.vm.startswith("OpenJDK 64-Bit Server VM Temurin-25.0.2+10 (25.0.2+10-LTS, interpr")
    assert (log.thread, log.state) == ('JavaThread "main"', "_thread_in_vm")
    assert log.siginfo.startswith("si_signo: 11 (SIGSEGV), si_code: 1 (SEGV_MAPERR), si_addr: 0x00")
    assert (log.stack[0].module, log.stack[0].offset) == ("libjvm.so", 0x11A91ED)
    assert log.stack[0].function == "Unsafe_PutLong"
    assert java("25-unsafe") == [
        ("jdk.internal.misc.Unsafe.putLong(Object, long, long)", 0),
        ("jdk.internal.misc.Unsafe.putAddress(Object, long, long)", 24),
        ("jdk.internal.misc.Unsafe.putAddress(long, long)", 4),
        ("sun.misc.Unsafe.putAddress(long, long)", 8),
        ("Crash.unsafe()", 5),
        ("Crash.main(String[])", 262),
        STUB,
    ]
    assert log.stack[-1].function == "ThreadJavaMain"


def test_compiled_code_has_a_name_and_no_bytecode() -> None:
    assert java("17-compiled")[:2] == [
        ("Crash.poke(Unsafe, long, int[])", None),
        ("Crash.compiled()", 40),
    ]
    assert golden("17-compiled").state == "_thread_in_Java"


def test_a_native_method_that_the_unwinder_missed_is_in_the_stack() -> None:
    assert [frame.function for frame in golden("17-jni").native_frames[:2]] == [
        "write_to",
        "Crash.jni()",
    ]
    assert java("17-jni")[:2] == [("Crash.write(long)", 0), ("Crash.jni()", 9)]


def test_where_the_vm_could_not_unwind_its_java_frames_go_on() -> None:
    text = (GOLDEN / "17-jni.log").read_text()
    start, end = text.index("j  Crash.jni"), text.index("\nJava frames:")
    log = parse((text[:start] + text[end:]).encode())
    assert log is not None
    assert [frame.function for frame in log.stack[:3]] == [
        "write_to",
        "Crash.write(long)",
        "Crash.jni()",
    ]


def test_an_error_of_the_vm_is_told_and_a_signal_is_not() -> None:
    log = golden("17-out-of-memory")
    error = "Internal Error (debug.cpp:362): fatal error: OutOfMemory encountered: Java heap space"
    assert log.error == error
    assert said(log) == f"The JVM says: {error}."
    assert golden("17-jni").error.startswith("SIGSEGV (0xb) at pc=0x")
    assert said(golden("17-jni")) == ""


def test_too_little_memory_for_the_vm_is_told() -> None:
    log = parse(
        b"#\n# There is insufficient memory for the Java Runtime Environment to continue.\n"
        b"# Native memory allocation (mmap) failed to map 65536 bytes.\n# Possible reasons:\n"
    )
    assert log is not None
    assert log.error == (
        "There is insufficient memory for the Java Runtime Environment to continue: "
        "Native memory allocation (mmap) failed to map 65536 bytes"
    )


def test_a_thread_of_the_vm_has_no_state() -> None:
    log = parse(
        b"# A fatal error has been detected by the Java Runtime Environment:\n"
        b'Current thread (0x7f01):  VMThread "VM Thread" [stack: 0x7f02,0x7f03] [id=12]\n'
    )
    assert log is not None
    assert (log.thread, log.state, log.tid) == ('VMThread "VM Thread"', "", 12)


def test_neither_command_line_nor_environment_is_looked_at() -> None:
    secret = "hunter2"
    text = (GOLDEN / "17-jni.log").read_text()
    text = text.replace("Command Line:", f"Command Line: -Dpassword={secret}")
    text += f"\nEnvironment Variables:\nPASSWORD={secret}\n"
    log = parse(text.encode())
    assert log is not None
    assert secret not in f"{log} {summary(log)}"


@pytest.mark.parametrize("data", [b"", b"\0" * 100, b"\xff\xfe", b"# no log\n", b"hs_err"])
def test_what_is_no_log_is_none(data: bytes) -> None:
    assert parse(data) is None


def test_a_huge_log_is_cut() -> None:
    heading = b"# A fatal error has been detected\nNative frames:\n"
    many = b"j  a.b()V+1\n" * MAX_CHARACTERS
    log = parse(heading + many + b'Current thread (0x1):  JavaThread "late" [id=1]\n')
    assert log is not None
    assert len(log.native_frames) == MAX_FRAMES
    assert log.thread == ""


@pytest.mark.parametrize(
    ("method", "words"),
    [
        ("A.f()V", "A.f()"),
        ("a.B$1.<init>(Z[BLa/C;)V", "a.B$1.<init>(boolean, byte[], C)"),
        ("A.f(Q)V", "A.f()"),
        ("A.f(La/;I)V", "A.f(, int)"),
        ("A.f(", "A.f("),
    ],
)
def test_a_method_is_written_as_java_does(method: str, words: str) -> None:
    assert readable(method) == words
