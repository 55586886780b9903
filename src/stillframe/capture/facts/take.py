"""Reading the facts of a held process: the shell around the pure parsers.

Flows in: a `Holder` and a `FactsPolicy`.  Flows out: `TakenFacts`.  Blocking, for
1 to 10 ms of a typical process; after `TIME_LIMIT` nothing more is begun.

Everything is read through the attested thread's own directory in /proc, which
never leads to a later process, and each file once.  Nothing here asks a file
of the pod or a server: links of descriptors are read, not followed, and the
kernel reads environment and command line only where they are anonymous memory
(``FOLL_ANON``, Linux 4.17: no FUSE server is asked; a missing userfaultfd page
ends the text, tried).
"""

import errno
import os
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final, TypeVar

from stillframe.capture.facts import cgroup, proc, sockets
from stillframe.capture.facts.model import Cgroup, Descriptors, Facts, Sockets
from stillframe.capture.facts.redaction import Redactor
from stillframe.capture.facts.registry import (
    COMMAND_BYTES,
    DESCRIPTORS,
    DESCRIPTORS_COUNTED,
    ENVIRONMENT_BYTES,
    PROC_LIMIT,
    SOCKET_TABLE_BYTES,
    SOCKETS,
    TIME_LIMIT,
    FactName,
    FactsPolicy,
)
from stillframe.capture.handover import SnapshotName
from stillframe.capture.harmless import (
    MOUNTINFO_LIMIT,
    Filesystems,
    open_mount_point,
    parse_mountinfo,
)
from stillframe.capture.identity import Holder
from stillframe.capture.kernel import Resolve, file_facts, openat2
from stillframe.capture.procfiles import read_small
from stillframe.errors import InvalidInputError
from stillframe.names import SUFFIX_CORE, SUFFIX_PART

SWITCHED_OFF: Final = "switched off"
AGENTS: Final = "known to the node's agent only"
_TABLES: Final = ("unix", "udp", "udp6", "tcp", "tcp6")
"""Cheapest first, and only as far as needed: for each table of TCP the kernel walks the hash
table of the whole machine, 3 ms even when it holds three sockets."""
_WHY: Final = {
    errno.EAGAIN: "something else is mounted on the way to its cgroup",
    errno.EINVAL: "this kernel has no openat2(RESOLVE_CACHED), Linux 5.12",
    errno.ENOSYS: "this kernel has no openat2, Linux 5.6",
}
_BELOW_MOUNT: Final = (
    Resolve.BENEATH | Resolve.NO_MAGICLINKS | Resolve.NO_SYMLINKS | Resolve.NO_XDEV
)
_DIRECTORY: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class TakenFacts:
    """The facts, and what masks the process's secrets in what is read of it later."""

    facts: Facts
    redactor: Redactor


def take_facts(
    holder: Holder, policy: FactsPolicy, *, clock: Callable[[], float] = time.monotonic
) -> TakenFacts:
    """Everything that ``policy`` wants of a living process; never raises.

    A fact that cannot be had is in `Facts.missing` with the reason.  The caller
    makes sure afterwards that it is still the same process.
    """
    reader = _Reader(holder, policy, clock)
    reader.read()
    return TakenFacts(reader.facts(), reader.redactor)


