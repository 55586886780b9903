"""On hold: the sockets of a process that is held are shut down, and its clients fail at once.

A held server serves nobody, but the kernel goes on accepting connections for it,
and whoever is connected waits.  Flows in: an attested, stopped `Holder`.  Flows
out: one sentence for the report.  Called in a child of `tracer`: shutdown(2)
waits for the lock of a socket, which the held process can keep for ever.

Nothing is done here that the process could not do itself, and little that its
death will not do: it closes these sockets.  What others would feel is left
alone: a socket that any other process has as well (a pre-fork server's workers
serve on, and shut down it would stay shut for them: measured), and every socket of a
process that is not PID 1 of its namespace, whose death is not its container's.
"""

import errno
import os
import socket
import time
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from stillframe.capture.facts.proc import socket_inode
from stillframe.capture.identity import Holder, descriptor_tables, still_holds
from stillframe.capture.kernel import descriptor_of, socket_kind
from stillframe.errors import InvalidInputError

_FAMILIES: Final = (socket.AF_INET, socket.AF_INET6, socket.AF_UNIX)
_TYPES: Final = (socket.SOCK_STREAM, socket.SOCK_SEQPACKET)
"""Those with connections; datagrams have nobody who waits for the end of one."""
_DIRECTORY: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
_TRIES: Final = 3
"""Looks at a process whose threads come and go meanwhile; arbitrary."""
_AT_ONCE: Final = 256
"""Descriptors between two looks at the clock."""
_NONE: Final = "no socket was shut down while the process was held: "
_UNCONNECTED: Final = "none of its sockets listens or is connected"
_NOT_HELD: Final = "it is not held any more"
_TIME: Final = "looking at the descriptors of all processes took too long"


@dataclass(frozen=True, slots=True)
class Seen:
    """What was seen of the process and of all others."""

    pids: tuple[int, ...]
    """As `Holder.pids`."""
    own: Mapping[str, int]
    """Its sockets with connections: link in ``/proc/PID/fd`` → descriptor."""
    shared: Mapping[str, int]
    """Of these, the ones that another process has as well → its pid."""
    held: bool
    """Whether it still was held after all looking."""


@dataclass(frozen=True, slots=True)
class Choice:
    """Which sockets to shut down."""

    sockets: Mapping[str, int]
    """As `Seen.own`."""
    why_not: str = ""
    """Why others, or all, are left alone."""


@dataclass(slots=True)
class Shut:
    """What became of the chosen ones; those that neither listen nor are connected do not count."""

    down: int = 0
    late: int = 0
    """Not tried: time was over, or they could not be had any more."""


class _UnsureError(Exception):
    """Who else has the sockets cannot be told; the message says why."""


def shut_sockets(holder: Holder, lock_fd: int, deadline: float) -> str:
    """Shut down what `choose` allows, until ``deadline``; what was done, for people.

    ``lock_fd`` is the snapshot in which ``holder`` holds its lock, and is closed before any
    socket is touched: one that hangs us must not keep the pod's volume busy.  ``deadline``
    in seconds on the monotonic clock.  Never raises for what a process does.
    """
    if not _is_init(holder.pids):  # before anything that takes time
        return told(choose(Seen(holder.pids, {}, {}, held=True)), Shut())
    try:
        own = _with_connections(holder, deadline)
        shared = _shared(own, holder.pid, deadline) if own else {}
        held = still_holds(lock_fd, holder)
        os.close(lock_fd)
        choice = choose(Seen(holder.pids, own, shared, held))
        return told(choice, _shut(holder, choice.sockets, deadline))
    except (_UnsureError, OSError) as error:
        return f"{_NONE}{error if holder.alive() else _NOT_HELD}"


def choose(seen: Seen) -> Choice:
    """Which sockets nobody but a dying container will miss."""
    if not _is_init(seen.pids):
        return Choice({}, "it is not PID 1 of a container")
    if not seen.held:
        return Choice({}, _NOT_HELD)
    if not seen.own:
        return Choice({}, _UNCONNECTED)
    mine = {link: number for link, number in seen.own.items() if link not in seen.shared}
    return Choice(mine, _of_others(seen.shared))


def told(choice: Choice, shut: Shut) -> str:
    """The sentence for the report."""
    late = f"no time for {shut.late} others" if shut.late else ""
    reasons = "; ".join(filter(None, (choice.why_not, late)))
    if not shut.down:
        return f"{_NONE}{reasons or _UNCONNECTED}"
    done = f"sockets shut down while the process was held: {shut.down}"
    return f"{done} ({reasons})" if reasons else done


def _is_init(pids: tuple[int, ...]) -> bool:
    """Whether a process is PID 1 of a namespace that is not ours."""
    return len(pids) > 1 and pids[-1] == 1


