"""A dying process dies the same death.

- threads that crash at once make one report
- nobody else ends a process that is being held
- signals that were ignored, or that were not asked for, are left alone

Every way to die is in the matrix; here is what needs more than to run it.
"""

import os
import signal
import subprocess
import time

import pytest

from tests.integration.preload.conftest import Stage
from tests.integration.preload.stand_in import StandIn, lock_holder

LIBCS = ("glibc", "glibc-nopie", "musl")


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
