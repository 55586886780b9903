"""The hand-over: names and record locks in the directory a library writes to.

Flows in: a directory of a pod.  Flows out: the names in it, an open snapshot,
and our locks.  Everything in the directory is hostile.  Deliberately absent:
who holds byte 0 (`identity`).

All locks taken here are OFD read locks: they need only read access, are seen
by the library's ``F_GETLK`` from any namespace, and end with our descriptor.
Never ``F_OFD_SETLKW``: a pod could make us wait for ever.
"""

import errno
import fcntl
import os
import re
import stat
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from stillframe.capture.kernel import Resolve, openat2
from stillframe.capture.refusals import Refusal, refused
from stillframe.errors import InvalidInputError, PermanentError, TemporaryError
from stillframe.names import LOCK_CLAIM, LOCK_DONE, SUFFIX_CORE, SUFFIX_PART

ANY_SIZE: Final = (1 << 63) - 1
"""For `open_snapshot`, where nothing will be read."""
WHOLE_FILE: Final = 0
"""``l_len`` that means "to the end, wherever that will be"."""
_FLOCK: Final = struct.Struct("hhqqi4x")
"""``struct flock`` of a 64-bit kernel: l_type, l_whence, l_start, l_len, l_pid."""
_NAME: Final = re.compile(r"(\.?)([0-9a-f]{32})(\.part|\.core)?", re.ASCII)


@dataclass(frozen=True, slots=True)
class Lock:
    """A record lock as ``fcntl(2)`` describes it."""

    type: int
    """``F_RDLCK``, ``F_WRLCK`` or ``F_UNLCK``."""
    start: int
    """First byte."""
    length: int = 1
    """Bytes; `WHOLE_FILE` for all."""
    pid: int = 0
    """Holder in our pid namespace; 0 when it is not visible there, -1 for an OFD lock."""

    def pack(self) -> bytes:
        """As ``struct flock``, ``l_whence`` = ``SEEK_SET``."""
        return _FLOCK.pack(self.type, os.SEEK_SET, self.start, self.length, self.pid)

    @classmethod
    def unpack(cls, data: bytes) -> Self:
        """From a ``struct flock`` that the kernel filled."""
        kind, _whence, start, length, pid = _FLOCK.unpack(data)
        return cls(kind, start, length, pid)


class Stage(Enum):
    """How far the writer has come, told by its file's name."""

    BIRTH = ""
    """``.<id>``: created, maybe not locked yet.  Ignored while young."""
    PART = SUFFIX_PART
    """``<id>.part``: locked, being written."""
    CORE = SUFFIX_CORE
    """``<id>.core``: complete."""


@dataclass(frozen=True, slots=True)
class SnapshotName:
    """A valid name in a snapshot directory."""

    id: str
    """32 lower-case hex digits, chosen by the library."""
    stage: Stage

    @property
    def file(self) -> str:
        """The file's name, relative to its directory.

        >>> SnapshotName("00112233445566778899aabbccddeeff", Stage.PART).file
        '00112233445566778899aabbccddeeff.part'
        """
        return f".{self.id}" if self.stage is Stage.BIRTH else self.id + self.stage.value

    @classmethod
    def parse(cls, name: str) -> Self:
        """The name's parts; raises `InvalidInputError` (``BadName``)."""
        match = _NAME.fullmatch(name)
        if match is None or bool(match[1]) == bool(match[3]):
            raise refused(Refusal.BAD_NAME, f"not a snapshot's name: {name[:64]!r}")
        return cls(match[2], Stage(match[3] or ""))


@dataclass(frozen=True, slots=True)
class Listing:
    """What a directory holds right now."""

    names: tuple[SnapshotName, ...]
    """Valid names, sorted by id."""
    refused: int
    """Entries whose name is not ours (``BadName``)."""
    cut: bool
    """True when there were more than ``limit`` entries: the rest was not read."""


@dataclass(frozen=True, slots=True)
class SnapshotDirectory:
    """An open snapshot directory that says "an agent is here" while it is open."""

    fd: int

    @classmethod
    def open(cls, path: Path | int) -> Self:
        """Open ``path`` (or reopen a directory descriptor) and take the beacon.

        The beacon is an OFD read lock over the whole directory; it ends with
        `close`.  Symbolic links are not followed in the last component.
        Raises `TemporaryError` when it is not there (any more) and
        `PermanentError` when it is no directory or its filesystem has no
        locks that a pod could see.
        """
        flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
        try:
            # "." makes another open file description: a dup() would share its locks' life.
            fd = os.open(".", flags, dir_fd=path) if isinstance(path, int) else os.open(path, flags)
        except FileNotFoundError as error:
            raise TemporaryError(f"no snapshot directory at {path}") from error
        except OSError as error:
            raise PermanentError(f"cannot open the snapshot directory {path}: {error}") from error
        try:
            _lock(fd, Lock(fcntl.F_RDLCK, 0, WHOLE_FILE))
        except OSError as error:
            os.close(fd)
            raise PermanentError(f"cannot lock the snapshot directory {path}: {error}") from error
        return cls(fd)

    def close(self) -> None:
        """Close; takes the beacon away."""
        os.close(self.fd)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


