"""The hand-over: names and record locks in the directory a library writes to.

Flows in: a directory of a pod.  Flows out: the names in it, an open snapshot,
and our locks.  Everything in the directory is hostile.  Deliberately absent:
who holds byte 0 (`identity`).

All locks taken here are OFD read locks: they need only read access, are seen
by the library's ``F_GETLK`` from any namespace, and end with our descriptor.
"""

import os
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from types import TracebackType
from typing import Self


class Stage(Enum):
    """How far the writer has come, told by its file's name."""

    BIRTH = "."
    """``.<id>``: created, maybe not locked yet.  Ignored while young."""
    PART = ".part"
    """``<id>.part``: locked, being written."""
    CORE = ".core"
    """``<id>.core``: complete."""


@dataclass(frozen=True, slots=True)
class SnapshotName:
    """A valid name in a snapshot directory."""

    id: str
    """32 lower-case hex digits, chosen by the library."""
    stage: Stage

    @property
    def file(self) -> str:
        """The file's name, relative to its directory."""
        raise NotImplementedError

    @classmethod
    def parse(cls, name: str) -> Self:
        """The name's parts; raises `InvalidInputError` (``BadName``)."""
        raise NotImplementedError


@dataclass(frozen=True, slots=True)
class Listing:
    """What a directory holds right now."""

    names: tuple[SnapshotName, ...]
    """Valid names, sorted by id."""
    refused: int
    """Entries whose name is not ours (``BadName``)."""
    cut: bool
    """True when there were more than ``limit`` entries: the rest was not read."""


class SnapshotDirectory:
    """An open snapshot directory that says "an agent is here" while it is open."""

    fd: int

    @classmethod
    def open(cls, path: Path | int) -> Self:
        """Open ``path`` (or reopen a directory descriptor) and take the beacon.

        The beacon is an OFD read lock over the whole directory; it ends with
        `close`.  Symbolic links are not followed in the last component.
        Raises `TemporaryError` when it is not there (any more) and
        `PermanentError` when it is no directory or on overlayfs, where a lock
        taken above is invisible below.
        """
        raise NotImplementedError

    def close(self) -> None:
        """Close; takes the beacon away.  May be called twice."""
        raise NotImplementedError

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
        raise NotImplementedError


def list_names(directory_fd: int, *, limit: int = 1024) -> Listing:
    """The names in a directory, reading at most ``limit`` entries."""
    raise NotImplementedError


def open_snapshot(directory_fd: int, name: SnapshotName, *, max_bytes: int) -> OpenSnapshot:
    """Open one file without following or waiting for anything.

    Raises `InvalidInputError` (``Symlink``, ``NotRegular``, ``TooLarge``,
    ``Unreadable``) and `FileNotFoundError` when the name is gone (it may have
    become ``.core``).
    """
    raise NotImplementedError


def claim(fd: int) -> None:
    """Lock byte 1: "I have seen you".  Raises `InvalidInputError` (``ClaimRefused``)."""
    raise NotImplementedError


def release(fd: int) -> None:
    """Lock byte 2: "you may go".  Raises `InvalidInputError` (``ClaimRefused``)."""
    raise NotImplementedError


def discard(directory_fd: int, name: SnapshotName) -> bool:
    """Unlink ``name``; False when it was not allowed.  A name already gone is fine."""
    raise NotImplementedError
