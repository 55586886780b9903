"""The tracer that is ready before it is needed: one at a time, alive, and never left behind."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from stillframe.capture.corejob import Compression, Descriptors, Job
from stillframe.capture.standby import Standby
from tests.integration.capture.crash import SECONDS, wait_for


@pytest.fixture
def standby() -> Iterator[Standby]:
    standby = Standby()
    standby.prepare()
    yield standby
    standby.close()


def is_gone(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except FileNotFoundError:
        return True


def children() -> set[int]:
    text = Path(f"/proc/self/task/{os.getpid()}/children").read_text()
    return {int(pid) for pid in text.split() if not is_gone(int(pid))}


def test_the_one_that_is_ready_is_taken(standby: Standby) -> None:
    before = children()
    standby.prepare()  # one is enough
    with standby.take() as tracer:
        assert tracer.pid in before
        assert children() == before
    assert is_gone(tracer.pid)


def test_one_that_was_killed_is_replaced(standby: Standby) -> None:
    (dead,) = children()
    os.kill(dead, signal.SIGKILL)
    wait_for(lambda: is_gone(dead), "death")
    with standby.take() as tracer:
        assert tracer.pid != dead
        assert tracer.alive()


def test_one_that_dies_with_its_job_says_so(standby: Standby) -> None:
    with standby.take() as tracer:
        os.kill(tracer.pid, signal.SIGSTOP)
        directory = os.open("/proc/self", os.O_RDONLY)
        os.kill(tracer.pid, signal.SIGKILL)
        job = Job(deadline=0, max_bytes=0, compression=Compression.ZSTD)
        try:
            descriptors = Descriptors(directory, directory, directory)
            outcome = tracer.run(job, descriptors, time.monotonic() + SECONDS)
        except OSError:
            return  # it was gone before the job came
        finally:
            os.close(directory)
    assert outcome.refused == "the tracer died or hung"


def test_it_inherits_nothing_but_its_socket() -> None:
    inherited = os.open("/dev/null", os.O_RDONLY)
    os.set_inheritable(inherited, True)
    standby = Standby()
    standby.prepare()
    try:
        (pid,) = children()
        assert sorted(path.name for path in Path(f"/proc/{pid}/fd").iterdir())[:3] == list("012")
        assert str(inherited) not in {path.name for path in Path(f"/proc/{pid}/fd").iterdir()}
    finally:
        standby.close()
        os.close(inherited)


def test_it_ends_with_its_owner() -> None:
    script = (
        "import sys\n"
        "from stillframe.capture.standby import Standby\n"
        "standby = Standby()\n"
        "standby.prepare()\n"
        "tracer = standby.take()\n"
        "print(tracer.pid, flush=True)\n"
        "sys.stdin.read()\n"
    )
    path = {**os.environ, "PYTHONPATH": os.pathsep.join(part or "." for part in sys.path)}
    with subprocess.Popen(
        [sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=path
    ) as owner:
        assert owner.stdout is not None
        tracer = int(owner.stdout.readline())
        owner.kill()
        owner.wait(SECONDS)
    wait_for(lambda: is_gone(tracer), "end of the tracer")
