"""Collect: one crash, from a name in a volume to a sample on our disk.

Flows in: a `SnapshotFound`.  Flows out: a `Collected` sample.  Blocking; one
call per thread.  `stillframe.capture` does the capturing; added here is whose
process it is, and the journal that survives our own death.
"""

import logging
import os
import time
from dataclasses import dataclass
from typing import Final

from msgspec.structs import replace

from stillframe import names
from stillframe.capture.handover import SnapshotName, Stage, discard
from stillframe.capture.identity import Holder
from stillframe.capture.pipeline import Capture, CaptureLimits, capture, disagreements
from stillframe.capture.refusals import Refusal
from stillframe.errors import InvalidInputError, TemporaryError
from stillframe_agent.artifacts import Artifacts
from stillframe_agent.cores import Cores
from stillframe_agent.facts import Facter
from stillframe_agent.identity import require_pod
from stillframe_agent.logs import event
from stillframe_agent.manifest import KeptFile, Manifest, Phase
from stillframe_agent.metrics import Metrics
from stillframe_agent.pods import PodIdentity, from_logs, identify
from stillframe_agent.report import report_id
from stillframe_agent.settings import Settings
from stillframe_agent.watch import SnapshotFound

log: Final = logging.getLogger(__name__)

_UNPROVEN: Final = (
    "the process was dead when the agent came: only its pod is known, and its files are gone"
)


@dataclass(frozen=True, slots=True)
class Collected:
    """A sample that waits for its analysis; owns the modules' descriptors."""

    manifest: Manifest
    modules: tuple[tuple[str, int], ...] = ()
    """Path as the process saw it, and a descriptor of ours."""

    def close(self) -> None:
        """Close the modules."""
        for _path, fd in self.modules:
            os.close(fd)


