"""What is kept of a crash, and what is said about it.

Flows in: one snapshot.  Flows out: a directory ``<id>`` with the snapshot, the
report for people and the report for programs (and a full core, and a JVM's own
log), and what else was found out; and lines for the terminal.
"""

import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path

import msgspec

from stillframe.analysis import Analysis, analyze, render_text
from stillframe.capture.facts import FactsPolicy, Redactor, render_facts
from stillframe.capture.fullcore import CoreRequest
from stillframe.capture.handover import SnapshotDirectory, SnapshotName
from stillframe.capture.pipeline import DEFAULT_FACTS, Capture, capture
from stillframe.errors import PermanentError, StillframeError
from stillframe.names import (
    ARTIFACT_CORE,
    ARTIFACT_FACTS,
    ARTIFACT_HS_ERR,
    ARTIFACT_REPORT_JSON,
    ARTIFACT_REPORT_TEXT,
    ARTIFACT_SNAPSHOT,
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
    """Path of the full core, compressed; None without ``--core``, or when there is none."""
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
        analysis, problem = _analyze(captured)
        report = Report(
            id=captured.id,
            command=_redacted(command, captured),
            snapshot=str(captured.path),
            bytes=captured.bytes,
            sha256=captured.sha256,
            core=str(home / ARTIFACT_CORE) if captured.core else None,
            facts=_keep_facts(home, captured),
            attested=captured.attested,
            complete=captured.complete,
            held_millis=captured.held_millis,
            soft_errors=(*captured.soft_errors, *problem),
            analysis=analysis,
        )
        text = _render(report, captured)
    (home / ARTIFACT_REPORT_JSON).write_bytes(msgspec.json.encode(report))
    (home / ARTIFACT_REPORT_TEXT).write_text(text)
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


def _analyze(captured: Capture) -> tuple[Analysis | None, tuple[str, ...]]:
    modules = [(module.path, module.fd) for module in captured.modules]
    try:
        with captured.path.open("rb") as core:
            return analyze(core.fileno(), modules), ()
    except StillframeError as error:
        return None, (str(error),)


def _render(report: Report, captured: Capture) -> str:
    # Mappings come in address order, and a program lies below its libraries.
    program = [captured.modules[0].path] if captured.modules else []
    debugger = shlex.join(["gdb", *program, "-c", report.snapshot])
    extra = {"Evidence": str(captured.path.parent), "Debug": debugger}
    if report.held_millis is not None:
        extra = {"Held": f"{report.held_millis} ms"} | extra
    if report.core is not None:
        extra["Full core"] = report.core
    if captured.hs_err is not None:
        extra["JVM's log"] = str(captured.path.with_name(ARTIFACT_HS_ERR))
    if not report.complete:
        extra["Incomplete"] = "the process was killed while its snapshot was written"
    facts = render_facts(captured.facts.facts) if captured.facts else ""
    if report.analysis is not None:
        text = render_text(report.analysis, extra)
        return text + facts + _list("Not captured:", captured.soft_errors)
    head = "".join(f"{label + ':':<13}{value}\n" for label, value in extra.items())
    return f"A process crashed.\n\n{head}{facts}" + _list("Not found out:", report.soft_errors)


def _list(title: str, lines: Sequence[str]) -> str:
    return "".join(f"{line}\n" for line in ("", title, *(f"  {line}" for line in lines)) if lines)
