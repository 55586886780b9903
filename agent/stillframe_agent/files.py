"""Files that survive a power cut: write aside, fsync, rename, fsync the directory."""

import hashlib
import os
from pathlib import Path

from stillframe_agent.manifest import KeptFile


def describe(kind: str, path: Path, name: str = "") -> KeptFile:
    """What a manifest says of a file that is there, or that will be called ``name``."""
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
        return KeptFile(kind=kind, file=name or path.name, bytes=file.tell(), sha256=digest)


def keep(kind: str, path: Path, data: bytes) -> KeptFile:
    """Write a file durably; what a manifest says of it.  Raises `OSError`."""
    write_durably(path, data)
    digest = hashlib.sha256(data).hexdigest()
    return KeptFile(kind=kind, file=path.name, bytes=len(data), sha256=digest)


def write_durably(path: Path, data: bytes) -> None:
    """Replace ``path`` (mode 0640 less the umask) by ``data``, entirely or not at all.

    Raises `OSError`; then nothing is left behind.
    """
    temporary = path.with_name(f".{path.name}")
    try:
        with open(temporary, "wb", opener=lambda name, flags: os.open(name, flags, 0o640)) as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        temporary.rename(path)
    except OSError:
        temporary.unlink(missing_ok=True)
        raise
    sync_directory(path.parent)


def sync_directory(path: Path) -> None:
    """Make the names in ``path`` durable."""
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
