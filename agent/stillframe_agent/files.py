"""Files that survive a power cut: write aside, fsync, rename, fsync the directory."""

import os
from pathlib import Path


def write_durably(path: Path, data: bytes) -> None:
    """Replace ``path`` (mode 0640 less the umask) by ``data``, entirely or not at all.

    Raises `OSError`; the temporary file ``.<name>`` is then left to the next try.
    """
    temporary = path.with_name(f".{path.name}")
    with open(temporary, "wb", opener=lambda name, flags: os.open(name, flags, 0o640)) as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    temporary.rename(path)
    sync_directory(path.parent)


def sync_directory(path: Path) -> None:
    """Make the names in ``path`` durable."""
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
