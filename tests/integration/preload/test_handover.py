"""The hand-over: names, the owner's lock, and how long a process is held.

- the kernel names the owner, also from another pid namespace
- no agent: no hold; agent: held until byte 2, whichever comes first of done, claim time, hold time
- an agent that dies frees the process
- the directory: made when missing, never followed through a symlink, never flooded
"""

import re
import signal
import stat
import statistics
import subprocess
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from tests.integration.preload import stand_in
from tests.integration.preload.conftest import Stage
from tests.integration.preload.stand_in import StandIn, lock_holder

Spawn = Callable[..., "subprocess.Popen[str]"]


def pid_in_namespace(pid: int) -> int:
    """The innermost number of a process."""
    status = Path(f"/proc/{pid}/status").read_text()
    (numbers,) = re.findall(r"^NSpid:\s+(.*)$", status, re.MULTILINE)
    return int(numbers.split()[-1])


@pytest.mark.parametrize("init", [False, True])
def test_kernel_names_the_owner_while_it_is_held(stage: Stage, init: bool) -> None:
    with StandIn(stage.directory) as agent:
        process = stage.start("glibc", "null_read", init=init)
        path = agent.wait_for(".core")
        claim = agent.claim(path)
        holder = lock_holder(path)
        inner = pid_in_namespace(holder)
        descriptors = [entry.read_text() for entry in Path(f"/proc/{holder}/fdinfo").iterdir()]
        agent.finish(claim)
        captured = stage.finish(process)

    inode = path.stat().st_ino
    assert captured.snapshot.note["pid"] == inner
    assert (inner == 1) is init
    assert any(re.search(rf"lock:.*POSIX.*WRITE.*:{inode} 0 0", text) for text in descriptors)
    assert lock_holder(path) == 0, "the lock ends with its owner"


def test_lock_survives_a_thread_that_closes_every_descriptor(stage: Stage) -> None:
    """It blocks all signals, so it cannot be stopped, and calls close_range(3, ~0) for ever."""
    with StandIn(stage.directory) as agent:
        process = stage.start("glibc", "with_closing")
        path = agent.wait_for(".core")
        claim = agent.claim(path)
        wait_until_held(stage, process.pid)
        holder = lock_holder(path)
        agent.finish(claim)
        captured = stage.finish(process)

    assert holder == process.pid
    assert captured.status == -signal.SIGSEGV
    assert captured.snapshot.release == "DONE"


def test_file_is_private_and_its_name_is_the_id(stage: Stage) -> None:
    snapshot = stage.run("glibc", "null_read").snapshot

    assert re.fullmatch(r"[0-9a-f]{32}", snapshot.id)
    assert snapshot.note["id"] == snapshot.id
    assert stat.S_IMODE(snapshot.path.stat().st_mode) == 0o600


def test_process_is_not_held_without_an_agent(stage: Stage) -> None:
    held = []
    for _ in range(5):
        snapshot = stage.run("glibc", "null_read").snapshot
        assert snapshot.release == "NO_AGENT"
        held.append(snapshot.held_ms)
        stage.clear()
    assert statistics.median(held) < 1


def test_process_is_held_until_the_agent_is_done(stage: Stage) -> None:
    with StandIn(stage.directory) as agent:
        process = stage.start("glibc", "null_read")
        claim = agent.claim(agent.wait_for(".core"))
        assert process.poll() is None
        finished = time.monotonic_ns()
        agent.finish(claim)
        snapshot = stage.finish(process).snapshot

    assert snapshot.release == "DONE"
    assert snapshot.note["release_monotonic_ns"] >= finished


def test_claim_may_come_before_the_snapshot_is_complete(stage: Stage) -> None:
    """strace makes the first write into the .part take a second."""
    slowly = ("-f", "-qq", "-o", "/dev/null", "-e", "inject=pwrite64:delay_enter=1s:when=1")
    command = stage.command("glibc", "null_read", library=True, init=False)
    with StandIn(stage.directory) as agent:
        process = subprocess.Popen(
            ["strace", *slowly, *command],
            env=stage.environment(CLAIM_MS="0"),
            stderr=subprocess.PIPE,
            text=True,
        )
        claim = agent.claim(agent.wait_for(".part"))
        agent.finish(claim)
        snapshot = stage.finish(process, "glibc").snapshot

    assert snapshot.release == "DONE"


def test_unclaimed_process_goes_after_the_claim_time(stage: Stage) -> None:
    with StandIn(stage.directory):
        snapshot = stage.run("glibc", "null_read", CLAIM_MS="40").snapshot

    assert snapshot.release == "UNCLAIMED"
    assert 40 <= snapshot.held_ms < 240, "less than the default"


def test_default_claim_time_is_a_quarter_second(stage: Stage) -> None:
    with StandIn(stage.directory):
        snapshot = stage.run("glibc", "null_read").snapshot

    assert snapshot.release == "UNCLAIMED"
    assert 250 <= snapshot.held_ms < 1000


