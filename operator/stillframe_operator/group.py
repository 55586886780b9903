"""Stage 9: crashes join their group.  Pure: values in, values out, time is an argument.

A group is one workload, container, signal and fingerprint.  Its CrashReport
counts every report once: the ids counted lately are kept in a ring.  A group keeps its
first sample, which shows how it began, and the newest four; once it has
five, a new one is kept at most once a minute, so that a crash loop does not
wear out the node's disk.
"""

import hashlib
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

import msgspec

from stillframe import names
from stillframe.api.crashreport import (
    MAX_OBJECT_BYTES,
    MAX_RECENT_REPORTS,
    MAX_SAMPLES,
    Condition,
    CrashReportSpec,
    CrashReportStatus,
    RecentReport,
    Sample,
    Workload,
)
from stillframe_operator.crash import Crash
from stillframe_operator.text import clean, parse_time, rfc3339

MAX_BATCH: Final = MAX_RECENT_REPORTS // 2
"""Reports per write: two replicas' writes fit into the ring, so a write whose
answer was lost is recognized when it is repeated."""
_NAME_BYTES: Final = 63
_SAMPLE_PAUSE: Final = timedelta(minutes=1)
_METADATA_BYTES: Final = 4096
"""Left for metadata, spec and managedFields out of MAX_OBJECT_BYTES."""
_VERIFIED: Final = {
    "Attested": "The kernel named the process and the API server its pod.",
    "ApiServer": "The API server reported this death.",
    "PodGone": "The pod was gone when the report came: its identity is what the node recorded.",
    "NotAttested": "The process was dead before it could be identified: only its pod is known.",
}
_REASONS: Final = {"snapshot": "Snapshot", "core": "Core", "none": "NothingCaptured"}


@dataclass(frozen=True)
class Arrival:
    """A crash with what its sample needs to know about its node."""

    crash: Crash
    image: str = ""
    verified: str = "Attested"
    """Reason of condition Verified; ``Attested`` and ``ApiServer`` mean True."""
    fetch: str = ""
    """Command that copies the artifacts."""
    expires: datetime | None = None


@dataclass(frozen=True)
class Merged:
    """The group's new status, and which reports it keeps as samples."""

    status: CrashReportStatus
    kept: frozenset[str]


def spec_of(workload: Workload, crash: Crash) -> CrashReportSpec:
    """Return the identity of the group ``crash`` belongs to."""
    return CrashReportSpec(
        workload=workload,
        container=crash.pod.container,
        signal=crash.signal,
        fingerprint=crash.fingerprint,
    )


def report_name(spec: CrashReportSpec) -> str:
    """Return the CrashReport's name: the workload's, cut to fit, and 12 hex digits."""
    key = "\0".join(
        (
            spec.workload.api_version,
            spec.workload.ref,
            spec.container,
            spec.signal,
            spec.fingerprint,
        )
    )
    digits = hashlib.sha256(key.encode()).hexdigest()[:12]
    readable = re.sub(r"[^a-z0-9-]+", "-", spec.workload.name.lower())
    stem = readable[: _NAME_BYTES - 13].strip("-") or "crash"
    return f"{stem}-{digits}"


def merge(
    old: CrashReportStatus, arrivals: Sequence[Arrival], now: datetime, *, refused: int = 0
) -> Merged:
    """Count ``arrivals`` into ``old``; ids that were counted before change nothing.

    ``refused`` is how many reports of this group were asked to come later
    since the last write.
    """
    counted = {recent.id for recent in old.recent_reports}
    fresh = [a for a in _unique(arrivals) if a.crash.id not in counted]
    if not fresh:
        return Merged(old, frozenset(old.samples))
    newest = max(fresh, key=lambda a: a.crash.time)
    times = [rfc3339(a.crash.time) for a in fresh]
    is_newest = old.last_seen is None or rfc3339(newest.crash.time) >= old.last_seen
    samples = _samples(old.samples, fresh)
    status = msgspec.structs.replace(
        old,
        count=old.count + len(fresh),
        first_seen=min([*times, *([old.first_seen] if old.first_seen else [])]),
        last_seen=max([*times, *([old.last_seen] if old.last_seen else [])]),
        samples=samples,
        recent_reports=[*old.recent_reports, *map(_recent, fresh)][-MAX_RECENT_REPORTS:],
        conditions=_conditions(old.conditions, newest, samples, refused, now),
    )
    if is_newest:
        status = _described(status, newest)
    return Merged(_fitting(status), frozenset(samples))


