"""Identity: which process a snapshot belongs to, as the kernel says.

Flows in: an open snapshot.  Flows out: a `Holder`, the process proven to hold
the POSIX write lock on byte 0.  Nothing the process wrote is believed.
Deliberately absent: the pod it belongs to (the agent reads it from `cgroup`).
"""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Holder:
    """A live process that holds a snapshot's lock; owns three descriptors."""

    pid: int
    """In our pid namespace."""
    tid: int
    """The thread in whose descriptor table the lock was found."""
    pidfd: int
    proc_fd: int
    """Directory descriptor of ``/proc/PID``; never leads to a later process of that pid."""
    task_fd: int
    """Directory descriptor of ``/proc/PID/task/TID``: readable when the leader is a zombie."""
    start_ticks: int
    """Field 22 of ``/proc/PID/stat``: clock ticks since boot."""
    pids: tuple[int, ...]
    """``NStgid``: its pid in each namespace from ours inwards."""
    pid_ns: int
    """Inode number of its pid namespace."""
    cgroup: tuple[str, ...]
    """Lines of ``/proc/PID/cgroup``, unparsed."""
    comm: str
    """Name of the leader; written by the process, printable only."""

    def alive(self) -> bool:
        """Whether the process has a living thread (true while it is a zombie's group)."""
        raise NotImplementedError

    def wait_dead(self, timeout: float) -> bool:
        """Wait at most ``timeout`` seconds for its death; whether it died."""
        raise NotImplementedError

    def close(self) -> None:
        """Close all three descriptors."""
        raise NotImplementedError


def attest(fd: int, *, timeout: float = 1.0) -> Holder:
    """The process that holds the POSIX write lock on byte 0 of ``fd``.

    Four proofs: ``F_GETLK`` names a candidate; with its pidfd and ``/proc``
    directory open, a ``fdinfo`` file of one of its threads shows the lock on
    this device and inode; it is older than the file; it lives after all
    reading.  Gives up after ``timeout`` seconds.  Raises `NoHolderError` when
    nobody holds the lock or the holder died meanwhile, `InvalidInputError`
    (``ForgedLock``, ``HolderNotVisible``, ``HolderUnreadable``,
    ``HolderYoungerThanFile``, ``HolderTooLarge``).
    """
    raise NotImplementedError
