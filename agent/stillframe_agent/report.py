"""Report: what the operator is told about one sample.

Flows in: the sample's `Manifest` and its `Analysis`, if there is one.  Flows
out: the message of the wire.  Computes only, no I/O.
"""

import hashlib
import signal
from collections.abc import Iterable
from typing import Final

from google.protobuf.timestamp_pb2 import Timestamp

from stillframe import names
from stillframe.analysis import Analysis, Note
from stillframe.rpc.v1.intake_pb2 import Artifact, Pod, Report, Signal
from stillframe_agent.manifest import Manifest

MAX_SOFT_ERRORS: Final = 16
UNKNOWN_CONTAINER: Final = "unknown"
"""Where the process was dead before we came and its pod has several containers."""
NO_FINGERPRINT: Final = f"{names.FINGERPRINT_VERSION}:{'0' * 16}"
"""Groups the crashes of a workload that could not be analysed."""
_MAX_LINE: Final = 256
_CLOCK_SLACK_SECONDS: Final = 7 * 86400.0
"""A crash is picked up so late at most: its volume does not live longer without an agent."""


def report_id(pod_uid: str, snapshot_id: str, inode: int) -> str:
    """32 hex digits that are the same whenever the same crash is seen.

    A pod chooses ``snapshot_id``, but not its UID nor the inode number, so it
    can neither take another pod's id nor use its own twice.

    >>> report_id("0a", "ff", 7)
    '9903737db5f345e552ac3d3fc3cea1fb'
    """
    text = f"{pod_uid}\n{snapshot_id}\n{inode}"
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def build(manifest: Manifest, analysis: Analysis | None, failure: str = "") -> Report:
    """The report of a sample; ``failure`` says why there is no analysis."""
    report = Report(
        id=manifest.report_id,
        crashed_at=_timestamp(manifest.created),
        node=manifest.node,
        pod=Pod(
            namespace=manifest.pod.namespace,
            name=manifest.pod.name,
            uid=manifest.pod.uid,
            container=manifest.pod.container or UNKNOWN_CONTAINER,
            container_id=manifest.pod.container_id,
        ),
        captured="core" if any(kept.kind == "core" for kept in manifest.files) else "snapshot",
        held_millis=-1 if manifest.held_millis is None else manifest.held_millis,
        release="done" if manifest.released else "",
        attested=manifest.attested,
        artifacts=[
            Artifact(kind=kept.kind, file=kept.file, bytes=kept.bytes, sha256=kept.sha256)
            for kept in manifest.files
        ],
    )
    if analysis is None:
        _without_analysis(report, manifest, failure)
    else:
        _with_analysis(report, manifest, analysis)
    return report


def _with_analysis(report: Report, manifest: Manifest, analysis: Analysis) -> None:
    note = analysis.note
    if note is not None:
        report.crashed_at.CopyFrom(_timestamp(_crash_time(note, manifest.created)))
        report.release = report.release or note.release
    report.signal.CopyFrom(
        Signal(
            number=analysis.signal.number,
            name=analysis.signal.name or _signal_name(analysis.signal.number),
            code=analysis.signal.code,
            address=analysis.signal.address or 0,
        )
    )
    report.fingerprint = analysis.fingerprint
    report.cause = analysis.cause
    report.message = analysis.message
    report.top_frame = analysis.top_frame
    report.stack.extend(analysis.stack)
    report.init_process = analysis.process.init_process
    report.process = analysis.process.comm
    report.involvement = analysis.involvement
    report.soft_errors.extend(_bounded((*manifest.soft_errors, *analysis.soft_errors)))


def _without_analysis(report: Report, manifest: Manifest, failure: str) -> None:
    if not manifest.complete:
        report.captured = "none"
    report.signal.CopyFrom(Signal(number=manifest.signal, name=_signal_name(manifest.signal)))
    report.fingerprint = NO_FINGERPRINT
    report.cause = "unknown" if manifest.complete else "killed while the snapshot was written"
    report.message = _line(failure)
    report.involvement = "unknown"
    report.soft_errors.extend(_bounded((failure, *manifest.soft_errors)))


def _signal_name(number: int) -> str:
    """Such as ``SIGSEGV``; the operator wants a name for every report."""
    try:
        return signal.Signals(number).name
    except ValueError:
        return "SIGUNKNOWN"


def _crash_time(note: Note, captured: float) -> float:
    """The crash's time as claimed, unless that is impossible; seconds since the epoch."""
    claimed = note.crash_realtime_ns / 1e9
    return claimed if captured - _CLOCK_SLACK_SECONDS <= claimed <= captured else captured


def _timestamp(seconds: float) -> Timestamp:
    stamp = Timestamp()
    stamp.FromNanoseconds(int(seconds * 1e9))
    return stamp


def _bounded(lines: Iterable[str]) -> list[str]:
    return [_line(line) for line in lines][:MAX_SOFT_ERRORS]


def _line(text: str) -> str:
    return "".join(char if char.isprintable() else " " for char in text)[:_MAX_LINE]
