"""Node: V8's traps and its own signal handlers.

- out-of-bounds loads of WebAssembly, thousands of faults, are no crash
- a fault in an addon is reported as it was, though node's handler had it first
- an abort and a signal to itself are reported as what they are
"""

from pathlib import Path
from signal import SIGABRT, SIGSEGV, SIGTRAP

import pytest

from tests.integration.runtimes.conftest import PROGRAMS, SOURCES, Case, Stage, crash, no_crash


def node(*arguments: str | Path) -> tuple[str | Path, ...]:
    return (Path("node"), SOURCES / "crash.js", *arguments)


CASES = (
    no_crash("storm", *node("storm")),
    no_crash("overflow", *node("overflow")),
    no_crash("children", *node("children")),
    no_crash("handled", *node("handled"), status=3),
    no_crash("uncaught", *node("uncaught"), status=1),
    crash(
        "addon",
        *node("addon", PROGRAMS / "addon.node"),
        by=SIGSEGV,
        address=0,
        frame="addon_null_write",
    ),
    crash("abort", *node("abort"), by=SIGABRT),
    crash(
        "uncaught_aborts",
        "node",
        "--abort-on-uncaught-exception",
        *node("uncaught")[1:],
        by=SIGTRAP,
    ),
    crash("kill", *node("kill"), by=SIGSEGV),
)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_same_death_and_what_is_reported(stage: Stage, case: Case) -> None:
    stage.compare(case)
