"""The full core from outside, as its caller sees it: one call, always bounded.

Flows in: an attested `Holder`, our copy of its snapshot, a place on our disk.
Flows out: a `FullCore` that is not durable yet, or the reason why there is none.
Never raises for what the process does.  The work is done by `tracer`.
"""

import hashlib
import os
import select
import subprocess
import sys
import time
from dataclasses import dataclass
from typing import Final

import msgspec

from stillframe.capture.copying import CHUNK, FILE_MODE, Staged
from stillframe.capture.corejob import GRACE_SECONDS, Dumped, Job, Outcome
from stillframe.capture.identity import Holder

_ANSWER_BYTES: Final = 1 << 20
_START_SECONDS: Final = 0.5
"""More than the tracer takes between its grace and its end; then it counts as hanging."""
MAX_LISTED: Final = 16
"""Threads that are named in a line."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CoreRequest:
    """That a full core is wanted, and what it may cost."""

    hold_seconds: float
    """Longest that the process may wait for it, from our claim on."""
    max_bytes: int
    """Of the compressed file."""

    @property
    def reading_seconds(self) -> float:
        """When the core is cut: a quarter of the hold is left for the end of it all."""
        return self.hold_seconds * 0.75


@dataclass(frozen=True, slots=True, kw_only=True)
class FullCore:
    """A core, valid but perhaps cut, under a temporary name."""

    staged: Staged
    dumped: Dumped
    soft_errors: tuple[str, ...]
    """What it lacks."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where a core goes."""

    directory_fd: int
    name: str


def take_core(
    holder: Holder, snapshot_fd: int, place: Place, request: CoreRequest, started: float
) -> FullCore | str:
    """Take the core of a held process; a sentence when there is none.

    ``started`` is when the hold began, seconds on the monotonic clock.
    """
    temporary = f".{place.name}.tmp"
    flags = os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC
    try:
        fd = os.open(temporary, flags, FILE_MODE, dir_fd=place.directory_fd)
    except OSError as error:
        return f"no full core: {error}"
    job = Job(
        proc_fd=holder.proc_fd,
        task_fd=holder.task_fd,
        snapshot_fd=snapshot_fd,
        core_fd=fd,
        deadline=started + request.reading_seconds,
        max_bytes=request.max_bytes,
    )
    try:
        os.fchmod(fd, FILE_MODE)
        outcome = _run(job)
    except (OSError, msgspec.MsgspecError) as error:
        outcome = Outcome(refused=f"the tracer failed: {error}")
    staged = Staged(place.directory_fd, place.name, temporary, fd, os.fstat(fd).st_size, "")
    if outcome.dumped is None:
        staged.abandon()
        return f"no full core: {outcome.refused}"
    return FullCore(staged=staged, dumped=outcome.dumped, soft_errors=_lacks(outcome))


def with_digest(staged: Staged) -> Staged:
    """The same with its SHA-256; reads the file, so call it after the release."""
    digest = hashlib.sha256()
    at = 0
    while chunk := os.pread(staged.fd, CHUNK, at):
        digest.update(chunk)
        at += len(chunk)
    return Staged(
        staged.directory_fd, staged.name, staged.temporary, staged.fd, at, digest.hexdigest()
    )


def _run(job: Job) -> Outcome:
    """Start the tracer, and end it when it is late: the kernel lets the threads go then."""
    fds = (job.proc_fd, job.task_fd, job.snapshot_fd, job.core_fd)
    pipe = subprocess.PIPE
    command = [sys.executable, "-s", "-P", "-m", "stillframe.capture.tracer"]
    environment = {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    with subprocess.Popen(
        command,
        stdin=pipe,
        stdout=pipe,
        stderr=subprocess.DEVNULL,
        pass_fds=fds,
        env=environment,
        cwd="/",
    ) as tracer:
        assert tracer.stdin is not None
        assert tracer.stdout is not None
        try:
            tracer.stdin.write(msgspec.json.encode(job) + b"\n")
            tracer.stdin.flush()
            line = _line(tracer.stdout.fileno(), job.deadline + GRACE_SECONDS + _START_SECONDS)
        finally:
            tracer.kill()
    if not line:
        return Outcome(refused="the tracer died or hung")
    return msgspec.json.decode(line, type=Outcome)


def _line(fd: int, deadline: float) -> bytes:
    poll = select.poll()
    poll.register(fd, select.POLLIN)
    line = b""
    while not line.endswith(b"\n") and len(line) < _ANSWER_BYTES:
        left = deadline - time.monotonic()
        if left <= 0 or not poll.poll(left * 1000):
            return b""
        part = os.read(fd, CHUNK)
        if not part:
            return b""
        line += part
    return line


def _lacks(outcome: Outcome) -> tuple[str, ...]:
    assert outcome.dumped is not None
    dumped = outcome.dumped
    lines = []
    if dumped.truncated:
        lines.append(f"the full core is truncated: {dumped.truncated}")
    if dumped.unreadable:
        lines.append(f"the full core has zeros for {dumped.unreadable} unreadable pages")
    if outcome.missed:
        tids = ", ".join(str(tid) for tid in outcome.missed[:MAX_LISTED])
        lines.append(f"{len(outcome.missed)} threads did not stop in time: {tids}")
    return tuple(lines)
