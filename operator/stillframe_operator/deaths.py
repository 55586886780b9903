"""Deaths that left no snapshot: what a container status says about them.  Pure.

Only a container's main process shows here, and only the last two deaths of
it: the kubelet keeps ``state`` and ``lastState``.
"""

import hashlib
import signal
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import chain
from typing import Any, Final

from stillframe import names
from stillframe.api.crashreport import CrashReportStatus
from stillframe_operator.crash import Crash, Pod
from stillframe_operator.text import clean, parse_time, rfc3339

_SIGNALS: Final[Sequence[int]] = tuple(signal.Signals)
_ASKED_TO_STOP: Final = {signal.SIGHUP, signal.SIGINT, signal.SIGTERM, signal.SIGPIPE}
"""Ends that somebody asked for: not crashes."""
REPORT_WINDOW: Final = timedelta(seconds=60)
"""A report this close to the end of its container explains that end: the longest
hold, and the time a full core takes."""


@dataclass(frozen=True)
class Cause:
    """Why nothing was captured; ``code`` is part of the fingerprint."""

    code: str
    text: str
    remedy: str


_OOM: Final = Cause(
    "OOMKilled",
    "out of memory: killed by the kernel",
    "The kernel killed the container at its memory limit; no process can be captured then. "
    "Raise resources.limits.memory, or look for what grows.",
)
_KILLED: Final = Cause(
    "Killed",
    "killed (SIGKILL)",
    "SIGKILL cannot be caught, so nothing was captured. Usual senders: a failed liveness "
    "probe, node pressure, a person. See kubectl describe pod.",
)
_UNSEEN: Final = Cause(
    "NoSnapshot",
    "died without a snapshot",
    "The library wrote nothing. Usual reasons: a static or setuid binary, an environment "
    "without LD_PRELOAD (sudo, env -i), a handler that exits by itself, a shell that reports "
    "its child's signal. docs/reference/coverage.md lists them all.",
)


def deaths(pod: Mapping[str, Any]) -> list[Crash]:
    """Return the deaths by signal in an injected pod's status, whether captured or not.

    A pod that is being deleted is being killed on purpose: nothing of it
    counts but deaths from before its deletion.
    """
    metadata, spec, status = pod["metadata"], pod.get("spec", {}), pod.get("status", {})
    injected = _injected_containers(spec)
    found = []
    statuses = [status.get(kind) or [] for kind in ("initContainerStatuses", "containerStatuses")]
    for container in chain.from_iterable(statuses):
        if container["name"] not in injected:
            continue
        for state in (container.get("lastState") or {}, container.get("state") or {}):
            ended = state.get("terminated")
            if ended and not _after_deletion(metadata, ended):
                crash = _death(metadata, spec.get("nodeName", ""), container["name"], ended)
                found += [crash] if crash else []
    return found


def explained(death: Crash, reports: Iterable[CrashReportStatus]) -> bool:
    """Return whether some report already accounts for ``death``."""
    return any(
        same_death(death, recent.container_id, parse_time(recent.time))
        for report in reports
        for recent in report.recent_reports
        if recent.time is not None
    )


def same_death(death: Crash, container_id: str, time: datetime) -> bool:
    """Return whether a crash of ``container_id`` at ``time`` is how the container ended."""
    return container_id == death.pod.container_id and abs(death.time - time) <= REPORT_WINDOW


def retractable(crash: Crash) -> list[Crash]:
    """Return what ``crash`` would have been recorded as, had its report not come in time.

    A write near the memory limit turns SIGSEGV into an out-of-memory kill, so
    each way to end is looked for.
    """
    return [
        _recorded(crash.pod, crash.node, crash.time, signal_name, cause)
        for signal_name, cause in (
            (crash.signal, _UNSEEN),
            ("SIGKILL", _OOM),
            ("SIGKILL", _KILLED),
        )
    ]


def _injected_containers(spec: Mapping[str, Any]) -> set[str]:
    return {
        container["name"]
        for container in [*(spec.get("initContainers") or []), *(spec.get("containers") or [])]
        if any(
            mount["name"] == names.VOLUME_SNAPSHOTS for mount in container.get("volumeMounts") or []
        )
    }


def _after_deletion(metadata: Mapping[str, Any], ended: Mapping[str, Any]) -> bool:
    """DeletionTimestamp is when the grace period ends; the kill comes within that period."""
    stamp = metadata.get("deletionTimestamp")
    if not stamp:
        return False
    grace = timedelta(seconds=metadata.get("deletionGracePeriodSeconds") or 0)
    return parse_time(ended["finishedAt"]) >= parse_time(stamp) - grace


def _death(
    metadata: Mapping[str, Any], node: str, container: str, ended: Mapping[str, Any]
) -> Crash | None:
    number = ended.get("signal") or int(ended.get("exitCode", 0)) - 128
    oom = ended.get("reason") == "OOMKilled"
    if not (oom or number in _SIGNALS) or not ended.get("finishedAt"):
        return None
    if not oom and number in _ASKED_TO_STOP:
        return None
    pod = Pod(
        metadata["namespace"],
        metadata["name"],
        metadata["uid"],
        container,
        str(ended.get("containerID", "")).rpartition("//")[2][:64],
    )
    killed = _KILLED if number == signal.SIGKILL else _UNSEEN
    name = "SIGKILL" if oom else signal.Signals(number).name
    return _recorded(pod, node, parse_time(ended["finishedAt"]), name, _OOM if oom else killed)


def _recorded(pod: Pod, node: str, time: datetime, signal_name: str, cause: Cause) -> Crash:
    return Crash(
        id=_digest(32, "death", pod.uid, pod.container_id),
        time=time,
        node=node,
        pod=pod,
        signal=signal_name,
        fingerprint=f"v1:{_digest(16, 'none', cause.code)}",
        cause=clean(cause.text, 256),
        message=clean(f"{signal_name} at {rfc3339(time)}. {cause.remedy}", 1024),
        captured="none",
    )


def _digest(length: int, *parts: str) -> str:
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:length]
