"""``stillframe run``: one program, its crashes captured, its exit status ours."""

import os
import shutil
import tempfile
import threading
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final

import click
import msgspec

from stillframe.capture.corejob import Compression
from stillframe.capture.facts import FactsPolicy
from stillframe.capture.fullcore import CoreRequest
from stillframe.capture.handover import SnapshotDirectory, SnapshotName
from stillframe.capture.standby import Standby
from stillframe.cli.child import Child, StartError, die_like, hold_signals
from stillframe.cli.coverage import why_uncovered
from stillframe.cli.evidence import evidence_root, keep_crash, keep_option
from stillframe.cli.library import find_library
from stillframe.cli.watcher import Watcher
from stillframe.errors import PermanentError, StillframeError
from stillframe.names import ENV_CLAIM_MS, ENV_DIR, ENV_HOLD_MS, ENV_PRELOAD

EXIT_OURS: Final = 125
"""We failed before the program could run; as ``env``, ``timeout`` and ``docker`` say it."""
SHARED_MEMORY: Final = Path("/dev/shm")  # noqa: S108 -- a private directory is made below it
ENV_ASAN: Final = "ASAN_OPTIONS"


@click.command(context_settings={"allow_interspersed_args": False})
@keep_option
@click.option(
    "--timeout-hold",
    type=click.FloatRange(0, 3600),
    default=5.0,
    show_default=True,
    metavar="SECONDS",
    help="Longest time that a crashed process waits for its capture.",
)
@click.option(
    "--core",
    is_flag=True,
    help="Also keep a full core of each crashed process; see --timeout-hold.",
)
@click.option(
    "--core-bytes",
    type=click.IntRange(1),
    default=4 << 30,
    show_default=True,
    metavar="BYTES",
    help="Largest file of a full core; a larger one is cut.",
)
@click.option(
    "--compress/--no-compress",
    default=True,
    help="Store full cores as full.core.zst, or as they are: faster, and about five times as "
    "large.  [default: compress]",
)
@click.option(
    "--facts",
    "facts_wanted",
    default="all",
    show_default=True,
    metavar="LIST",
    help="Facts to take of a process, by comma: all, none, names, -name for all but it.",
)
@click.option(
    "--facts-env-allow",
    default="",
    metavar="LIST",
    help="More variables whose values may be kept, by comma; a * behind makes a prefix.",
)
@click.option("--json", "as_json", is_flag=True, help="Print each report as one line of JSON.")
@click.argument("command", nargs=-1, required=True, type=click.UNPROCESSED)
def run(
    *,
    keep: Path | None,
    timeout_hold: float,
    core: bool,
    core_bytes: int,
    compress: bool,
    facts_wanted: str,
    facts_env_allow: str,
    as_json: bool,
    command: tuple[str, ...],
) -> None:
    """Run COMMAND and report its crashes, and those of its children.

    Input, output, signals and the exit status are the command's own; reports
    go to standard error.
    """
    try:
        facts = FactsPolicy.parse(facts_wanted, facts_env_allow)
    except ValueError as error:
        raise click.UsageError(f"--facts, --facts-env-allow: {error}") from error
    request = None
    if core:
        request = CoreRequest(
            hold_seconds=timeout_hold,
            max_bytes=core_bytes,
            compression=Compression.ZSTD if compress else Compression.NONE,
            standby=Standby(),
        )
    try:
        status = _run(keep, timeout_hold, as_json, command, core=request, facts=facts)
    except StartError as error:
        _say(str(error))
        raise SystemExit(error.status) from error
    except StillframeError as error:
        _say(str(error))
        raise SystemExit(EXIT_OURS) from error
    die_like(status)


def _run(
    keep: Path | None,
    timeout_hold: float,
    as_json: bool,
    command: Sequence[str],
    *,
    core: CoreRequest | None,
    facts: FactsPolicy,
) -> int:
    root = evidence_root(keep, os.environ)
    library = find_library(os.environ)
    _warn_uncovered(command[0])
    printing = threading.Lock()

    def prepare() -> None:
        if core is not None and core.standby is not None:
            core.standby.prepare()

    def take(directory: SnapshotDirectory, name: SnapshotName) -> None:
        report, text = keep_crash(root, directory, name, command, core=core, facts=facts)
        prepare()
        with printing:
            _print(msgspec.json.encode(report).decode() if as_json else f"\n{text}")

    mask = hold_signals()
    with _private_directory() as parent:
        # One below the private one: a daemon that outlives us finds the parent
        # gone, and its library cannot make the directory anew.
        snapshots = Path(parent) / "snapshots"
        snapshots.mkdir()
        prepare()
        with Watcher(snapshots, take) as watcher:
            status = Child(command, _environment(library, snapshots, timeout_hold), mask).wait()
            for error in watcher.finish():
                _say(f"a snapshot was not captured: {error}")
    return status


def _environment(library: Path, snapshots: Path, timeout_hold: float) -> dict[str, str]:
    environment = dict(os.environ)
    existing = environment.get(ENV_PRELOAD)
    environment[ENV_PRELOAD] = f"{library}:{existing}" if existing else str(library)
    environment[ENV_DIR] = str(snapshots)
    # Our beacon says that we are here, and goes when we go: on a busy machine
    # a claim may take as long as the hold.
    environment[ENV_HOLD_MS] = environment[ENV_CLAIM_MS] = str(round(timeout_hold * 1000))
    # ASan refuses to start behind any other library, even a harmless one.
    environment.setdefault(ENV_ASAN, "verify_asan_link_order=0")
    return environment


def _private_directory() -> "tempfile.TemporaryDirectory[str]":
    try:
        return tempfile.TemporaryDirectory(prefix="stillframe-", dir=SHARED_MEMORY)
    except OSError as error:
        raise PermanentError(
            f"cannot make a directory in {SHARED_MEMORY}: {error.strerror}",
            "Mount a tmpfs there: mount -t tmpfs tmpfs /dev/shm",
        ) from error


def _warn_uncovered(program: str) -> None:
    path = shutil.which(program)
    why = path and why_uncovered(Path(path))
    if why:
        _say(f"crashes of {program} will not be captured: {why}. Running it all the same.")


def _say(text: str) -> None:
    _print(f"stillframe: {text}")


def _print(text: str) -> None:
    # Nobody reading our words is no reason to change the program's death.
    with suppress(BrokenPipeError):
        click.echo(text, err=True)
