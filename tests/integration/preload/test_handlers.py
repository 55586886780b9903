"""Applications with handlers, masks and dispositions of their own.

- every way, libc, and pid 1 of a pid namespace or not: status and stderr are those without us
- a recovered fault, a readable mask or action, an ignored signal leave no trace
- a handler that exits, aborts, raises again, faults or becomes another program is one crash, which
  began with the original fault: its signal, code and address
- a recovered fault costs no system call
"""

import signal

import pytest

from tests.integration.preload.conftest import Stage
from tests.integration.preload.test_same_death import LIBCS

NO_REPORT = (
    "recovered",
    "recovered_on_stack",
    "recovered_by_mapping",
    "recovered_with_large_frame",
    "abort_handler_jumps",
    "blocked_raise_is_waited_for",
    "blocked_raise_is_suspended_for",
    "mask_is_read_back",
    "action_is_read_back",
    "mask_survives_exec",
    "mask_survives_spawn",
    "filter_that_traps",
    "filter_that_kills",
    "ignored",
    "fault_in_masked_handler_with_handler",
)
"""No crash, or one that only the kernel may see (the last and the filter that kills)."""

FAULTED = {
    "handled": 0x10,
    "handler_exits": 0x10,
    "handler_exits_with_a_thread": 0x10,
    "handler_aborts": 0x10,
    "handler_reraises": 0x10,
    "handler_reraises_and_exits": 0x10,
    "handler_reraises_undeferred": 0x10,
    "handler_restores_default": 0x10,
    "handler_once": 0x10,
    "handler_faults": 0x10,
    "handler_faults_undeferred": 0x10,
    "handler_execs": 0x10,
    "handler_forks": 0x10,
    "blocked_fault": 0x10,
    "blocked_fault_with_handler": 0x10,
    "fault_in_masked_handler": 0x20,
    "vforked_child_changes_all": 0x10,
}
"""One crash that began with a null pointer: the address."""

ABORTED = (
    "recovered_then_abort",
    "abort_handler_returns",
    "abort_blocked",
)

OVERFLOWN = (
    "overflow_with_handler",
    "overflow_with_handler_on_stack",
)

INIT = pytest.mark.parametrize("init", [False, True])


def same(stage: Stage, libc: str, way: str, init: bool) -> list[dict[str, object]]:
    """Runs a way with and without the library; returns the notes of what was reported."""
    natively = stage.run(libc, way, library=False, init=init)
    captured = stage.run(libc, way, init=init)

    assert (captured.status, captured.stderr) == (natively.status, natively.stderr)
    assert stage.leftovers() == []
    return [snapshot.note for snapshot in captured.snapshots]


@INIT
@pytest.mark.parametrize("libc", LIBCS)
@pytest.mark.parametrize("way", NO_REPORT)
def test_what_is_no_crash_leaves_no_trace(stage: Stage, libc: str, way: str, init: bool) -> None:
    assert same(stage, libc, way, init) == []


@INIT
@pytest.mark.parametrize("libc", LIBCS)
@pytest.mark.parametrize("way", FAULTED)
def test_crash_in_a_handler_is_the_fault_it_handles(
    stage: Stage, libc: str, way: str, init: bool
) -> None:
    (note,) = same(stage, libc, way, init)

    assert (note["signal"], note["code"]) == (signal.SIGSEGV, 1)  # SEGV_MAPERR
    assert note["address"] == FAULTED[way]


@INIT
@pytest.mark.parametrize("libc", LIBCS)
@pytest.mark.parametrize("way", ABORTED)
def test_abort_is_reported_whatever_its_handler_does(
    stage: Stage, libc: str, way: str, init: bool
) -> None:
    (note,) = same(stage, libc, way, init)

    assert note["signal"] == signal.SIGABRT


@INIT
@pytest.mark.parametrize("libc", LIBCS)
@pytest.mark.parametrize("way", OVERFLOWN)
def test_stack_overflow_is_reported_whatever_its_handler_does(
    stage: Stage, libc: str, way: str, init: bool
) -> None:
    (note,) = same(stage, libc, way, init)

    assert note["signal"] == signal.SIGSEGV


@pytest.mark.parametrize("libc", LIBCS)
def test_blocked_signal_waits_and_kills_when_unblocked(stage: Stage, libc: str) -> None:
    (note,) = same(stage, libc, "blocked_raise", init=False)

    assert note["signal"] == signal.SIGSEGV
    stage.clear()
    assert same(stage, libc, "blocked_raise", init=True) == [], "an init process survives it"


@pytest.mark.parametrize("libc", LIBCS)
@pytest.mark.parametrize("way", ["recovered_by_mapping", "recovered_on_stack"])
def test_recovered_fault_costs_no_system_call(stage: Stage, libc: str, way: str) -> None:
    natively, captured = (
        stage.system_calls(libc, way, library=library) for library in (False, True)
    )

    # Start-up and installing the handler cost a few; a thousand faults none.
    assert (captured - natively).total() < 60
