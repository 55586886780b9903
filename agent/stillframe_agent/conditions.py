"""Conditions: what is wrong on this node, each with what to do about it.

Flows in: a `Sight` of disk, spool, operator and volumes.  Flows out: CamelCase
reason → remedy.  Looked at whenever ``/readyz`` or ``/metrics`` is asked for, so
it costs nothing while nobody asks.  Which reasons make the agent unready, and
why: ``docs/decisions/0012-what-makes-the-agent-unready.md``.
"""

import os
import time
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Final

from stillframe_agent.settings import Settings
from stillframe_agent.spool import Spool
from stillframe_agent.submit import GrpcIntake
from stillframe_agent.watch import Watcher

SILENT_SECONDS: Final = 300.0
"""The operator's replicas are replaced in less."""
SPOOL_NEARLY: Final = 0.9


class Reason(StrEnum):
    """What can be wrong."""

    STATE_DIRECTORY = "StateDirectoryUnwritable"
    DISK_FULL = "DiskFull"
    SPOOL_FULL = "SpoolFull"
    OPERATOR_SILENT = "OperatorSilent"
    CA_MISSING = "CaMissing"
    TOKEN_MISSING = "TokenMissing"  # noqa: S105 -- the name of a condition
    VOLUMES_UNWATCHED = "VolumesUnwatched"


@dataclass(frozen=True, slots=True, kw_only=True)
class Sight:
    """What was seen; a text is why something cannot be had, empty when it can."""

    state_directory: str
    free_bytes: int
    """Of the state directory's disk."""
    spool_used: float
    """Share of its quota."""
    ca: str
    token: str
    silent_seconds: float
    """Since the operator last did what we asked for."""
    last_refusal: str
    """gRPC status code of the call that failed last."""
    unwatched: tuple[str, ...]
    """Why, of each snapshot volume that is not watched."""


def conditions(sight: Sight, settings: Settings) -> dict[str, str]:
    """What is wrong, and what to do about it."""
    found = of_directory(settings.state_dir, sight.state_directory)
    if sight.free_bytes < settings.artifacts_free_bytes:
        found[Reason.DISK_FULL] = (
            f"{sight.free_bytes >> 20} MiB are free, {settings.artifacts_free_bytes >> 20} MiB are "
            "left to others: old samples go early, and without any a new crash waits in its pod; "
            "free some space"
        )
    if sight.spool_used >= SPOOL_NEARLY:
        found[Reason.SPOOL_FULL] = (
            f"{sight.spool_used:.0%} of the spool are reports that the operator has not "
            "acknowledged; the oldest of the pod with most will be given up: see the operator"
        )
    if sight.ca:
        found[Reason.CA_MISSING] = (
            f"{settings.ca_file}: {sight.ca}; reports wait until the operator has published its "
            "CA and the ConfigMap is mounted"
        )
    if sight.token:
        found[Reason.TOKEN_MISSING] = (
            f"{settings.token_file}: {sight.token}; reports wait: mount a projected token of the "
            "operator's audience"
        )
    if sight.silent_seconds > SILENT_SECONDS and not (sight.ca or sight.token):
        found[Reason.OPERATOR_SILENT] = (
            f"no answer of {settings.operator_address} for {sight.silent_seconds / 60:.0f} minutes "
            f"(last: {sight.last_refusal or 'nothing'}); reports wait on disk: see the operator's "
            "pods, its Service and the NetworkPolicies"
        )
    if sight.unwatched:
        found[Reason.VOLUMES_UNWATCHED] = (
            f"crashes in {len(sight.unwatched)} volumes are not seen ({sight.unwatched[0]}); for "
            "'No space left on device' raise fs.inotify.max_user_watches on the node"
        )
    return found


def of_directory(directory: Path, why: str) -> dict[str, str]:
    """The condition of a state directory that cannot be written to."""
    if not why:
        return {}
    return {
        Reason.STATE_DIRECTORY: f"{directory}: {why}; nothing can be kept: the hostPath must be "
        "writable for uid 0 without any capability"
    }


def see(settings: Settings, spool: Spool, intake: GrpcIntake, watcher: Watcher) -> Sight:
    """Look at everything once."""
    return Sight(
        state_directory=unwritable(settings.state_dir),
        free_bytes=_free_bytes(settings.state_dir),
        spool_used=spool.used(),
        ca=_unreadable(settings.ca_file),
        token=_unreadable(settings.token_file),
        silent_seconds=time.monotonic() - intake.answered,
        last_refusal=intake.refusal,
        unwatched=tuple(watcher.unwatched.values()),
    )


def unwritable(directory: Path) -> str:
    """Why nothing can be written to a directory, which is made if need be; empty when it can."""
    try:
        directory.mkdir(parents=True, exist_ok=True)
        read_only = os.statvfs(directory).f_flag & os.ST_RDONLY
    except OSError as error:
        return error.strerror or str(error)
    if read_only:
        return "read-only file system"
    allowed = os.access(directory, os.W_OK | os.X_OK, effective_ids=True)
    return "" if allowed else "permission denied"


def _unreadable(file: Path) -> str:
    try:
        file.read_bytes()
    except OSError as error:
        return error.strerror or str(error)
    return ""


def _free_bytes(directory: Path) -> int:
    """Free space of the disk; none of a disk that cannot be asked."""
    try:
        status = os.statvfs(directory)
    except OSError:
        return 0
    return status.f_bavail * status.f_frsize
