"""Copying: our own copy of a snapshot, read once, durable before anybody deletes the original.

Two steps, because the dying process need wait only for the first: `stage`
reads the source to its end, `Staged.commit` makes the copy survive a power cut.
"""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Copied:
    """A copy that survives a power cut."""

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
        """Fsync, rename to ``name``, fsync the directory; closes ``fd``."""
        raise NotImplementedError

    def abandon(self) -> None:
        """Unlink the temporary file; closes ``fd``."""
        raise NotImplementedError


def stage(source_fd: int, directory_fd: int, name: str, *, max_bytes: int) -> Staged:
    """Copy ``source_fd`` from its start to its end into a new file, mode 0640.

    Raises `InvalidInputError` (``TooLarge``) past ``max_bytes`` bytes, and
    `TemporaryError` when our disk is full or failing.
    """
    raise NotImplementedError
