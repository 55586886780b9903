"""Stage 9: crashes join their group.  Pure: values in, values out, time is an argument.

A group is one workload, container, signal and fingerprint.  Its CrashReport
counts every report once: the ids counted lately are kept in a ring.  A group keeps its
first sample, which shows how it began, and the newest four; once it has
five, a new one is kept at most once a minute, so that a crash loop does not
wear out the node's disk.
"""

import hashlib
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final, Literal

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
from stillframe_operator.placement import Placement
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


def place(old: CrashReportStatus, placement: Placement, now: datetime) -> CrashReportStatus:
    """Say of a sample where its files are now; ``old`` where it is not listed.

    What a placement says only ever becomes true: their order does not matter.
    """
    sample = old.samples.get(placement.report_id)
    if sample is None:
        return old
    if placement.url:
        sample = msgspec.structs.replace(sample, url=placement.url)
    if placement.deleted:
        sample = msgspec.structs.replace(sample, fetch="", expires=None)
    return _with_samples(old, {**old.samples, placement.report_id: sample}, now)


def with_fetch(
    old: CrashReportStatus, templates: Mapping[str, str], now: datetime
) -> CrashReportStatus:
    """Return ``old`` with each sample's command naming its node's artifacts pod of today.

    ``templates`` maps every node that has such a pod to its ``fetch_template``.
    Without one, or where the node has deleted the files, there is no command.
    """
    samples = {
        key: msgspec.structs.replace(sample, fetch=templates.get(sample.node, "").format(id=key))
        if sample.expires
        else sample
        for key, sample in old.samples.items()
    }
    return _with_samples(old, samples, now)


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


def _with_samples(
    old: CrashReportStatus, samples: dict[str, Sample], now: datetime
) -> CrashReportStatus:
    conditions = [
        _condition(old.conditions, _available(samples), now)
        if condition.type == "ArtifactsAvailable"
        else condition
        for condition in old.conditions
    ]
    return _fitting(msgspec.structs.replace(old, samples=samples, conditions=conditions))


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
    verified = newest.verified in ("Attested", "ApiServer")
    wanted = [
        ("Captured", crash.captured != "none", _REASONS[crash.captured], ""),
        ("Verified", verified, newest.verified, _VERIFIED.get(newest.verified, "")),
        _available(samples),
        (
            "Throttled",
            refused > 0,
            "TooManyReports" if refused else "WithinLimits",
            f"{refused} reports were asked to come later" if refused else "",
        ),
    ]
    return [_condition(old, one, now) for one in wanted]


def _available(samples: dict[str, Sample]) -> tuple[str, bool, str, str]:
    """Whether any sample's files can be had now, and where most easily."""
    kind, kept = "ArtifactsAvailable", samples.values()
    if any(sample.fetch for sample in kept):
        return kind, True, "OnNode", ""
    if any(sample.url for sample in kept):
        return kind, True, "InStore", "No node serves them: each sample's url has copies."
    if any(sample.expires for sample in kept):
        why = "The nodes are gone, or no artifacts pod runs there now."
        return kind, False, "NotServed", why
    if any(sample.artifacts for sample in kept):
        return kind, False, "Deleted", "The nodes deleted them: too old, or no room."
    return kind, False, "None", ""


def _condition(
    old: Sequence[Condition], wanted: tuple[str, bool, str, str], now: datetime
) -> Condition:
    kind, value, reason, message = wanted
    status: Literal["True", "False"] = "True" if value else "False"
    before = next((condition for condition in old if condition.type == kind), None)
    return Condition(
        type=kind,
        status=status,
        reason=reason,
        message=message,
        last_transition_time=before.last_transition_time
        if before is not None and before.status == status
        else rfc3339(now),
    )


def _fitting(status: CrashReportStatus) -> CrashReportStatus:
    """Shorten the stack, outermost frames first, until the object fits."""
    while status.stack and len(msgspec.json.encode(status)) > MAX_OBJECT_BYTES - _METADATA_BYTES:
        status = msgspec.structs.replace(status, stack=status.stack[:-1])
    return status