class Collector:
    """Collects crashes; called from many threads at once."""

    def __init__(self, settings: Settings, artifacts: Artifacts, metrics: Metrics) -> None:
        self._settings = settings
        self._artifacts = artifacts
        self._metrics = metrics
        self._cores = Cores(settings, artifacts)
        self._facts = Facter(settings.facts_policy, settings.bundles_dir, settings.log_dir)
        self._limits = CaptureLimits(
            max_bytes=settings.max_snapshot_bytes, complete_timeout=settings.hold_seconds
        )

    def collect(self, seen: SnapshotFound) -> Collected | None:
        """Copy one snapshot and let its process go.

        None when there is nothing to do: the snapshot is gone, known already,
        or refused (counted, and deleted unless it may still become complete).
        Raises `TemporaryError` when our disk is full or failing: the snapshot is
        still in the pod.
        """
        fd = seen.directory.snapshots.fd
        inode = _inode(fd, seen.name)
        if inode is None:
            return None
        manifest = self._new(seen, inode)
        namespace = manifest.pod.namespace
        if not self._artifacts.enforce(
            incoming=self._limits.max_bytes + self._limits.max_hs_err_bytes, namespace=namespace
        ):
            raise TemporaryError(
                "the node's disk has no room for a snapshot", self._settings.retry_seconds
            )
        try:
            begun = self._artifacts.begin(manifest)
        except OSError as error:
            raise TemporaryError(
                f"cannot write to the state directory: {error}", self._settings.retry_seconds
            ) from error
        if begun is None:
            discard_all(fd, seen.name)
            self._metrics.captures.labels("repeated").inc()
            return None
        try:
            with (
                self._cores.of_pod(manifest.pod.uid, namespace) as core,
                capture(
                    seen.directory.snapshots,
                    seen.name,
                    begun / names.ARTIFACT_SNAPSHOT,
                    limits=self._limits,
                    facts=self._facts.policy,
                    core=core,
                ) as taken,
            ):
                return self._keep(manifest, taken)
        except FileNotFoundError:
            self._artifacts.delete(manifest.report_id, "")
            return None
        except InvalidInputError as error:
            self._artifacts.delete(manifest.report_id, "")
            self._refuse(seen, error)
            return None
        except BaseException:
            if not (begun / names.ARTIFACT_SNAPSHOT).exists():  # else it may be the only one
                self._artifacts.delete(manifest.report_id, "")
            raise

    def _new(self, seen: SnapshotFound, inode: int) -> Manifest:
        now = time.time()
        return Manifest(
            report_id=report_id(seen.directory.pod_uid, seen.name.id, inode),
            phase=Phase.CAPTURING,
            snapshot_id=seen.name.id,
            node=self._settings.node_name,
            pod=from_logs(seen.directory.pod_uid, self._settings.log_dir),
            created=now,
            expires=now + self._settings.artifacts_age_seconds,
        )

    def _keep(self, manifest: Manifest, taken: Capture) -> Collected:
        """Write down what was taken; the process is released already, so names come first."""
        manifest = replace(
            manifest,
            phase=Phase.CAPTURED,
            pod=self._identify(manifest.pod, taken.holder),
            attested=taken.attested and not disagreements(taken.note, taken.holder),
            complete=taken.complete,
            held_millis=taken.held_millis,
            released=taken.attested,
            signal=taken.note.fields.signal if taken.note else 0,
            files=_files(taken),
            soft_errors=taken.soft_errors if taken.attested else (_UNPROVEN, *taken.soft_errors),
        )
        manifest = self._write_down(self._keep_facts(manifest, taken))
        if taken.core is not None:
            self._artifacts.enforce()  # its size was not known before
        self._metrics.captures.labels(_result(taken)).inc()
        if taken.held_millis is not None:
            self._metrics.hold.observe(taken.held_millis / 1000)
        # Duplicates, so that the capture can be closed (and the pod's volume be
        # unmounted) long before the analysis has its turn.
        modules = tuple((module.path, os.dup(module.fd)) for module in taken.modules)
        return Collected(manifest, modules)

    def _keep_facts(self, manifest: Manifest, taken: Capture) -> Manifest:
        """The manifest with the facts, which are never worth a crash's report."""
        if taken.facts is None:
            return manifest
        directory = self._artifacts.path(manifest.report_id)
        try:
            kept = self._facts.keep(taken.facts, manifest.pod, directory)
        except OSError as error:
            lost = f"no facts: our disk refused them: {error.strerror}"
            return replace(manifest, soft_errors=(*manifest.soft_errors, lost))
        return replace(manifest, files=(*manifest.files, kept))

    def _write_down(self, manifest: Manifest) -> Manifest:
        """Make the manifest durable; never raises, for the original is gone.

        Where the disk is too full even for that, a core goes.
        """
        try:
            self._artifacts.update(manifest)
        except OSError as error:
            for core in [kept for kept in manifest.files if kept.kind == "core"]:
                (self._artifacts.path(manifest.report_id) / core.file).unlink()
                manifest = replace(
                    manifest,
                    files=tuple(kept for kept in manifest.files if kept is not core),
                    soft_errors=(*manifest.soft_errors, f"no full core: {error}"),
                )
            try:
                self._artifacts.update(manifest)
            except OSError as again:
                # The analysis begins by writing it, and is tried until that succeeds.
                event(log, logging.WARNING, f"cannot write to the state directory: {again}")
        return manifest

    def _identify(self, pod: PodIdentity, holder: Holder | None) -> PodIdentity:
        """The pod with its container, as attested; without a process, what the volume says."""
        if holder is None:
            return pod
        place = require_pod(holder.cgroup, pod.uid)
        return identify(place, self._settings.bundles_dir, self._settings.log_dir)

    def _refuse(self, seen: SnapshotFound, error: InvalidInputError) -> None:
        # Who was only too slow for us may be honest: its file's last name will be seen, too.
        if error.reason != Refusal.NEVER_COMPLETE:
            discard_all(seen.directory.snapshots.fd, seen.name)
        self._metrics.refusals.labels(error.reason).inc()
        event(
            log,
            logging.WARNING,
            "snapshot refused",
            reason=error.reason,
            detail=str(error),
            pod_uid=seen.directory.pod_uid,
            snapshot=seen.name.file,
        )


def _result(taken: Capture) -> str:
    if not taken.complete:
        return "leftover"
    return "snapshot" if taken.core is None else "core"


def _files(taken: Capture) -> tuple[KeptFile, ...]:
    snapshot = KeptFile(
        kind="snapshot",
        file=names.ARTIFACT_SNAPSHOT,
        bytes=taken.bytes,
        sha256=taken.sha256,
    )
    others = {"core": taken.core, "hs_err": taken.hs_err}
    return (
        snapshot,
        *(
            KeptFile(kind=kind, file=copied.name, bytes=copied.bytes, sha256=copied.sha256)
            for kind, copied in others.items()
            if copied is not None
        ),
    )


def discard_all(directory_fd: int, name: SnapshotName) -> None:
    """Delete a snapshot under both of the names it may have by now."""
    for stage in (Stage.PART, Stage.CORE):
        discard(directory_fd, SnapshotName(name.id, stage))


def _inode(directory_fd: int, name: SnapshotName) -> int | None:
    """The snapshot's inode number, under either name; None when it is gone."""
    for stage in (name.stage, Stage.CORE):
        try:
            file = SnapshotName(name.id, stage).file
            return os.stat(file, dir_fd=directory_fd, follow_symlinks=False).st_ino
        except FileNotFoundError:
            continue
    return None
