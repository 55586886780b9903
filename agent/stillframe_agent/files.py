"""Files that survive a power cut: write aside, fsync, rename, fsync the directory."""

import os
from pathlib import Path


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
