"""One crash as the operator counts it: cleaned, bounded, and with an owner.

Made from an agent's report or from a container status.  Pure.  The agent is
trusted with the pods of its node, the text inside a report is not: a pod may
have chosen it.
"""

import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

from stillframe.api.crashreport import MAX_STACK_LINE, MAX_STACK_LINES, SampleArtifact
from stillframe.errors import InvalidInputError
from stillframe.rpc.v1 import intake_pb2
from stillframe_operator.text import clean

REPORT_ID: Final = re.compile(r"[0-9a-f]{32}")
LABEL: Final = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")
NAME: Final = re.compile(r"[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?")
UID: Final = re.compile(r"[0-9a-fA-F][0-9a-fA-F-]{0,62}")
_CONTAINER_ID: Final = re.compile(r"[0-9a-f]{0,64}")
_FINGERPRINT: Final = re.compile(r"v[0-9]{1,3}:[0-9a-f]{8,64}")
_SIGNAL: Final = re.compile(r"SIG[A-Z0-9+]{1,12}")
_FILE: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,31}")
_SHA256: Final = re.compile(r"[0-9a-f]{64}")
_CAPTURED: Final = ("snapshot", "core", "none")
_MAX_ARTIFACTS: Final = 8
_MAX_AHEAD: Final = timedelta(minutes=5)
"""A node's clock may be ahead of ours by this much before we stop believing it."""


@dataclass(frozen=True)
class Pod:
    """The pod of a crash, as the agent (or the API server) names it."""

    namespace: str
    name: str
    uid: str
    container: str
    container_id: str


@dataclass(frozen=True)
class Crash:
    """What is known of one crash."""

    id: str
    time: datetime
    node: str
    pod: Pod
    signal: str
    """Such as SIGSEGV."""
    fingerprint: str
    cause: str
    message: str
    captured: str
    """snapshot, core or none."""
    top_frame: str = ""
    stack: tuple[str, ...] = ()
    held_millis: int = -1
    """-1: not known."""
    artifacts: tuple[SampleArtifact, ...] = ()
    attested: bool = True
    """The kernel named the process; otherwise only the volume's pod is known."""


def from_report(report: intake_pb2.Report, node: str, now: datetime) -> Crash:
    """Return the crash an agent on ``node`` reports; raises InvalidInputError(BadReport).

    Names and ids must be well-formed (they become paths and keys); free text
    is cleaned and cut.
    """
    pod = report.pod
    crashed_at = report.crashed_at.ToDatetime(tzinfo=UTC)
    if not datetime(2020, 1, 1, tzinfo=UTC) < crashed_at:
        raise InvalidInputError("BadReport", f"crashed_at {crashed_at} is not a time")
    return Crash(
        id=matching("id", report.id, REPORT_ID),
        time=crashed_at if crashed_at <= now + _MAX_AHEAD else now,
        node=node,
        pod=Pod(
            namespace=matching("pod.namespace", pod.namespace, LABEL),
            name=matching("pod.name", pod.name, NAME),
            uid=matching("pod.uid", pod.uid, UID),
            container=matching("pod.container", pod.container, LABEL),
            container_id=matching("pod.container_id", pod.container_id, _CONTAINER_ID),
        ),
        signal=matching("signal.name", report.signal.name, _SIGNAL),
        fingerprint=matching("fingerprint", report.fingerprint, _FINGERPRINT),
        cause=clean(report.cause, 256),
        message=clean(_paragraph(report), 1024),
        captured=_one_of("captured", report.captured, _CAPTURED),
        top_frame=clean(report.top_frame, 256),
        stack=tuple(clean(line, MAX_STACK_LINE) for line in report.stack[:MAX_STACK_LINES]),
        held_millis=max(-1, min(report.held_millis, 3_600_000)),
        artifacts=tuple(
            SampleArtifact(
                kind=clean(a.kind, 32),
                file=matching("artifact.file", a.file, _FILE),
                bytes=min(a.bytes, 1 << 50),
                sha256=matching("artifact.sha256", a.sha256, _SHA256),
            )
            for a in report.artifacts[:_MAX_ARTIFACTS]
        ),
        attested=report.attested,
    )


def _paragraph(report: intake_pb2.Report) -> str:
    """The message, with what else there is to say of the evidence."""
    notes = "; ".join(clean(error, 128) for error in report.soft_errors[:16])
    return f"{report.message} Note: {notes}." if notes else report.message


def matching(field: str, value: str, pattern: re.Pattern[str], reason: str = "BadReport") -> str:
    """Return ``value`` if all of it fits ``pattern``; raises InvalidInputError(``reason``)."""
    if pattern.fullmatch(value) is None:
        raise InvalidInputError(reason, f"{field} {clean(value, 64)!r} is malformed")
    return value


def _one_of(field: str, value: str, allowed: tuple[str, ...]) -> str:
    if value not in allowed:
        raise InvalidInputError("BadReport", f"{field} {clean(value, 64)!r} is not {allowed}")
    return value
