"""Identity: which process a snapshot belongs to, as the kernel says.

Flows in: an open snapshot.  Flows out: a `Holder`, the process proven to hold
the POSIX write lock on byte 0.  Nothing the process wrote is believed.
Deliberately absent: the pod it belongs to (the agent reads it from `cgroup`).
"""

import errno
import fcntl
import os
import re
import select
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from stillframe.capture.handover import Lock
from stillframe.capture.kernel import file_facts, same_descriptor_table
from stillframe.capture.procfiles import lines, list_below, read_small, status_field, thread_ids
from stillframe.capture.refusals import NoHolderError, Refusal, refused
from stillframe.errors import StillframeError, TemporaryError
from stillframe.names import LOCK_OWNER

START_SLACK_NS: Final = 20_000_000
"""One clock tick of ``stat``'s start time plus one of the file's coarse birth time."""
_DIRECTORY: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
_GONE: Final = (errno.ESRCH, errno.ENOENT)
_OURS: Final = (errno.EMFILE, errno.ENFILE, errno.ENOMEM)
PF_EXITING: Final = 0x4
"""include/linux/sched.h"""
_LOCK_LINE: Final = re.compile(
    r"^lock:\t\d+: POSIX  (?:ADVISORY|MANDATORY) +WRITE (\d+) ([0-9a-f]+):([0-9a-f]+):(\d+) (\d+) ",
    re.MULTILINE,
)
"""``fs/locks.c``, ``lock_get_status``: pid, device major:minor (hex), inode, first byte."""


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
        """Whether the process has a living thread (the leader may be a zombie)."""
        return not self.wait_dead(0)

    def wait_dead(self, timeout: float) -> bool:
        """Wait at most ``timeout`` seconds for its death; whether it died."""
        return _dead_within(self.pidfd, timeout)

    def started_ns(self) -> int:
        """Its start on ``CLOCK_REALTIME``, ns, up to one clock tick early."""
        return _started_ns(self.start_ticks)

    def close(self) -> None:
        """Close all three descriptors."""
        for fd in (self.task_fd, self.proc_fd, self.pidfd):
            os.close(fd)


def attest(fd: int, *, timeout: float = 1.0) -> Holder:
    """The process that holds the POSIX write lock on byte 0 of ``fd``.

    Four proofs: ``F_GETLK`` names a candidate; with its pidfd and ``/proc``
    directory open, a ``fdinfo`` file of one of its threads shows the lock on
    this device and inode; it is older than the file; it lives and holds the
    lock after all reading.  Gives up after ``timeout`` seconds.  Raises `NoHolderError` when
    nobody holds the lock or the holder died meanwhile, `InvalidInputError`
    (``ForgedLock``, ``HolderNotVisible``, ``HolderUnreadable``,
    ``HolderYoungerThanFile``, ``HolderTooLarge``).
    """
    pid = _candidate(fd)
    with ExitStack() as opened:
        try:
            pidfd = _open_candidate(pid, fd)
            opened.callback(os.close, pidfd)
            proc_fd = os.open(f"/proc/{pid}", _DIRECTORY)
            opened.callback(os.close, proc_fd)
            tid = _thread_with_lock(proc_fd, pid, fd, time.monotonic() + timeout)
            holder = holder_of(pid, tid, pidfd, proc_fd)
            opened.callback(os.close, holder.task_fd)
        except OSError as error:
            raise _foreign(error, pid) from error
        _require_older(holder.start_ticks, fd)
        if not still_holds(fd, holder):
            raise NoHolderError(f"process {pid} died while it was looked at")
        opened.pop_all()
        return holder


def still_holds(fd: int, holder: Holder) -> bool:
    """Whether a process that was attested for ``fd`` lives and is the same program as then.

    Its descriptor is close-on-exec, so the lock does not outlive an ``exec``.
    """
    lock = owner_lock(fd)
    return lock is not None and lock.pid == holder.pid and holder.alive()