def retract(old: CrashReportStatus, report_id: str) -> CrashReportStatus:
    """Take back a crash that was counted under ``report_id``."""
    if all(recent.id != report_id for recent in old.recent_reports):
        return old
    return msgspec.structs.replace(
        old,
        count=max(0, old.count - 1),
        samples={key: sample for key, sample in old.samples.items() if key != report_id},
        recent_reports=[r for r in old.recent_reports if r.id != report_id],
    )


def with_fetch(old: CrashReportStatus, artifacts_pods: dict[str, str]) -> CrashReportStatus:
    """Return ``old`` with each sample's command naming its node's artifacts pod of today.

    ``artifacts_pods`` maps nodes to commands without the report id's place
    filled in (see ``fetch_command``); nodes it does not name stay as they are.
    """
    samples = {
        key: msgspec.structs.replace(sample, fetch=artifacts_pods[sample.node].format(id=key))
        if sample.node in artifacts_pods and sample.artifacts
        else sample
        for key, sample in old.samples.items()
    }
    return msgspec.structs.replace(old, samples=samples)


def fetch_template(namespace: str, artifacts_pod: str) -> str:
    """Return the command that copies a report's artifacts, with ``{id}`` for its id."""
    return f"kubectl cp -n {namespace} {artifacts_pod}:{names.ARTIFACTS_MOUNT}/{{id}} ./{{id}}"


def _unique(arrivals: Iterable[Arrival]) -> list[Arrival]:
    return list({arrival.crash.id: arrival for arrival in arrivals}.values())


def _recent(arrival: Arrival) -> RecentReport:
    crash = arrival.crash
    return RecentReport(id=crash.id, container_id=crash.pod.container_id, time=rfc3339(crash.time))


def _samples(old: dict[str, Sample], fresh: Sequence[Arrival]) -> dict[str, Sample]:
    samples = dict(old)
    for arrival in sorted(fresh, key=lambda a: (a.crash.time, a.crash.id)):
        by_age = sorted(samples, key=lambda key: (samples[key].time, key))
        if len(by_age) >= MAX_SAMPLES:
            newest = parse_time(samples[by_age[-1]].time)
            if arrival.crash.time - newest < _SAMPLE_PAUSE:
                continue
            del samples[by_age[1]]
        samples[arrival.crash.id] = _sample(arrival)
    return samples


def _sample(arrival: Arrival) -> Sample:
    crash = arrival.crash
    return Sample(
        time=rfc3339(crash.time),
        pod=crash.pod.name,
        node=crash.node,
        captured=crash.captured,
        held_millis=crash.held_millis,
        artifacts=list(crash.artifacts),
        fetch=arrival.fetch if crash.artifacts else "",
        expires=rfc3339(arrival.expires) if arrival.expires and crash.artifacts else None,
    )


def _described(status: CrashReportStatus, newest: Arrival) -> CrashReportStatus:
    crash = newest.crash
    return msgspec.structs.replace(
        status,
        cause=crash.cause,
        message=crash.message,
        top_frame=crash.top_frame,
        last_image=clean(newest.image, 256) or status.last_image,
        last_node=crash.node,
        last_pod=crash.pod.name,
        stack=list(crash.stack),
    )


def _conditions(
    old: Sequence[Condition],
    newest: Arrival,
    samples: dict[str, Sample],
    refused: int,
    now: datetime,
) -> list[Condition]:
    crash = newest.crash
    kept = any(sample.artifacts for sample in samples.values())
    verified = newest.verified in ("Attested", "ApiServer")
    wanted = [
        ("Captured", crash.captured != "none", _REASONS[crash.captured], ""),
        ("Verified", verified, newest.verified, _VERIFIED.get(newest.verified, "")),
        ("ArtifactsAvailable", kept, "OnNode" if kept else "None", ""),
        (
            "Throttled",
            refused > 0,
            "TooManyReports" if refused else "WithinLimits",
            f"{refused} reports were asked to come later" if refused else "",
        ),
    ]
    before = {condition.type: condition for condition in old}
    return [
        Condition(
            type=kind,
            status="True" if value else "False",
            reason=reason,
            message=message,
            last_transition_time=before[kind].last_transition_time
            if kind in before and before[kind].status == ("True" if value else "False")
            else rfc3339(now),
        )
        for kind, value, reason, message in wanted
    ]


def _fitting(status: CrashReportStatus) -> CrashReportStatus:
    """Shorten the stack, outermost frames first, until the object fits."""
    while status.stack and len(msgspec.json.encode(status)) > MAX_OBJECT_BYTES - _METADATA_BYTES:
        status = msgspec.structs.replace(status, stack=status.stack[:-1])
    return status