@dataclass(frozen=True, slots=True)
class OpenSnapshot:
    """A regular file of a snapshot directory, open for reading."""

    fd: int
    name: SnapshotName
    stat: os.stat_result
    """As of opening; ``st_size`` may still grow while the stage is `Stage.PART`."""

    def close(self) -> None:
        """Close; ends every lock taken through it."""
        os.close(self.fd)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


def list_names(directory_fd: int, *, limit: int = 1024) -> Listing:
    """The names in a directory, reading at most ``limit`` entries."""
    names: list[SnapshotName] = []
    bad = 0
    with os.scandir(directory_fd) as entries:
        for count, entry in enumerate(entries):
            if count == limit:
                return Listing(_sorted(names), bad, cut=True)
            try:
                names.append(SnapshotName.parse(entry.name))
            except InvalidInputError:
                bad += 1
    return Listing(_sorted(names), bad, cut=False)


def open_snapshot(directory_fd: int, name: SnapshotName, *, max_bytes: int) -> OpenSnapshot:
    """Open one file without following or waiting for anything.

    It is looked at before it is opened: opening a device can do something.
    Raises `InvalidInputError` (``Symlink``, ``NotRegular``, ``HardLink``,
    ``TooLarge``, ``Unreadable``) and `FileNotFoundError` when the name is gone
    (it may have become ``.core``).
    """
    resolve = Resolve.BENEATH | Resolve.NO_SYMLINKS | Resolve.NO_MAGICLINKS | Resolve.NO_XDEV
    try:
        found = openat2(directory_fd, name.file, os.O_PATH | os.O_NOFOLLOW, resolve)
    except FileNotFoundError:
        raise
    except OSError as error:
        mount_point = error.errno == errno.EXDEV
        reason = Refusal.NOT_REGULAR if mount_point else Refusal.UNREADABLE
        raise refused(reason, str(error)) from error
    try:
        status = _require_ours(os.fstat(found), name, max_bytes)
        # The same inode, whatever the name leads to by now; the link is our own descriptor's.
        flags = os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
        fd = os.open(f"/proc/self/fd/{found}", flags)
    except OSError as error:
        raise refused(Refusal.UNREADABLE, str(error)) from error
    finally:
        os.close(found)
    return OpenSnapshot(fd, name, status)


def _require_ours(status: os.stat_result, name: SnapshotName, max_bytes: int) -> os.stat_result:
    """``status``, if the library could have made such a file."""
    if stat.S_ISLNK(status.st_mode):
        raise refused(Refusal.SYMLINK, f"{name.file} is a symbolic link")
    if not stat.S_ISREG(status.st_mode):
        raise refused(Refusal.NOT_REGULAR, f"{name.file} is not a regular file")
    if status.st_nlink > 1:
        raise refused(Refusal.HARD_LINK, f"{name.file} has {status.st_nlink} names")
    if status.st_size > max_bytes:
        raise refused(
            Refusal.TOO_LARGE, f"{name.file}: {status.st_size} bytes, at most {max_bytes}"
        )
    return status


def claim(fd: int) -> None:
    """Lock byte 1: "I have seen you".  Raises `InvalidInputError` (``ClaimRefused``)."""
    _lock_against_pod(fd, LOCK_CLAIM)


def release(fd: int) -> None:
    """Lock byte 2: "you may go".  Raises `InvalidInputError` (``ClaimRefused``)."""
    _lock_against_pod(fd, LOCK_DONE)


@contextmanager
def unclaimed(fd: int) -> Iterator[int]:
    """The same file behind another open file description: none of our locks lives on in it."""
    again = os.open(f"/proc/self/fd/{fd}", os.O_RDONLY | os.O_CLOEXEC)
    try:
        yield again
    finally:
        os.close(again)


def discard(directory_fd: int, name: SnapshotName) -> bool:
    """Unlink ``name``; False when it was not allowed.  A name already gone is fine."""
    try:
        os.unlink(name.file, dir_fd=directory_fd)
    except FileNotFoundError:
        return True
    except OSError:
        return False
    return True


def _lock(fd: int, lock: Lock) -> None:
    fcntl.fcntl(fd, fcntl.F_OFD_SETLK, lock.pack())


def _lock_against_pod(fd: int, byte: int) -> None:
    try:
        _lock(fd, Lock(fcntl.F_RDLCK, byte))
    except (BlockingIOError, PermissionError) as error:
        # POSIX lets fcntl() say either EAGAIN or EACCES for a conflicting lock.
        raise refused(Refusal.CLAIM_REFUSED, f"byte {byte} is locked against us") from error


def _sorted(names: list[SnapshotName]) -> tuple[SnapshotName, ...]:
    return tuple(sorted(names, key=lambda name: (name.id, name.stage.value)))