def _of_others(shared: Mapping[str, int]) -> str:
    if not shared:
        return ""
    pid = next(iter(shared.values()))
    return f"{len(shared)} left alone: other processes have them as well, such as {pid}"


def _with_connections(holder: Holder, deadline: float) -> dict[str, int]:
    """`Seen.own`, of its first thread's table: the one from which we are given copies."""
    own: dict[str, int] = {}
    for number, link in _links(holder.proc_fd, "fd", deadline):
        if socket_inode(link) is not None and link not in own:
            with _copy(holder, link, number) as ours:
                if ours is not None and _has_connections(*socket_kind(ours)):
                    own[link] = number
    return own


def _has_connections(family: int, kind: int) -> bool:
    return family in _FAMILIES and kind in _TYPES


def _shared(own: Collection[str], pid: int, deadline: float) -> dict[str, int]:
    """Which sockets other processes have as well, each with the pid of one of them.

    Looks until there is no process that it has not seen: one may hand a socket
    to a child and end.  Raises `_UnsureError`.
    """
    shared: dict[str, int] = {}
    seen = {pid}
    while new := _pids() - seen:
        seen |= new
        for other in new:
            for link in _had_by(other, own, deadline):
                shared.setdefault(link, other)
    return shared


def _pids() -> set[int]:
    return {int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdecimal()}


def _had_by(pid: int, wanted: Collection[str], deadline: float) -> set[str]:
    """Which sockets are in a table of one of its threads."""
    for _ in range(_TRIES):
        try:
            proc_fd = os.open(f"/proc/{pid}", _DIRECTORY)
        except FileNotFoundError:
            break
        try:
            return {
                link
                for tid in descriptor_tables(proc_fd, deadline)
                for _, link in _links(proc_fd, f"task/{tid}/fd", deadline)
                if link in wanted
            }
        except InvalidInputError as error:
            raise _UnsureError(_TIME) from error
        except PermissionError as error:
            raise _UnsureError(f"the descriptors of process {pid} cannot be read") from error
        except (FileNotFoundError, ProcessLookupError):
            continue  # a thread ended: another one may have its table
        finally:
            os.close(proc_fd)
    else:
        raise _UnsureError(f"the threads of process {pid} come and go")
    return set()


def _links(directory_fd: int, path: str, deadline: float) -> Iterator[tuple[int, str]]:
    """The descriptors in a directory of /proc, and what they lead to."""
    fd = os.open(path, _DIRECTORY, dir_fd=directory_fd)
    try:
        with os.scandir(fd) as entries:
            for count, entry in enumerate(entries):
                if count % _AT_ONCE == 0:
                    _require_time(deadline)
                try:
                    link = os.readlink(entry.name, dir_fd=fd)
                except FileNotFoundError:
                    continue  # closed meanwhile
                yield int(entry.name), link
    finally:
        os.close(fd)


def _require_time(deadline: float) -> None:
    if time.monotonic() > deadline:
        raise _UnsureError(_TIME)


@contextmanager
def _copy(holder: Holder, link: str, number: int) -> Iterator[int | None]:
    """A socket of the process as ours; None when it is not that socket any more."""
    try:
        fd = descriptor_of(holder.pidfd, number)
    except OSError as error:
        if error.errno != errno.EBADF:
            raise _UnsureError(
                f"the kernel gives us none of its sockets: {error.strerror}"
            ) from error
        yield None
        return
    try:
        yield fd if str(Path(f"/proc/self/fd/{fd}").readlink()) == link else None
    finally:
        os.close(fd)


def _shut(holder: Holder, sockets: Mapping[str, int], deadline: float) -> Shut:
    shut = Shut()
    for tried, (link, number) in enumerate(sockets.items()):
        try:
            _require_time(deadline)
            with _copy(holder, link, number) as ours:
                shut.down += ours is not None and _shut_one(ours)
        except (_UnsureError, OSError):
            shut.late = len(sockets) - tried
            break
    return shut


def _shut_one(fd: int) -> bool:
    """Whether it is shut down; the kernel refuses where there is nothing to end."""
    with socket.socket(fileno=os.dup(fd)) as ours:
        try:
            ours.shutdown(socket.SHUT_RDWR)
        except OSError:
            return False
        listens = ours.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)
        if listens and ours.family == socket.AF_UNIX:
            _turn_away(ours)
        return True


def _turn_away(listening: socket.socket) -> None:
    """End the connections that wait to be accepted.

    TCP resets them when its listening socket is shut down (``inet_csk_listen_stop``);
    a Unix socket keeps them until it is closed.  Never waits: where nothing more can
    come, accept(2) fails.
    """
    while True:
        try:
            waiting, _address = listening.accept()
        except OSError:
            return
        waiting.close()
