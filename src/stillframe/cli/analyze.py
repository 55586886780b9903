"""``stillframe analyze``: the report of a core on disk."""

import mmap
import os
import stat
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Final

import click
import msgspec

from stillframe import analysis
from stillframe.capture.kernel import Resolve, openat2
from stillframe.corefile import CoreFile
from stillframe.errors import PermanentError, StillframeError

MAX_MODULES: Final = 512
"""Files opened for one core; below the default limit of open files."""


@click.command()
@click.argument("core", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option(
    "--module",
    "modules",
    multiple=True,
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="A binary or debug file of the crashed program; found by build ID.  Repeatable.",
)
@click.option(
    "--root",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    default=Path("/"),
    show_default=True,
    help="Where the crashed program's files are, such as an unpacked image.",
)
@click.option("--json", "as_json", is_flag=True, help="Print the analysis as JSON.")
def analyze(core: Path, modules: tuple[Path, ...], root: Path, as_json: bool) -> None:
    """Report what happened in CORE."""
    try:
        result = _analyze(core, modules, root)
    except StillframeError as error:
        raise click.ClickException(str(error)) from error
    click.echo(msgspec.json.encode(result) if as_json else analysis.render_text(result), nl=False)


def _analyze(core: Path, modules: tuple[Path, ...], root: Path) -> analysis.Analysis:
    with ExitStack() as files:
        file = files.enter_context(core.open("rb"))
        given = [(str(path), files.enter_context(path.open("rb")).fileno()) for path in modules]
        for path, fd in _open_below(root, _mapped_paths(file.fileno())):
            files.callback(os.close, fd)
            given.append((path, fd))
        return analysis.analyze(file.fileno(), given)


def _mapped_paths(core_fd: int) -> list[str]:
    """The files that the core's process had mapped, as it saw them."""
    try:
        with mmap.mmap(core_fd, 0, access=mmap.ACCESS_READ) as data:
            return list(dict.fromkeys(file.path for file in CoreFile.from_bytes(data).files))
    except ValueError as error:
        raise PermanentError("the core is empty") from error


def _open_below(root: Path, paths: list[str]) -> Iterator[tuple[str, int]]:
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
