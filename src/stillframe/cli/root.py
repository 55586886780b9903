"""The crashed program's files: where its root is, such as an unpacked image."""

import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import click

from stillframe.capture.kernel import Resolve, openat2

MAX_MODULES: Final = 512
"""Files opened for one core; below the default limit of open files."""

root_option: Final = click.option(
    "--root",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    default=Path("/"),
    show_default=True,
    help="Where the crashed program's files are, such as an unpacked image.",
)


def open_below(root: Path, paths: list[str]) -> Iterator[tuple[str, int]]:
    """Open what there is of ``paths`` in ``root``; the caller closes."""
    root_fd = os.open(root, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        for path in paths[:MAX_MODULES]:
            try:
                fd = openat2(
                    root_fd,
                    path,
                    os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY,
                    Resolve.IN_ROOT | Resolve.NO_MAGICLINKS,
                )
            except OSError:
                continue  # the report says which modules were missing
            if stat.S_ISREG(os.fstat(fd).st_mode):
                yield path, fd
            else:
                os.close(fd)
    finally:
        os.close(root_fd)
