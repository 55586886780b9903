"""CPython: faulthandler, handlers in Python, and the processes it starts.

- faulthandler prints what it prints without us, and the crash is reported as it was
- handlers written in Python, the watchdog's exit and recursion are no crash
- each way to start a process gives the child the signals and the end it has without us
"""

import sys
from pathlib import Path
from signal import SIGABRT, SIGSEGV

import pytest

from tests.integration.runtimes.conftest import SOURCES, Case, Stage, crash, no_crash


def python(way: str, *options: str) -> tuple[str | Path, ...]:
    return (Path(sys.executable), *options, SOURCES / "crash.py", way)


FAULT = {"by": SIGSEGV, "address": 0}
ENABLED = ("-X", "faulthandler")

CASES = (
    no_crash("handled", *python("handled"), status=3),
    no_crash("watchdog", *python("watchdog"), status=1),
    no_crash("recursion", *python("recursion", *ENABLED)),
    no_crash("old_masks", *python("old_masks")),
    no_crash("children", *python("children")),
    no_crash("children_enabled", *python("children", *ENABLED)),
    crash("string_at", *python("string_at"), **FAULT),
    crash("string_at_enabled", *python("string_at", *ENABLED), **FAULT),
    crash("in_thread", *python("in_thread"), **FAULT),
    crash("in_thread_enabled", *python("in_thread", *ENABLED), **FAULT),
    crash("disabled_again", *python("disabled_again"), **FAULT),
    crash("abort", *python("abort"), by=SIGABRT, frame="os_abort"),
    crash("enabled_abort", *python("enabled_abort"), by=SIGABRT, frame="os_abort"),
    crash("kill", *python("kill"), by=SIGSEGV),
    crash("kill_enabled", *python("kill", *ENABLED), by=SIGSEGV),
    crash("default_again", *python("default_again"), by=SIGABRT),
)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_same_death_and_what_is_reported(stage: Stage, case: Case) -> None:
    stage.compare(case)
