"""Go: with C in the process, and without.

- nil dereferences that are recovered are no crash
- a crash that ends in a signal (`GOTRACEBACK=crash`) is reported as the fault it was
- one that ends in the runtime's own system call `exit_group(2)`, or in an executable without a
  libc, is not seen, and nothing about it changes
"""

import re
from signal import SIGABRT, SIGSEGV

import pytest

from tests.integration.runtimes.conftest import PROGRAMS, Case, Stage, crash, no_crash

CGO = PROGRAMS / "go-cgo"
STATIC = PROGRAMS / "go-static"
PIE = PROGRAMS / "go-pie"
CORE = {"GOTRACEBACK": "crash"}

CASES = (
    no_crash("storm", CGO, "storm"),
    no_crash("fault", CGO, "fault"),
    no_crash("children", CGO, "children"),
    no_crash("panic", CGO, "panic", status=2),
    no_crash("nil", CGO, "nil", status=2),
    no_crash("c_null_write", CGO, "c_null_write", status=2),
    no_crash("c_abort", CGO, "c_abort", status=2),
    crash("panic_core", CGO, "panic", by=SIGABRT, variables=CORE),
    crash("nil_core", CGO, "nil", by=SIGABRT, variables=CORE),
    crash(
        "c_null_write_core",
        CGO,
        "c_null_write",
        by=SIGSEGV,
        status=-SIGABRT,
        address=0,
        frame="c_null_write",
        variables=CORE,
    ),
    crash("c_abort_core", CGO, "c_abort", by=SIGABRT, frame="c_abort", variables=CORE),
    *(
        no_crash(f"{kind}_{way}", executable, way, status=status, variables=variables)
        for kind, executable in (("static", STATIC), ("pie", PIE))
        for way, status, variables in (("storm", 0, {}), ("nil", 2, {}), ("nil", -SIGABRT, CORE))
    ),
)


def first_goroutine(stderr: str) -> str:
    """Registers, what other threads were doing and their numbers differ from run to run."""
    return re.sub(r"goroutine \d+ ", "goroutine N ", "".join(stderr.split("\n\n")[:3]))


@pytest.mark.parametrize("case", CASES, ids=str)
def test_same_death_and_what_is_reported(stage: Stage, case: Case) -> None:
    stage.compare(case, first_goroutine)
