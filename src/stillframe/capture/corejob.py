"""The contract between `fullcore` and the process that it starts, `tracer`.

They share a stream socket.  A `Job` goes as one line of JSON, together with its
descriptors; the end of the socket means that nobody waits any more.  An
`Outcome` comes back as one line.
"""

from enum import StrEnum
from typing import Final, NamedTuple

import msgspec

GRACE_SECONDS: Final = 0.5
"""From the deadline of a job until its reader counts as hanging."""


class Compression(StrEnum):
    """How a core is stored."""

    ZSTD = "zstd"
    """Takes two seconds of processor time per GiB, and a fifth of the room or less."""
    NONE = "none"
    """Debuggers open it as it is."""


class Descriptors(NamedTuple):
    """What comes with a job, in this order."""

    proc_fd: int
    """``/proc/PID``, attested."""
    task_fd: int
    """``/proc/PID/task/TID``: readable when the leader is a zombie."""
    core_fd: int
    """Empty file for the core."""
    snapshot_fd: int | None = None
    """Our own copy; None for a process that lives and will go on."""
    pidfd: int | None = None
    """Of the process, where its sockets are to be shut down."""
    lock_fd: int | None = None
    """Likewise the snapshot in which it holds its lock, without our claim."""

    def present(self) -> list[int]:
        """Those that there are."""
        return [fd for fd in self if fd is not None]


class Job(msgspec.Struct, frozen=True, kw_only=True):
    """One core to take."""

    deadline: float
    """Seconds on the monotonic clock: the core is cut there."""
    max_bytes: int
    """Of the file."""
    compression: Compression
    shut_sockets: bool = False
    """Shut the process's sockets down first, as far as `onhold` allows."""


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
    sockets: str = ""
    """What became of its sockets, for people; empty where they were not to be touched."""