def test_claimed_process_goes_after_the_hold_time(stage: Stage) -> None:
    with StandIn(stage.directory) as agent:
        process = stage.start("glibc", "null_read", HOLD_MS="120")
        agent.claim(agent.wait_for(".core"))
        snapshot = stage.finish(process).snapshot

    assert snapshot.release == "TIMEOUT"
    assert 120 <= snapshot.held_ms < 1000


def test_hold_time_of_zero_never_holds(stage: Stage) -> None:
    with StandIn(stage.directory):
        snapshot = stage.run("glibc", "null_read", HOLD_MS="0").snapshot

    assert snapshot.release == "DISABLED"
    assert snapshot.held_ms < 200


@pytest.mark.parametrize("step", ["claim", "beacon"])
def test_killed_agent_frees_the_process(stage: Stage, spawn: Spawn, step: str) -> None:
    """SIGKILL to a real process that holds the locks: gone within 50 ms."""
    late = []
    for _ in range(5):
        agent = spawn("python3", stand_in.__file__, stage.directory, step)
        assert agent.stdout is not None
        assert agent.stdout.readline() == "here\n"
        process = stage.start("glibc", "null_read", CLAIM_MS="5000")
        if step == "claim":
            assert agent.stdout.readline() == "claimed\n"
        wait_until_held(stage, process.pid)
        killed = time.monotonic_ns()
        agent.kill()
        agent.wait()
        snapshot = stage.finish(process).snapshot
        assert snapshot.release == "AGENT_DIED"
        late.append((snapshot.note["release_monotonic_ns"] - killed) / 1e6)
        stage.clear()
    assert 0 < statistics.median(late) <= 50


def wait_until_held(stage: Stage, pid: int) -> None:
    """The snapshot is complete and the process sleeps between two looks at the locks."""
    end = time.monotonic() + 10
    stat = Path(f"/proc/{pid}/stat")
    while not (list(stage.directory.glob("*.core")) and ") S " in stat.read_text()):
        assert time.monotonic() < end
        time.sleep(0.001)


def test_missing_directory_is_made_for_everybody(stage: Stage) -> None:
    """0777 without the sticky bit and past the umask, so that an agent can clean it."""
    elsewhere = replace(stage, directory=stage.directory / "made")
    elsewhere.run("glibc", "null_read")

    assert stat.S_IMODE(elsewhere.directory.stat().st_mode) == 0o777
    assert len(elsewhere.snapshots("glibc")) == 1


def test_existing_directory_keeps_its_mode(stage: Stage) -> None:
    stage.directory.chmod(0o1755)
    stage.run("glibc", "null_read")

    assert stat.S_IMODE(stage.directory.stat().st_mode) == 0o1755


def test_symlink_is_not_followed_to_a_directory(stage: Stage, tmp_path: Path) -> None:
    link = tmp_path / "link"
    link.symlink_to(stage.directory)
    captured = replace(stage, directory=link).run("glibc", "null_read")

    assert captured.status == -signal.SIGSEGV
    assert list(stage.directory.iterdir()) == []


def test_full_directory_takes_no_more_files(stage: Stage) -> None:
    for number in range(64):
        (stage.directory / f"{number}").touch()
    captured = stage.run("glibc", "null_read")

    assert captured.status == -signal.SIGSEGV
    assert captured.snapshots == []
    assert len(list(stage.directory.iterdir())) == 64


def test_descriptors_of_the_application_are_not_used_up(stage: Stage) -> None:
    """The soft limit is reached: 3 descriptors are open and 3 are allowed."""
    command = stage.command("glibc", "null_read", library=True, init=False)
    status = subprocess.run(
        ["prlimit", "--nofile=3:64", *command],
        env=stage.environment(),
        check=False,
    ).returncode

    # The loader needs a descriptor too: this crasher cannot even start.
    assert status == 127
    status = subprocess.run(
        ["prlimit", "--nofile=4:64", *command],
        env=stage.environment(),
        check=False,
    ).returncode
    assert status == -signal.SIGSEGV
    assert len(stage.snapshots("glibc")) == 1


def test_debug_says_what_happened(stage: Stage) -> None:
    captured = stage.run("glibc", "null_read", DEBUG="1")

    assert re.fullmatch(
        rf"stillframe: signal 11 in thread \d+, wrote {captured.snapshot.id}\.core in us \d+, "
        r"held for us \d+, release 2\n",
        captured.stderr,
    )


def test_debug_says_why_there_is_no_snapshot(stage: Stage) -> None:
    stage.directory.rmdir()
    stage.directory.touch()
    captured = stage.run("glibc", "null_read", DEBUG="1")

    assert re.fullmatch(
        r"stillframe: signal 11 in thread \d+, no snapshot: errno 20\n", captured.stderr
    )
