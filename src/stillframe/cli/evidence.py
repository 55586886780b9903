"""What is kept of a crash, and what is said about it.

Flows in: one snapshot.  Flows out: a directory ``<id>`` with the snapshot, the
report for people and the report for programs (and a full core, and a JVM's own
log), and what else was found out; and lines for the terminal.
"""

import shlex
import shutil
import uuid
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path

import click
import msgspec

from stillframe.analysis import Analysis, analyze, render_text
from stillframe.capture.facts import FactsPolicy, Redactor, render_facts
from stillframe.capture.fullcore import CoreRequest
from stillframe.capture.handover import SnapshotDirectory, SnapshotName
from stillframe.capture.identity import Holder
from stillframe.capture.live import snapshot_live
from stillframe.capture.modules import OpenModule
from stillframe.capture.pipeline import DEFAULT_FACTS, Capture, capture
from stillframe.capture.procfiles import read_small
from stillframe.errors import PermanentError, StillframeError
from stillframe.names import (
    ARTIFACT_FACTS,
    ARTIFACT_HS_ERR,
    ARTIFACT_REPORT_JSON,
    ARTIFACT_REPORT_TEXT,
    ARTIFACT_SNAPSHOT,
)

keep_option = click.option(
    "--keep",
    type=click.Path(file_okay=False, path_type=Path),
    metavar="DIR",
    help="Keep evidence below DIR.  [default: $XDG_STATE_HOME/stillframe]",
)


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """``report.json``: the facts of the capture and the analysis."""

    id: str
    command: tuple[str, ...]
    """What was run, redacted; the process that crashed may be a child of it."""
    snapshot: str
    """Path of the core."""
    bytes: int
    sha256: str
    core: str | None
    """Path of the full core; None without ``--core``, or when there is none."""
    facts: str | None
    """Path of what else was found out about the process; None when it was dead already."""
    attested: bool
    """Whether the kernel said which process wrote the snapshot."""
    complete: bool
    """False when the process was killed while it wrote."""
    held_millis: int | None
    soft_errors: tuple[str, ...]
    analysis: Analysis | None
    """None when nothing could be read from the snapshot."""


def evidence_root(keep: Path | None, environment: Mapping[str, str]) -> Path:
    """Where evidence goes: ``keep``, or ``stillframe`` in the user's state directory.

    Created when missing; raises `PermanentError` when that fails.
    """
    state = environment.get("XDG_STATE_HOME")
    root = keep or (Path(state) if state else Path.home() / ".local/state") / "stillframe"
    try:
        root.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise PermanentError(
            f"cannot keep evidence in {root}: {error.strerror}", "Choose a place with --keep DIR."
        ) from error
    return root.resolve()


def keep_crash(
    root: Path,
    directory: SnapshotDirectory,
    name: SnapshotName,
    command: Sequence[str],
    *,
    core: CoreRequest | None = None,
    facts: FactsPolicy = DEFAULT_FACTS,
) -> tuple[Report, str]:
    """Capture and analyze one crash below ``root``; its report, and the same for people.

    Raises as `capture` does; then nothing is left below ``root``.  A failing
    analysis is part of the report: the snapshot stays the evidence.
    """
    home = root / name.id
    home.mkdir(mode=0o700, exist_ok=True)
    try:
        captured = capture(
            directory,
            name,
            home / ARTIFACT_SNAPSHOT,
            facts=facts,
            core=lambda _: core or "",
        )
    except (StillframeError, OSError):
        home.rmdir()
        raise
    with captured:
        analysis, problem = _analyze(
            captured.path,
            captured.modules,
            hs_err=home / captured.hs_err.name if captured.hs_err else None,
            full_core=home / captured.core.name if captured.core else None,
        )
        report = Report(
            id=captured.id,
            command=_redacted(command, captured),
            snapshot=str(captured.path),
            bytes=captured.bytes,
            sha256=captured.sha256,
            core=str(home / captured.core.name) if captured.core else None,
            facts=_keep_facts(home, captured),
            attested=captured.attested,
            complete=captured.complete,
            held_millis=captured.held_millis,
            soft_errors=(*captured.soft_errors, *problem),
            analysis=analysis,
        )
        text = _render(report, captured)
    _write(home, report, text)
    return report, text


