"""The full core from outside, as its caller sees it: one call, always bounded.

Flows in: an attested `Holder`, our copy of its snapshot, a directory on our disk.
Flows out: a `FullCore` that is not durable yet, or the reason why there is none.
Never raises for what the process does.  The work is done by `tracer`.
"""

import hashlib
import os
from dataclasses import dataclass
from typing import Final

import msgspec

from stillframe.capture.copying import CHUNK, FILE_MODE, Staged
from stillframe.capture.corejob import (
    GRACE_SECONDS,
    Compression,
    Descriptors,
    Dumped,
    Job,
    Outcome,
)
from stillframe.capture.identity import Holder
from stillframe.capture.standby import Standby
from stillframe.names import ARTIFACT_CORE, ARTIFACT_CORE_PLAIN

_ANSWER_SECONDS: Final = 0.5
"""More than the tracer takes between its grace and its end; then it counts as hanging."""
MAX_LISTED: Final = 16
"""Threads that are named in a line."""
_FILES: Final = {Compression.ZSTD: ARTIFACT_CORE, Compression.NONE: ARTIFACT_CORE_PLAIN}


@dataclass(frozen=True, slots=True, kw_only=True)
class CoreRequest:
    """That a full core is wanted, and what it may cost."""

    hold_seconds: float
    """Longest that the process may wait for it, from our claim on."""
    max_bytes: int
    """Of the file."""
    compression: Compression = Compression.ZSTD
    standby: Standby | None = None
    """Where a tracer may be ready; None: one is started while the process is held."""
    shut_sockets: bool = False
    """Shut its sockets down before: `take_core` is to get a ``lock_fd`` then."""
    remark: str = ""
    """A line for the report: what was asked for as well, and will not be done."""

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


def take_core(
    holder: Holder,
    snapshot_fd: int | None,
    directory_fd: int,
    request: CoreRequest,
    started: float,
    *,
    lock_fd: int | None = None,
) -> FullCore | str:
    """Take the core of a held process; a sentence when there is none.

    Without a snapshot the process lives and will go on.  ``started`` is when
    the hold began, seconds on the monotonic clock.  With ``lock_fd``, the snapshot
    where the process holds its lock but without our claim, its sockets are shut
    down before, as far as `onhold` allows.
    """
    name = _FILES[request.compression]
    temporary = f".{name}.tmp"
    flags = os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC
    try:
        fd = os.open(temporary, flags, FILE_MODE, dir_fd=directory_fd)
    except OSError as error:
        return f"no full core: {error}"
    job = Job(
        deadline=started + request.reading_seconds,
        max_bytes=request.max_bytes,
        compression=request.compression,
        shut_sockets=lock_fd is not None,
    )
    descriptors = Descriptors(holder.proc_fd, holder.task_fd, fd, snapshot_fd)
    if lock_fd is not None:
        descriptors = descriptors._replace(pidfd=holder.pidfd, lock_fd=lock_fd)
    outcome = _run(request.standby or Standby(), job, descriptors)
    staged = Staged(directory_fd, name, temporary, fd, os.fstat(fd).st_size, "")
    if outcome.dumped is None:
        staged.abandon()
        # What the tracer met then is only that the process was gone.
        reason = outcome.refused if holder.alive() else "the process was killed meanwhile"
        return "; ".join((f"no full core: {reason}", *_beside(request, outcome)))
    soft_errors = (*_lacks(outcome), *_beside(request, outcome))
    return FullCore(staged=staged, dumped=outcome.dumped, soft_errors=soft_errors)


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


def _run(standby: Standby, job: Job, descriptors: Descriptors) -> Outcome:
    """Have the tracer take it, and end it when it is late."""
    late = job.deadline + GRACE_SECONDS + _ANSWER_SECONDS
    try:
        os.fchmod(descriptors.core_fd, FILE_MODE)
        with standby.take() as tracer:
            return tracer.run(job, descriptors, late)
    except (OSError, msgspec.MsgspecError) as error:
        return Outcome(refused=f"the tracer failed: {error}")


def _beside(request: CoreRequest, outcome: Outcome) -> tuple[str, ...]:
    """What there is to say of other things than the core."""
    return tuple(filter(None, (outcome.sockets, request.remark)))


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
