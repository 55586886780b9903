"""Copying: our own copy of a snapshot, read once, durable before anybody deletes the original.

Two steps, because the dying process need wait only for the first: `stage`
reads the source to its end, `Staged.commit` makes the copy survive a power cut.
"""

import hashlib
import os
from dataclasses import dataclass
from typing import Final

from stillframe.capture.refusals import Refusal, refused
from stillframe.errors import InvalidInputError, TemporaryError

CHUNK: Final = 1 << 20
"""Bytes read at once; arbitrary, a typical snapshot is one read."""
FILE_MODE: Final = 0o640
"""The group may read: on a node it is the one of the process that serves artifacts."""


@dataclass(frozen=True, slots=True)
class Copied:
    """A copy that survives a power cut."""

    name: str
    """Of its file."""
    bytes: int
    sha256: str
    """Lower-case hex digest of exactly the bytes in the copy."""


@dataclass(frozen=True, slots=True)
class Staged:
    """A complete copy under a temporary name, not durable yet."""

    directory_fd: int
    name: str
    temporary: str
    fd: int
    """Open for reading and writing."""
    bytes: int
    sha256: str

    def commit(self) -> Copied:
        """Fsync, rename to ``name``, fsync the directory; closes ``fd``.

        Raises `TemporaryError` when our disk fails; nothing is left behind then.
        """
        try:
            os.fsync(self.fd)
            os.rename(
                self.temporary,
                self.name,
                src_dir_fd=self.directory_fd,
                dst_dir_fd=self.directory_fd,
            )
            os.fsync(self.directory_fd)
        except OSError as error:
            self.abandon()
            raise TemporaryError(f"cannot make {self.name} durable: {error}") from error
        os.close(self.fd)
        return Copied(self.name, self.bytes, self.sha256)

    def abandon(self) -> None:
        """Unlink the temporary file; closes ``fd``."""
        os.close(self.fd)
        _unlink(self.directory_fd, self.temporary)


def stage(source_fd: int, directory_fd: int, name: str, *, max_bytes: int) -> Staged:
    """Copy ``source_fd`` from its start to its end into a new file, mode 0640.

    Raises `InvalidInputError` (``TooLarge``) past ``max_bytes`` bytes, and
    `TemporaryError` when our disk is full or failing.
    """
    temporary = f".{name}.tmp"
    flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    try:
        # A copy that was cut short by our own death; never anybody else's.
        _unlink(directory_fd, temporary)
        fd = os.open(temporary, flags, FILE_MODE, dir_fd=directory_fd)
    except OSError as error:
        raise TemporaryError(f"cannot create {temporary}: {error}") from error
    try:
        os.fchmod(fd, FILE_MODE)
        size, digest = _copy(source_fd, fd, max_bytes)
    except OSError as error:
        _drop(fd, directory_fd, temporary)
        raise TemporaryError(f"cannot copy to {temporary}: {error}") from error
    except InvalidInputError:
        _drop(fd, directory_fd, temporary)
        raise
    return Staged(directory_fd, name, temporary, fd, size, digest)


def _copy(source_fd: int, fd: int, max_bytes: int) -> tuple[int, str]:
    digest = hashlib.sha256()
    size = 0
    while chunk := os.pread(source_fd, CHUNK, size):
        size += len(chunk)
        if size > max_bytes:
            raise refused(Refusal.TOO_LARGE, f"more than {max_bytes} bytes")
        digest.update(chunk)
        _write_all(fd, chunk)
    return size, digest.hexdigest()


def _write_all(fd: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]


def _drop(fd: int, directory_fd: int, name: str) -> None:
    os.close(fd)
    _unlink(directory_fd, name)


def _unlink(directory_fd: int, name: str) -> None:
    try:
        os.unlink(name, dir_fd=directory_fd)
    except FileNotFoundError:
        return