def holder_of(pid: int, tid: int, pidfd: int, proc_fd: int) -> Holder:
    """What the kernel says of an open process; opens one descriptor more.

    Raises `OSError` (``ESRCH`` for a thread that is ending); the descriptors
    given are the caller's then.
    """
    task_fd = os.open(f"task/{tid}", _DIRECTORY, dir_fd=proc_fd)
    try:
        comm, start_ticks = _parse_stat(_text(proc_fd, "stat"))
        holder = Holder(
            pid=pid,
            tid=tid,
            pidfd=pidfd,
            proc_fd=proc_fd,
            task_fd=task_fd,
            start_ticks=start_ticks,
            pids=tuple(map(int, status_field(read_small(task_fd, "status"), b"NStgid:"))),
            pid_ns=os.stat("ns/pid", dir_fd=task_fd).st_ino,
            cgroup=tuple(
                line.decode(errors="replace") for line in lines(read_small(task_fd, "cgroup"))
            ),
            comm=comm,
        )
        # Asked for last: from here on hierarchies of cgroup v1 show a thread in the root
        # (proc_cgroup_show), while its process lives on, to its pidfd and with its locks.
        if _is_ending(_text(task_fd, "stat")):
            raise ProcessLookupError(errno.ESRCH, f"thread {tid} is ending")
    except OSError:
        os.close(task_fd)
        raise
    return holder


def owner_lock(fd: int) -> Lock | None:
    """The lock on byte 0 as ``F_GETLK`` tells it; None when nobody holds one."""
    question = Lock(fcntl.F_WRLCK, LOCK_OWNER)
    lock = Lock.unpack(fcntl.fcntl(fd, fcntl.F_GETLK, question.pack()))
    return None if lock.type == fcntl.F_UNLCK else lock


def _candidate(fd: int) -> int:
    """The pid that ``F_GETLK`` names: not believed yet, its taker may be long dead."""
    lock = owner_lock(fd)
    if lock is None:
        raise NoHolderError("nobody holds byte 0")
    if lock.type != fcntl.F_WRLCK or lock.pid < 0:
        raise refused(Refusal.FORGED_LOCK, "byte 0 is held by another kind of lock")
    if lock.pid == 0:
        raise refused(
            Refusal.HOLDER_NOT_VISIBLE, "the holder of byte 0 is outside of our pid namespace"
        )
    return lock.pid


def _open_candidate(pid: int, fd: int) -> int:
    try:
        return os.pidfd_open(pid)
    except ProcessLookupError as error:
        raise _not_held_by(pid, fd) from error


def _not_held_by(pid: int, fd: int) -> StillframeError:
    """Why ``pid`` does not hold the lock it is named for.

    A process that dies loses its locks before its pid; a lock that is still
    there was taken through a descriptor table that others share.
    """
    lock = owner_lock(fd)
    if lock is None or lock.pid != pid:
        return NoHolderError(f"process {pid} died while it was looked at")
    return refused(
        Refusal.FORGED_LOCK,
        f"process {pid} is named as the lock's holder, but no descriptor of it holds the lock",
    )


def _thread_with_lock(proc_fd: int, pid: int, fd: int, deadline: float) -> int:
    """The thread whose descriptor table holds the lock on the file behind ``fd``.

    The library gives the crashing thread a table of its own, so each *table*
    is searched, not each thread.  Only descriptors of the same dentry name
    are opened: other fdinfo files can be large (inotify, epoll), and a
    ``stat`` through the descriptor could wait for a FUSE server.
    """
    status = os.fstat(fd)
    file = (os.major(status.st_dev), os.minor(status.st_dev), status.st_ino)
    id_ = Path(f"/proc/self/fd/{fd}").readlink().name.strip(".").partition(".")[0]
    for tid in descriptor_tables(proc_fd, deadline):
        task_fd = os.open(f"task/{tid}", _DIRECTORY, dir_fd=proc_fd)
        try:
            if any(
                _shows_lock(_text(task_fd, f"fdinfo/{number}"), pid, file)
                for number in _descriptors_named(task_fd, id_, deadline)
            ):
                return tid
        finally:
            os.close(task_fd)
    raise _not_held_by(pid, fd)


