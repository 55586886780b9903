"""An agent that takes a full core: ``onhold_agent.py VICTIM DIRECTORY EVIDENCE WISH``.

``VICTIM`` is a child of ours.  ``WISH`` is ``shut`` or ``leave``, and says what to do with sockets.
Tells when it is ready, when everything is taken, and, once it was allowed to let go, what became
of it.  Any other wish is a case for `shut_sockets` alone, of a process that nobody captures.
"""

import fcntl
import json
import os
import signal
import sys
import time
from pathlib import Path
from tempfile import TemporaryFile
from typing import IO

from stillframe.capture import pipeline
from stillframe.capture.fullcore import CoreRequest
from stillframe.capture.handover import SnapshotDirectory, release
from stillframe.capture.identity import holder_of
from stillframe.capture.onhold import shut_sockets
from tests.integration.capture.crash import SECONDS, found


def say(line: str) -> None:
    """In one write: the victim writes to the same pipe."""
    os.write(1, f"{line}\n".encode())


def ask(word: str) -> None:
    """Say something, and wait for the answer."""
    say(word)
    sys.stdin.readline()


def take(victim: int, directory: Path, evidence: Path, request: CoreRequest) -> None:
    def ask_and_release(fd: int) -> None:
        ask("taken")
        release(fd)

    pipeline.release = ask_and_release  # type: ignore[attr-defined]
    with SnapshotDirectory.open(directory) as snapshots:
        say("ready")
        name = found(snapshots)
        destination = evidence / "snapshot.core"
        with pipeline.capture(snapshots, name, destination, core=lambda _: request) as taken:
            status = os.waitstatus_to_exitcode(os.waitpid(victim, 0)[1])
            core = taken.core.name if taken.core else ""
            say(json.dumps([status, core, *taken.soft_errors]))


def _lock_in_a_child(file: IO[bytes]) -> None:
    reading, ready = os.pipe()
    if os.fork() == 0:
        fcntl.lockf(file, fcntl.LOCK_EX, 1)
        os.write(ready, b"x")
        signal.pause()
    os.read(reading, 1)


def try_alone(victim: int, case: str) -> None:
    """What `shut_sockets` says of the process below ``victim``, once that has started."""
    ask("ready")
    children = Path(f"/proc/{victim}/task/{victim}/children").read_text().split()
    pid = int(children[0])
    proc_fd = os.open(f"/proc/{pid}", os.O_RDONLY | os.O_DIRECTORY)
    holder = holder_of(pid, pid, os.pidfd_open(pid), proc_fd)
    with TemporaryFile() as file:
        if case == "held by another":
            _lock_in_a_child(file)
        if case == "dead":
            os.kill(pid, signal.SIGKILL)
            holder.wait_dead(SECONDS)
        seconds = {"late": 0.0, "soon late": 0.02}.get(case, SECONDS)
        lock_fd = os.dup(file.fileno())
        say(json.dumps([shut_sockets(holder, lock_fd, time.monotonic() + seconds)]))


def main() -> None:
    victim, directory, evidence, wish = sys.argv[1:]
    if wish in ("shut", "leave"):
        request = CoreRequest(hold_seconds=15, max_bytes=1 << 30, shut_sockets=wish == "shut")
        take(int(victim), Path(directory), Path(evidence), request)
    else:
        try_alone(int(victim), wish)


main()
