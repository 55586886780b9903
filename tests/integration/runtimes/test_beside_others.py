"""Crash handlers that are preloaded beside us, in both orders, and AddressSanitizer.

- a handler that prints and dies, returns, exits or runs a program does so as without us, and the
  crash is reported once, as the fault it was
- AddressSanitizer says what it says without us; gcc's, a library of its own, must be told that
  another one comes before it
"""

from pathlib import Path
from signal import SIGABRT, SIGSEGV

import pytest

from tests.integration.runtimes.conftest import OURS, PROGRAMS, Case, Stage, crash, no_crash

CXX = PROGRAMS / "cxx"
HANDLER = PROGRAMS / "segfault_handler.so"
ORDERS = {"before_us": (HANDLER, OURS), "after_us": (OURS, HANDLER)}
ENDINGS = {"reraise": -SIGSEGV, "return": -SIGSEGV, "exit": 7, "fork": -SIGSEGV}


def handled(order: str, ending: str) -> Case:
    return crash(
        f"{order}_{ending}",
        CXX,
        "null_read",
        by=SIGSEGV,
        status=ENDINGS[ending],
        address=0,
        frame="null_read",
        variables={"SEGFAULT_HANDLER": ending},
        preload=ORDERS[order],
    )


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("ending", ENDINGS)
def test_preloaded_handler_of_a_fault(stage: Stage, order: str, ending: str) -> None:
    natively, _captured = stage.compare(handled(order, ending))

    assert natively.stderr.startswith("*** segfault handler\n")
    assert ("*** program ran\n" in natively.stderr) == (ending == "fork")


@pytest.mark.parametrize("order", ORDERS)
def test_preloaded_handler_of_an_abort(stage: Stage, order: str) -> None:
    natively, _captured = stage.compare(
        crash(order, CXX, "uncaught", by=SIGABRT, frame="throw_error", preload=ORDERS[order])
    )

    assert natively.stderr.endswith("*** segfault handler\n")


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
