"""The contract between `fullcore` and the process that it starts, `tracer`.

A `Job` goes as one line of JSON to standard input, whose end means that nobody
waits any more; an `Outcome` comes back as one line on standard output.
"""

from typing import Final

import msgspec

GRACE_SECONDS: Final = 0.5
"""From the deadline of a job until its reader counts as hanging."""


class Job(msgspec.Struct, frozen=True, kw_only=True):
    """One core to take; descriptors are inherited under the same numbers."""

    proc_fd: int
    """``/proc/PID``, attested."""
    task_fd: int
    """``/proc/PID/task/TID``: readable when the leader is a zombie."""
    snapshot_fd: int
    """Our own copy."""
    core_fd: int
    """Empty file for the core, compressed."""
    deadline: float
    """Seconds on the monotonic clock: the core is cut there."""
    max_bytes: int
    """Of the file."""


class Dumped(msgspec.Struct, frozen=True, kw_only=True):
    """A core that was written, valid but perhaps cut."""

    bytes: int
    """Uncompressed."""
    truncated: str = ""
    """Why it ends early; empty when it is whole."""
    unreadable: int = 0
    """Pages that the kernel did not give us; zeros in the core."""


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """What became of a job."""

    dumped: Dumped | None = None
    refused: str = ""
    """Why there is no core, for people."""
    missed: tuple[int, ...] = ()
    """Threads, by their pid in our namespace, that did not stop in time."""
