"""``stillframe bundle``: evidence of this machine, made to be debugged on another."""

import mmap
import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import IO, Final

import click

from stillframe.analysis.images import find_images, given_file
from stillframe.bundle import Contents, compressed, write_bundle
from stillframe.cli.root import open_below, root_option
from stillframe.cli.sample import sample_of
from stillframe.corefile import CoreFile
from stillframe.errors import PermanentError, StillframeError
from stillframe.names import ARTIFACT_REPORT_JSON, ARTIFACT_REPORT_TEXT

_FILE: Final = click.Path(exists=True, dir_okay=False, path_type=Path)


@click.command()
@click.argument("evidence", type=click.Path(exists=True, path_type=Path))
@click.option(
    "-o",
    "--output",
    type=click.Path(dir_okay=False, path_type=Path),
    required=True,
    metavar="FILE",
    help="The archive, compressed where it is called .tar.zst.",
)
@root_option
@click.option(
    "--debug-file", "debug_files", multiple=True, type=_FILE, help="Put it in, too.  Repeatable."
)
def bundle(evidence: Path, output: Path, root: Path, debug_files: tuple[Path, ...]) -> None:
    """Pack EVIDENCE with the program and its libraries, for gdb elsewhere.

    EVIDENCE is a directory that stillframe made, or a core.  Unpack the
    archive anywhere and run ./debug in it.
    """
    try:
        for line in _bundle(evidence, output, root, debug_files):
            click.echo(f"stillframe: {line}", err=True)
    except (StillframeError, OSError) as error:
        output.unlink(missing_ok=True)
        raise click.ClickException(str(error)) from error


def _bundle(evidence: Path, output: Path, root: Path, debug_files: tuple[Path, ...]) -> list[str]:
    """Write the archive; what is missing in it, one line each."""
    sample = sample_of(evidence)
    notes = [evidence / name for name in (ARTIFACT_REPORT_TEXT, ARTIFACT_REPORT_JSON)]
    with ExitStack() as files:
        modules, program, missing = _modules(files, sample.core, root)
        contents = Contents(
            name=evidence.resolve().name,
            core=sample.full_core or sample.core,
            modules=modules,
            program=program,
            debug_files=debug_files,
            notes=[path for path in notes if path.exists()],
        )
        with output.open("wb") as raw, _shaped(raw, output.name) as out:
            write_bundle(out, contents)
    return missing


def _modules(
    files: ExitStack, core: Path, root: Path
) -> tuple[list[tuple[str, int]], str, list[str]]:
    """The core's ELF files below ``root``, open; which of them is the program; what is missing."""
    data = _mapped(files, core)
    parsed = CoreFile.from_bytes(data)
    given = []
    for path, fd in open_below(root, list(dict.fromkeys(file.path for file in parsed.files))):
        files.callback(os.close, fd)
        if os.fstat(fd).st_size:
            content = files.enter_context(mmap.mmap(fd, 0, access=mmap.ACCESS_READ))
            given.append(given_file(path, fd, content))
    images = [image for image in find_images(parsed, given).all if image.path.startswith("/")]
    usable = {image.path: image.file.fd for image in images if image.file is not None}
    missing = {
        image.path: "is of another build than the one that crashed"
        if image.status == "mismatch"
        else f"is not below {root}"
        for image in images
        if image.file is None
    }
    # In order of address; a program lies below its libraries.
    program = images[0].path if images else ""
    return list(usable.items()), program, [f"{path!r} {why}" for path, why in missing.items()]


def _mapped(files: ExitStack, core: Path) -> mmap.mmap:
    file = files.enter_context(core.open("rb"))
    try:
        return files.enter_context(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
    except ValueError as error:
        raise PermanentError("the core is empty") from error


@contextmanager
def _shaped(raw: IO[bytes], name: str) -> Iterator[IO[bytes]]:
    if name.endswith(".zst"):
        with compressed(raw) as out:
            yield out
    else:
        yield raw