class _Reader:
    """One process's facts while they are gathered."""

    def __init__(self, holder: Holder, policy: FactsPolicy, clock: Callable[[], float]) -> None:
        self.redactor = Redactor()
        self._holder = holder
        self._policy = policy
        self._clock = clock
        self._began = clock()
        self._found: dict[str, Any] = {}
        self._missing: dict[str, str] = {}
        self._sockets: list[tuple[int, int]] = []
        """Descriptor and inode numbers of the listed descriptors that are sockets."""

    def facts(self) -> Facts:
        """What was found so far."""
        millis = (self._clock() - self._began) * 1000
        return Facts(**self._found, missing=self._missing, taken_millis=round(millis, 3))

    def read(self) -> None:
        """Cheapest and most telling first: time may end before the last."""
        environment = self._try(FactName.ENVIRONMENT, self._environ)
        if environment is not None:
            # Also where it is not kept: it tells what to mask in the others.
            data, complete = environment
            self.redactor = Redactor(proc.parse_environ(data))
            self._take(
                FactName.ENVIRONMENT,
                lambda: proc.environment(
                    data, self._policy.allows, self.redactor, complete=complete
                ),
            )
        elif FactName.ENVIRONMENT not in self._policy.wanted:
            self._missing[FactName.ENVIRONMENT] = SWITCHED_OFF
        self._take(FactName.COMMAND, self._command)
        self._take(FactName.PROCESS, self._process)
        self._take(FactName.LIMITS, lambda: proc.parse_limits(self._text("limits")))
        self._take(FactName.KERNEL, lambda: os.uname().release)
        self._take(FactName.CGROUP, self._cgroup)
        self._take(FactName.DESCRIPTORS, self._descriptors)
        self._take(FactName.SOCKETS, self._match_sockets)
        for name in (FactName.CONTAINER, FactName.LOG):
            self._take(name, _not_here)

    def _take(self, name: FactName, read: Callable[[], object]) -> None:
        if name not in self._policy.wanted:
            self._missing[name] = SWITCHED_OFF
        elif self._clock() - self._began > TIME_LIMIT:
            self._missing[name] = "no time left: the process could not be held any longer for it"
        elif (value := self._try(name, read)) is not None:
            self._found[name] = value
            self._missing.pop(name, None)

    def _try(self, name: FactName, read: Callable[[], T]) -> T | None:
        try:
            return read()
        except _UnavailableError as error:
            self._missing[name] = str(error)
        except OSError as error:
            self._missing[name] = error.strerror or "cannot be read"
        except Exception:  # a parser's fault must not cost the capture
            # Never its message: that may hold what was to be redacted.
            self._missing[name] = "not in the form that this version knows"
        return None

    def _environ(self) -> tuple[bytes, bool]:
        data = self._bytes("environ", ENVIRONMENT_BYTES + 1)
        return data[:ENVIRONMENT_BYTES], len(data) <= ENVIRONMENT_BYTES

    def _command(self) -> object:
        data = self._bytes("cmdline", COMMAND_BYTES + 1)
        complete = len(data) <= COMMAND_BYTES
        return proc.command(data[:COMMAND_BYTES], self.redactor, complete=complete)

    def _process(self) -> object:
        uptime = (time.time_ns() - self._holder.started_ns()) / 1e9
        return proc.process(self._text("status"), self._text("oom_score_adj"), max(0.0, uptime))

    def _cgroup(self) -> Cgroup:
        mountinfo = self._bytes("mountinfo", MOUNTINFO_LIMIT)
        mounts = cgroup.parse_mounts(proc.decode(mountinfo))
        if not mounts:
            raise _UnavailableError("no cgroup is mounted where the process could see it")
        filesystems = parse_mountinfo(mountinfo)
        root = os.open(
            "root", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=self._holder.task_fd
        )
        found: dict[str, Any] = {}
        reasons: list[str] = []
        try:
            for controller in ("memory", "cpu", "pids"):
                for place in cgroup.places(self._holder.cgroup, mounts, controller):
                    try:
                        files = _cgroup_files(root, place, controller, filesystems)
                    except _UnavailableError as error:
                        reasons.append(str(error))
                        continue
                    except OSError as error:
                        reasons.append(_WHY.get(error.errno or 0) or error.strerror or "unreadable")
                        continue
                    part = cgroup.parse(place.mount.version, controller, files)
                    if part is not None:
                        found[controller] = part
                        break
        finally:
            os.close(root)
        if not found:
            nowhere = "no mount of its cgroup where the process could see it"
            raise _UnavailableError(reasons[0] if reasons else nowhere)
        return Cgroup(**found)

    def _descriptors(self) -> Descriptors:
        fd = os.open("fd", _DIRECTORY, dir_fd=self._holder.task_fd)
        try:
            # Since Linux 6.2 the size of this directory is their number
            # (f1f1f2569901, "fs/proc/fd.c: report the number of open fds").
            total = os.fstat(fd).st_size
            links, seen = self._links(fd, counted=bool(total))
        finally:
            os.close(fd)
        files = {link for _, link in links if _is_snapshot(link)}
        ours = files | {link.rpartition("/")[0] for link in files}
        own = [(number, link) for number, link in links if link not in ours]
        inodes = ((number, proc.socket_inode(link)) for number, link in own)
        self._sockets = [(number, inode) for number, inode in inodes if inode is not None]
        return proc.descriptors(
            (proc.descriptor(number, link, self.redactor) for number, link in own),
            (total or seen) - (len(links) - len(own)),
            complete=bool(total) or (seen < DESCRIPTORS_COUNTED and not self._late()),
        )

    def _links(self, fd: int, *, counted: bool) -> tuple[list[tuple[int, str]], int]:
        """The first descriptors with what they lead to, and how many there are at least."""
        links: list[tuple[int, str]] = []
        seen = 0
        with os.scandir(fd) as entries:
            for entry in entries:
                if seen == DESCRIPTORS_COUNTED or self._late():
                    break
                seen += 1
                if len(links) < DESCRIPTORS:
                    # One may be closed meanwhile by a thread that was not stopped.
                    with suppress(FileNotFoundError):
                        links.append((int(entry.name), os.readlink(entry.name, dir_fd=fd)))
                elif counted:
                    break
        return links, seen

    def _match_sockets(self) -> Sockets:
        if FactName.DESCRIPTORS not in self._found and FactName.DESCRIPTORS in self._policy.wanted:
            raise _UnavailableError("its descriptors are not known")
        if FactName.DESCRIPTORS not in self._policy.wanted:
            self._descriptors()
        opened = self._sockets[:SOCKETS]
        wanted = {inode for _, inode in opened}
        rows: dict[int, sockets.Row] = {}
        complete = True
        for table in _TABLES:
            if wanted <= rows.keys():
                break
            if self._late():
                complete = False
                break
            try:
                data = self._bytes(f"net/{table}", SOCKET_TABLE_BYTES)
            except FileNotFoundError:
                continue  # a kernel without IPv6
            complete = complete and len(data) < SOCKET_TABLE_BYTES
            rows |= sockets.parse_table(table, data)
        return Sockets(
            count=len({inode for _, inode in self._sockets}),
            listed=sockets.match(opened, rows, self.redactor),
            complete=complete or wanted <= rows.keys(),
        )

    def _late(self) -> bool:
        return self._clock() - self._began > TIME_LIMIT

    def _bytes(self, path: str, limit: int) -> bytes:
        return read_small(self._holder.task_fd, path, limit)

    def _text(self, path: str) -> str:
        return proc.decode(self._bytes(path, PROC_LIMIT))


