"""Files that belong to a core, found by build ID: ``--debug-dir``.

A directory may hold separate debug files (``.build-id/xx/yyyy.debug``, or of any
name), whole executables and libraries, and the files that dwz took shared parts
out to.  These are files of whoever runs the command, not of a pod.
"""

import mmap
import os
import stat
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Final

from elftools.common.exceptions import ELFError
from elftools.elf.elffile import ELFFile

from stillframe.corefile.elf import build_id
from stillframe.errors import InvalidInputError

_BY_BUILD_ID: Final = (Path(), Path("usr/lib/debug"), Path("debug"))
"""Where a directory may have its ``.build-id``: the root of an image, or of its debug files."""


def find(directory: Path, wanted: Collection[bytes]) -> list[Path]:
    """The files below ``directory`` with one of these build IDs, and what they refer to.

    Walks through all of it only where ``.build-id`` does not answer for all of ``wanted``.
    """
    found = _find(directory, set(wanted))
    referred = {build for path in found if (build := alternate_build_id(path))}
    return [*found, *_find(directory, referred - set(wanted))]


def file_build_id(path: Path) -> bytes | None:
    """The build ID of a file; ``None`` for what is no ELF file, or cannot be read."""
    try:
        # A FIFO would block.
        fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        if not stat.S_ISREG(os.fstat(fd).st_mode) or os.pread(fd, 4, 0) != b"\x7fELF":
            return None
        with mmap.mmap(fd, 0, access=mmap.ACCESS_READ) as data:
            return build_id(data)
    except (OSError, InvalidInputError):
        return None
    finally:
        os.close(fd)


def alternate_build_id(path: Path) -> bytes | None:
    """The build ID of the file that dwz moved shared parts to (``.gnu_debugaltlink``)."""
    try:
        with path.open("rb") as file:
            section = ELFFile(file).get_section_by_name(".gnu_debugaltlink")
            return section.data().partition(b"\0")[2] or None if section else None
    except (OSError, ELFError):
        return None


def has_debug_info(path: Path) -> bool:
    """Whether a file has DWARF of its own."""
    try:
        with path.open("rb") as file:
            elf = ELFFile(file)
            return any(elf.get_section_by_name(name) for name in (".debug_info", ".zdebug_info"))
    except (OSError, ELFError):
        return False


def _find(directory: Path, wanted: set[bytes]) -> list[Path]:
    found = [path for build in sorted(wanted) for path in _by_build_id(directory, build)]
    if wanted <= {file_build_id(path) for path in found}:
        return found
    seen = {path.resolve() for path in found}
    for path in _files(directory):
        if path.resolve() not in seen and file_build_id(path) in wanted:
            seen.add(path.resolve())
            found.append(path)
    return found


def _by_build_id(directory: Path, build: bytes) -> Iterator[Path]:
    name = f".build-id/{build[:1].hex()}/{build[1:].hex()}"
    for root in _BY_BUILD_ID:
        for path in (directory / root / name, directory / root / f"{name}.debug"):
            if file_build_id(path) == build:
                yield path


def _files(directory: Path) -> Iterator[Path]:
    for parent, directories, names in os.walk(directory):
        directories.sort()
        yield from (Path(parent, name) for name in sorted(names))