def _redacted(command: Sequence[str], captured: Capture) -> tuple[str, ...]:
    redactor = captured.facts.redactor if captured.facts else Redactor()
    return tuple(redactor.mask_arguments(command))


def _keep_facts(home: Path, captured: Capture) -> str | None:
    if captured.facts is None:
        return None
    path = home / ARTIFACT_FACTS
    path.write_bytes(msgspec.json.format(msgspec.json.encode(captured.facts.facts), indent=1))
    return str(path)


def keep_live(root: Path, pid: int, request: CoreRequest) -> tuple[Report, str]:
    """Take and analyze a core of a running process below ``root``; as `keep_crash` otherwise."""
    home = root / uuid.uuid4().hex
    home.mkdir(mode=0o700)
    try:
        with snapshot_live(pid, home, request) as live:
            path = home / live.core.name
            analysis, problem = _analyze(path, live.modules, full_core=path)
            report = Report(
                id=home.name,
                command=_command(live.process),
                snapshot=str(path),
                bytes=live.core.bytes,
                sha256=live.core.sha256,
                core=str(path),
                facts=None,
                attested=True,
                complete=True,
                held_millis=live.stopped_millis,
                soft_errors=(*live.soft_errors, *problem),
                analysis=analysis,
            )
            program = live.modules[0].path if live.modules else ""
    except BaseException:  # the terminal's interrupt, too
        shutil.rmtree(home)
        raise
    extra = {
        "Stopped": f"{report.held_millis} ms",
        "Evidence": str(home),
        "Debug": _debugger(program, report.snapshot),
    }
    text = _text(report, extra, live.soft_errors)
    _write(home, report, text)
    return report, text


def _command(process: Holder) -> tuple[str, ...]:
    arguments = read_small(process.task_fd, "cmdline").rstrip(b"\0").split(b"\0")
    decoded = (argument.decode(errors="backslashreplace") for argument in arguments)
    return tuple(Redactor().mask_arguments(tuple(decoded)))


def _analyze(
    core: Path,
    modules: Sequence[OpenModule],
    *,
    hs_err: Path | None = None,
    full_core: Path | None = None,
) -> tuple[Analysis | None, tuple[str, ...]]:
    given = [(module.path, module.fd) for module in modules]
    try:
        with ExitStack() as files:
            core_fd = files.enter_context(core.open("rb")).fileno()
            log_fd = files.enter_context(hs_err.open("rb")).fileno() if hs_err else None
            return analyze(core_fd, given, hs_err_fd=log_fd, full_core=full_core), ()
    except StillframeError as error:
        return None, (str(error),)


def _render(report: Report, captured: Capture) -> str:
    # Mappings come in address order, and a program lies below its libraries.
    program = captured.modules[0].path if captured.modules else ""
    extra = {
        "Evidence": str(captured.path.parent),
        "Debug": _debugger(program, report.snapshot),
    }
    if report.held_millis is not None:
        extra = {"Held": f"{report.held_millis} ms"} | extra
    if report.core is not None:
        extra["Full core"] = report.core
    if captured.hs_err is not None:
        extra["JVM's log"] = str(captured.path.with_name(ARTIFACT_HS_ERR))
    if not report.complete:
        extra["Incomplete"] = "the process was killed while its snapshot was written"
    facts = render_facts(captured.facts.facts) if captured.facts else ""
    return _text(report, extra, captured.soft_errors, facts)


def _debugger(program: str, core: str) -> str:
    return shlex.join(["gdb", *([program] if program else []), "-c", core])


def _text(
    report: Report, extra: Mapping[str, str], soft_errors: Sequence[str], facts: str = ""
) -> str:
    if report.analysis is not None:
        text = render_text(report.analysis, extra)
        return text + facts + _list("Not captured:", soft_errors)
    head = "".join(f"{label + ':':<13}{value}\n" for label, value in extra.items())
    return f"A process crashed.\n\n{head}{facts}" + _list("Not found out:", report.soft_errors)


def _write(home: Path, report: Report, text: str) -> None:
    (home / ARTIFACT_REPORT_JSON).write_bytes(msgspec.json.encode(report))
    (home / ARTIFACT_REPORT_TEXT).write_text(text)


def _list(title: str, lines: Sequence[str]) -> str:
    return "".join(f"{line}\n" for line in ("", title, *(f"  {line}" for line in lines)) if lines)