class _UnavailableError(Exception):
    """There is no such fact; the message says why."""


def _not_here() -> object:
    raise _UnavailableError(AGENTS)


def _cgroup_files(
    root_fd: int, place: cgroup.Place, controller: str, filesystems: Filesystems
) -> dict[str, str]:
    """The files of one cgroup that are there.

    Raises `OSError` when the way to it is not the kernel's: something else may be
    mounted on top.
    """
    files = {}
    mount_fd = open_mount_point(root_fd, place.mount.point, filesystems)
    try:
        if file_facts(mount_fd).mount_id != place.mount.id:
            raise _UnavailableError("another filesystem is mounted over its cgroup")
        directory_fd = openat2(mount_fd, place.path, os.O_RDONLY | os.O_DIRECTORY, _BELOW_MOUNT)
    finally:
        os.close(mount_fd)
    try:
        for name in cgroup.FILES[place.mount.version][controller]:
            try:
                files[name] = proc.decode(read_small(directory_fd, name, PROC_LIMIT))
            except OSError:
                continue  # older kernels, or a controller that is not enabled here
    finally:
        os.close(directory_fd)
    return files


def _is_snapshot(link: str) -> bool:
    """Whether a descriptor is the one through which the library wrote the snapshot."""
    if not link.endswith((SUFFIX_PART, SUFFIX_CORE)):
        return False
    try:
        SnapshotName.parse(link.rpartition("/")[2])
    except InvalidInputError:
        return False
    return True
