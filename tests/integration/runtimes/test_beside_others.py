"""Crash handlers that are preloaded beside us, in both orders, and AddressSanitizer.

- a handler that prints and dies, returns, exits or runs a program does so as without us, and the
  crash is reported once, as the fault it was; the siginfo, the trap and the backtrace that it
  prints are the same, but for the frames of ours that called it
- it owns every signal that libSegFault owned, the one that we stop threads with among them
- a fault that the application recovers from is none of its, nor of our business
- AddressSanitizer says what it says without us; gcc's, a library of its own, must be told that
  another one comes before it
"""

import re
from pathlib import Path
from signal import SIGABRT, SIGSEGV, Signals

import pytest

from tests.integration.preload.conftest import crasher_of
from tests.integration.runtimes.conftest import OURS, PROGRAMS, Case, Stage, crash, no_crash

CRASHER = crasher_of("glibc")
CXX = PROGRAMS / "cxx"
HANDLER = PROGRAMS / "segfault_handler.so"
ORDERS = {"before_us": (HANDLER, OURS), "after_us": (OURS, HANDLER)}
ENDINGS = {"reraise": -SIGSEGV, "return": -SIGSEGV, "exit": 7, "fork": -SIGSEGV}
CALLER = re.compile(
    r"(^\S+/segfault_handler\.so\S+\n)((\S+/libstillframe\.so\S+\n)+|\S+/libc\.so\.6\S+\n)", re.M
)
"""In a backtrace: the handler, and what called it, which is ours or libc's return from a signal."""


def without_caller(stderr: str) -> str:
    return CALLER.sub(r"\1", stderr)


def handled(order: str, way: str, by: Signals, status: int | None = None, **more: object) -> Case:
    return crash(
        f"{order}_{way}", CRASHER, way, by=by, status=status, preload=ORDERS[order], **more
    )


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("ending", ENDINGS)
def test_preloaded_handler_of_a_fault(stage: Stage, order: str, ending: str) -> None:
    case = handled(
        order,
        "null_read",
        SIGSEGV,
        ENDINGS[ending],
        address=0,
        frame="null_read",
        variables={"SEGFAULT_HANDLER": ending},
    )

    natively, _captured = stage.compare(case, without_caller)

    assert CALLER.search(natively.stderr)
    assert "*** segfault handler\n" in natively.stderr
    assert ("*** program ran\n" in natively.stderr) == (ending == "fork")


@pytest.mark.parametrize("order", ORDERS)
def test_preloaded_handler_of_an_abort(stage: Stage, order: str) -> None:
    natively, _captured = stage.compare(
        handled(order, "abort_call", SIGABRT, frame="abort_call"), without_caller
    )

    assert natively.stderr.endswith("*** segfault handler\n")


@pytest.mark.parametrize("order", ORDERS)
def test_preloaded_handler_of_an_uncaught_exception(stage: Stage, order: str) -> None:
    natively, _captured = stage.compare(
        crash(order, CXX, "uncaught", by=SIGABRT, frame="throw_error", preload=ORDERS[order]),
        without_caller,
    )

    assert natively.stderr.startswith("terminate called")
    assert natively.stderr.endswith("*** segfault handler\n")


@pytest.mark.parametrize("order", ORDERS)
def test_preloaded_handler_of_the_signal_that_stops_threads(stage: Stage, order: str) -> None:
    _natively, captured = stage.compare(
        handled(order, "with_threads", SIGSEGV, address=0, frame="null_read"), without_caller
    )

    note = captured.snapshot.note
    assert note["threads_captured"] == note["threads"] > 1


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("way", ["recovered", "recovered_on_stack"])
def test_recovered_fault_is_not_for_a_preloaded_handler(stage: Stage, order: str, way: str) -> None:
    natively, _captured = stage.compare(no_crash(order, CRASHER, way, preload=ORDERS[order]))

    assert natively.stderr == ""


GCC = PROGRAMS / "sanitized-gcc"
CLANG = PROGRAMS / "sanitized-clang"


def asan(compiler: str, way: str, options: str = "") -> dict[str, object]:
    return {"variables": {"ASAN_OPTIONS": f"verify_asan_link_order=0:{options}"}}


def sanitized(name: str, executable: Path) -> list[Case]:
    last = {"variables": {"ASAN_OPTIONS": "verify_asan_link_order=0"}}
    core = {"variables": {"ASAN_OPTIONS": "verify_asan_link_order=0:abort_on_error=1"}}
    return [
        no_crash(f"{name}_clean", executable, "clean", **last),
        no_crash(f"{name}_null_write", executable, "null_write", status=1, **last),
        no_crash(f"{name}_use_after_free", executable, "use_after_free", status=1, **last),
        crash(
            f"{name}_null_write_core",
            executable,
            "null_write",
            by=SIGSEGV,
            status=-SIGABRT,
            address=0,
            frame="null_write",
            **core,
        ),
        crash(
            f"{name}_use_after_free_core",
            executable,
            "use_after_free",
            by=SIGABRT,
            frame="use_after_free",
            **core,
        ),
        crash(f"{name}_abort", executable, "abort_call", by=SIGABRT, frame="abort_call", **last),
    ]


@pytest.mark.parametrize("case", [*sanitized("gcc", GCC), *sanitized("clang", CLANG)], ids=str)
def test_sanitizer_speaks_as_without_us(stage: Stage, case: Case) -> None:
    stage.compare(case)


def test_sanitizer_of_gcc_wants_to_come_first(stage: Stage) -> None:
    captured = stage.run(Case("clean", (GCC, "clean"), 0, 0), library=True)

    assert captured.status == 1
    assert "ASan runtime does not come first" in captured.stderr