def descriptor_tables(proc_fd: int, deadline: float) -> Iterator[int]:
    """One thread of each distinct descriptor table of a process.

    Raises `InvalidInputError` (``HolderTooLarge``) when it is past ``deadline``, seconds
    on the monotonic clock, and `OSError` when a thread ends meanwhile.
    """
    seen: list[int] = []
    for tid in thread_ids(proc_fd):
        _require_time(deadline)
        if not any(same_descriptor_table(tid, other) for other in seen):
            seen.append(tid)
            yield tid


def _descriptors_named(task_fd: int, text: str, deadline: float) -> Iterator[str]:
    """The numbers of a thread's descriptors whose path contains ``text``."""
    for number in list_below(task_fd, "fd"):
        _require_time(deadline)
        if text in os.readlink(f"fd/{number}", dir_fd=task_fd):
            yield number


def _shows_lock(fdinfo: str, pid: int, file: tuple[int, int, int]) -> bool:
    """Whether a fdinfo file shows ``pid``'s POSIX write lock on byte 0 of ``file``.

    ``file`` is device major, minor and inode number.
    """
    return any(
        (int(match[1]), int(match[5])) == (pid, LOCK_OWNER)
        and (int(match[2], 16), int(match[3], 16), int(match[4])) == file
        for match in _LOCK_LINE.finditer(fdinfo)
    )


def _require_older(start_ticks: int, fd: int) -> None:
    """Refuse a process that started after the file was born: it got a reused pid.

    Both times are put on ``CLOCK_REALTIME``; if that clock is set between the
    two readings, a true holder may be refused, and its snapshot is taken
    without attestation later.
    """
    if _started_ns(start_ticks) > file_facts(fd).birth_ns + START_SLACK_NS:
        raise refused(
            Refusal.HOLDER_YOUNGER, "the process named as the lock's holder is younger than it"
        )


def _started_ns(start_ticks: int) -> int:
    boot_ns = time.time_ns() - time.clock_gettime_ns(time.CLOCK_BOOTTIME)
    return boot_ns + start_ticks * 1_000_000_000 // os.sysconf("SC_CLK_TCK")


def _parse_stat(text: str) -> tuple[str, int]:
    """The name and start time (clock ticks) in a ``/proc/PID/stat``.

    >>> _parse_stat("7 (a) b) S 1 7 7 0 -1 4194304 1 0 0 0 0 0 0 0 20 0 1 0 4711 0")
    ('a) b', 4711)
    """
    head, _, tail = text.rpartition(")")
    comm = head.partition("(")[2]
    return "".join(c if c.isprintable() else "?" for c in comm), int(tail.split()[19])


def _is_ending(stat: str) -> bool:
    """Whether the thread of a ``/proc/PID/task/TID/stat`` has begun to exit.

    >>> _is_ending("7 (a) S 1 7 7 0 -1 4194304 1 0"), _is_ending("7 (a) Z 1 7 7 0 -1 4194308 1 0")
    (False, True)
    """
    return bool(int(stat.rpartition(")")[2].split()[6]) & PF_EXITING)


def _text(directory_fd: int, path: str) -> str:
    return read_small(directory_fd, path).decode(errors="replace")


def _require_time(deadline: float) -> None:
    if time.monotonic() > deadline:
        raise refused(
            Refusal.HOLDER_TOO_LARGE, "too many descriptors: gave up looking for the lock"
        )


def _dead_within(pidfd: int, timeout: float) -> bool:
    poll = select.poll()
    poll.register(pidfd, select.POLLIN)
    return bool(poll.poll(timeout * 1000))


def _foreign(error: OSError, pid: int) -> StillframeError:
    if error.errno in _GONE:
        return NoHolderError(f"process {pid} is gone")
    if error.errno in _OURS:
        return TemporaryError(f"cannot look at process {pid}: {error}")
    return refused(
        Refusal.HOLDER_UNREADABLE,
        f"the kernel does not let us look at process {pid}: {error}",
        "The agent needs SYS_PTRACE and DAC_READ_SEARCH; local mode, a process of the same user.",
    )
