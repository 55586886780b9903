"""Rust: panics, aborts, and the handler that tells a stack overflow from other faults.

- a panic that unwinds is no crash
- the message about a stack overflow comes as without us, and the report is about the fault
"""

import re
from signal import SIGABRT, SIGSEGV

import pytest

from tests.integration.runtimes.conftest import PROGRAMS, Case, Stage, crash, no_crash

UNWINDS = PROGRAMS / "rust-unwind"
ABORTS = PROGRAMS / "rust-abort"
OVERFLOW = {"by": SIGSEGV, "status": -SIGABRT}

CASES = (
    no_crash("caught", UNWINDS, "caught"),
    no_crash("panic", UNWINDS, "panic", status=101),
    no_crash("children", UNWINDS, "children"),
    crash("panic_aborts", ABORTS, "panic", by=SIGABRT, frame="crash::panics"),
    crash("abort", UNWINDS, "abort", by=SIGABRT, frame="crash::main"),
    crash("null_write", UNWINDS, "null_write", by=SIGSEGV, address=0, frame="crash::null_write"),
    crash("overflow", UNWINDS, "overflow", frame="crash::recurse", **OVERFLOW),
    crash("thread_overflow", UNWINDS, "thread_overflow", frame="crash::recurse", **OVERFLOW),
)


def without_thread_ids(stderr: str) -> str:
    return re.sub(r"^(thread '\S+') \(\d+\)", r"\1", stderr, flags=re.MULTILINE)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_same_death_and_what_is_reported(stage: Stage, case: Case) -> None:
    stage.compare(case, without_thread_ids)
