"""``stillframe analyze``: the report of a crash by what is kept of it."""

import mmap
import os
from contextlib import ExitStack
from pathlib import Path

import click
import msgspec

from stillframe import analysis
from stillframe.analysis.images import VDSO, find_images
from stillframe.capture.facts import render_kept
from stillframe.cli.debuginfod import Server, cache_directory
from stillframe.cli.root import open_below, root_option
from stillframe.cli.sample import sample_of
from stillframe.cli.search import Search
from stillframe.corefile import CoreFile
from stillframe.errors import PermanentError, StillframeError


@click.command()
@click.argument("evidence", type=click.Path(exists=True, path_type=Path))
@click.option(
    "--module",
    "modules",
    multiple=True,
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="A binary or debug file of the crashed program; found by build ID.  Repeatable.",
)
@root_option
@click.option(
    "--debug-dir",
    "debug_dirs",
    multiple=True,
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="Search this directory for debug files, executables and libraries by build ID.  "
    "Repeatable.",
)
@click.option(
    "--debuginfod",
    metavar="URL",
    help="Ask this server for what is missing, which tells it the build IDs.",
)
@click.option(
    "--variables/--no-variables",
    default=True,
    show_default=True,
    help="Show parameters and local variables of the crashing frame.",
)
@click.option("--json", "as_json", is_flag=True, help="Print the analysis as JSON.")
def analyze(
    evidence: Path,
    *,
    modules: tuple[Path, ...],
    root: Path,
    debug_dirs: tuple[Path, ...],
    debuginfod: str | None,
    variables: bool,
    as_json: bool,
) -> None:
    """Report what happened in EVIDENCE.

    EVIDENCE is a directory that stillframe made, such as a sample copied from a
    node, or a core.  Of a directory everything is used: a JVM's log for Java
    frames, a full core for Python's.  A core is taken alone.
    """
    try:
        sample = sample_of(evidence)
        server = Server(debuginfod, cache_directory()) if debuginfod else None
        with ExitStack() as files:
            core_fd = files.enter_context(sample.core.open("rb")).fileno()
            log = files.enter_context(sample.hs_err.open("rb")) if sample.hs_err else None
            result = analysis.analyze(
                core_fd,
                _given(files, core_fd, modules, root, Search(debug_dirs, server)),
                hs_err_fd=log.fileno() if log else None,
                full_core=sample.full_core,
                variables=variables,
            )
        facts = render_kept(sample.facts.read_bytes()) if sample.facts else ""
    except (StillframeError, OSError) as error:
        raise click.ClickException(str(error)) from error
    text = analysis.render_text(result) + facts
    click.echo(msgspec.json.encode(result) if as_json else text, nl=False)


def _given(
    files: ExitStack, core_fd: int, modules: tuple[Path, ...], root: Path, search: Search
) -> list[tuple[str, int]]:
    """Every file there is for a core, open until ``files`` is closed."""
    paths, build_ids = _mapped(core_fd)
    given = [(str(path), files.enter_context(path.open("rb")).fileno()) for path in modules]
    for path, fd in open_below(root, paths):
        files.callback(os.close, fd)
        given.append((path, fd))
    found, complaints = search.find(build_ids, [Path(f"/proc/self/fd/{fd}") for _, fd in given])
    for complaint in complaints:
        click.echo(complaint, err=True)
    more = [(str(path), files.enter_context(path.open("rb")).fileno()) for path in found]
    return given + more


def _mapped(core_fd: int) -> tuple[list[str], dict[bytes, str]]:
    """The files that the core's process had mapped, as it saw them, and their build IDs."""
    try:
        with mmap.mmap(core_fd, 0, access=mmap.ACCESS_READ) as data:
            core = CoreFile.from_bytes(data)
            images = [image for image in find_images(core, []).all if image.path != VDSO]
            paths = list(dict.fromkeys(file.path for file in core.files))
            return paths, {image.build_id: image.path for image in images if image.build_id}
    except ValueError as error:
        raise PermanentError("the core is empty") from error
