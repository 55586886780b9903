"""A dying process dies the same death.

- every way to die, libc, and pid 1 of a pid namespace or not: the status with the library
  equals the status without it, and a snapshot is there exactly when it died by a signal of ours
- nobody else ends a process that is being held
- what is no crash leaves no trace
"""

import os
import signal
import subprocess
import time

import pytest

from tests.integration.preload.conftest import Stage
from tests.integration.preload.stand_in import StandIn, lock_holder

LIBCS = ("glibc", "glibc-nopie", "musl")

ONE_REPORT = (
    "null_read",
    "null_write",
    "wild",
    "non_canonical",
    "call_null",
    "exec_data",
    "ro_write",
    "bus",
    "ill",
    "div0",
    "int3",
    "abort_call",
    "assert_false",
    "seccomp_trap",
    "overflow_main",
    "overflow_thread",
    "overflow_small_thread",
    "overflow_supplied_stack",
    "thread_segv",
    "with_threads",
    "with_spinning",
    "with_masked",
    "with_closing",
    "all_crash",
    "exit_during_hold",
    "filtered_int3",
    "filtered_abort",
    "forked_child",
)
SELF_SENT = (
    "kill_self",
    "raise_segv",
    "raise_abrt",
)
"""Crashes, but for an init process: the kernel ignores them there."""
NO_REPORT = (
    "handled",
    "ignored",
    "exit_normal",
    "threads_that_end",
    "attributes_at_the_end",
)


@pytest.mark.parametrize("libc", LIBCS)
@pytest.mark.parametrize("way", [*ONE_REPORT, *SELF_SENT])
def test_status_of_a_process_is_the_same(stage: Stage, libc: str, way: str) -> None:
    natively = stage.run(libc, way, library=False)
    captured = stage.run(libc, way)

    assert captured.status == natively.status
    assert captured.stderr == natively.stderr
    assert len(captured.snapshots) == 1
    assert stage.leftovers() == []


@pytest.mark.parametrize("libc", LIBCS)
@pytest.mark.parametrize("way", ONE_REPORT)
def test_status_of_an_init_process_is_the_same(stage: Stage, libc: str, way: str) -> None:
    natively = stage.run(libc, way, library=False, init=True)
    captured = stage.run(libc, way, init=True)

    assert captured.status == natively.status
    assert len(captured.snapshots) == 1
    assert stage.leftovers() == []


@pytest.mark.parametrize("libc", LIBCS)
@pytest.mark.parametrize("way", SELF_SENT)
def test_signal_an_init_process_ignores_is_no_crash(stage: Stage, libc: str, way: str) -> None:
    natively = stage.run(libc, way, library=False, init=True)
    captured = stage.run(libc, way, init=True)

    assert natively.status == 99, "the crasher's word for having survived"
    assert captured.status == natively.status
    assert captured.snapshots == []


@pytest.mark.parametrize("libc", LIBCS)
@pytest.mark.parametrize("way", NO_REPORT)
@pytest.mark.parametrize("init", [False, True])
def test_what_is_no_crash_leaves_no_trace(stage: Stage, libc: str, way: str, init: bool) -> None:
    natively = stage.run(libc, way, library=False, init=init)
    captured = stage.run(libc, way, init=init)

    assert captured.status == natively.status
    assert captured.stderr == natively.stderr
    assert list(stage.directory.iterdir()) == []


@pytest.mark.parametrize("libc", LIBCS)
def test_vfork_child_does_not_poison_its_parent(stage: Stage, libc: str) -> None:
    captured = stage.run(libc, "vforked_child")

    assert captured.status == -signal.SIGSEGV
    assert len({snapshot.note["pid"] for snapshot in captured.snapshots}) == 2


@pytest.mark.parametrize("libc", LIBCS)
def test_threads_that_crash_at_once_make_one_report(stage: Stage, libc: str) -> None:
    for _ in range(20):
        captured = stage.run(libc, "all_crash", "16")

        assert captured.status == -signal.SIGSEGV
        assert captured.snapshot.note["threads_captured"] == 17
        assert stage.leftovers() == []
        stage.clear()


@pytest.mark.parametrize("libc", LIBCS)
@pytest.mark.parametrize("init", [False, True])
def test_exit_in_another_thread_waits_for_the_death(stage: Stage, libc: str, init: bool) -> None:
    """The other thread calls ``_exit(0)`` 50 ms after the crash; the hold lasts 200 ms."""
    with StandIn(stage.directory) as agent:
        process = stage.start(libc, "exit_during_hold", init=init)
        claim = agent.claim(agent.wait_for(".core"))
        time.sleep(0.2)  # the hold under test
        agent.finish(claim)
        captured = stage.finish(process)

    assert captured.status == -signal.SIGSEGV
    assert captured.snapshot.release == "DONE"


@pytest.mark.parametrize("libc", LIBCS)
@pytest.mark.parametrize("init", [False, True])
@pytest.mark.parametrize("way", ["fault_leaving_on_int", "abort_leaving_on_int"])
def test_signal_during_the_hold_does_not_change_the_death(
    stage: Stage, libc: str, way: str, init: bool
) -> None:
    """SIGINT, whose handler leaves with 7, is pending when the process may go."""
    natively = stage.run(libc, way, library=False, init=init)
    with StandIn(stage.directory) as agent:
        process = stage.start(libc, way, init=init)
        path = agent.wait_for(".core")
        claim = agent.claim(path)
        os.kill(lock_holder(path), signal.SIGINT)
        agent.finish(claim)
        captured = stage.finish(process)

    assert captured.status == natively.status
    assert captured.snapshot.release == "DONE"


@pytest.mark.parametrize("libc", LIBCS)
def test_sigkill_ends_the_hold(stage: Stage, libc: str) -> None:
    with StandIn(stage.directory) as agent:
        process = stage.start(libc, "null_read")
        agent.claim(agent.wait_for(".core"))
        process.kill()
        captured = stage.finish(process)

    assert captured.status == -signal.SIGKILL
    assert captured.snapshot.release == "PENDING"


@pytest.mark.parametrize(("way", "status"), [("raise_abrt", 99), ("null_read", -signal.SIGSEGV)])
def test_inherited_ignored_signal_stays_ignored(stage: Stage, way: str, status: int) -> None:
    for library in (False, True):
        crasher = stage.command("glibc", way, library=library, init=False)
        done = subprocess.run(
            ["env", "--ignore-signal=ABRT,SEGV", *crasher],
            env=stage.environment(),
            check=False,
            timeout=30,
        )
        assert done.returncode == status
    assert stage.snapshots("glibc") == []


def test_signals_can_be_chosen(stage: Stage) -> None:
    assert stage.run("glibc", "div0", SIGNALS="SEGV,ABRT").snapshots == []
    assert len(stage.run("glibc", "null_read", SIGNALS="SEGV,ABRT").snapshots) == 1


def test_disabled_library_does_nothing(stage: Stage) -> None:
    captured = stage.run("glibc", "overflow_thread", DISABLED="1")

    assert captured.status == -signal.SIGSEGV
    assert captured.snapshots == []
