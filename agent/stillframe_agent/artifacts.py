"""Artifacts: one directory per sample, kept within quotas.

``<state>/artifacts/<report id>/`` holds the snapshot, the rendered and the
structured report and the `Manifest`.  The artifacts pod serves these files to
``kubectl cp``, so directories are 0750 and files 0640 of its group.

A sample is deleted by a rename, which succeeds on a full disk too.  Its
manifest stays under the new name until its CrashReport has been told.
"""

import logging
import os
import re
import shutil
import threading
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Final

from msgspec.structs import replace

from stillframe import names
from stillframe_agent.files import describe, write_durably
from stillframe_agent.logs import event
from stillframe_agent.manifest import EVIDENCE, Manifest, Phase, decode, encode
from stillframe_agent.metrics import Metrics
from stillframe_agent.quota import Quota, Sample, room, surplus

log: Final = logging.getLogger(__name__)

_REPORT_ID: Final = re.compile(r"[0-9a-f]{32}")
_TRASH: Final = ".trash-"


class Artifacts:
    """The samples on this node.  Methods may be called from any thread."""

    def __init__(
        self,
        root: Path,
        quota: Quota,
        metrics: Metrics,
        *,
        uploads: bool = False,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """``uploads``: whether samples that are not in the object store yet go last."""
        self._uploads = uploads
        self.root = root
        self._quota = quota
        self._metrics = metrics
        self._clock = clock
        self._lock = threading.Lock()
        """Of what is below, and of the directory's names; never held over an fsync."""
        self._writing: dict[str, threading.Lock] = {}
        """Of a sample's manifest file: who writes it has read what it was before."""
        self._manifests: dict[str, Manifest] = {}
        self._bytes: dict[str, int] = {}
        self._deleted: dict[str, Manifest] = {}
        """Of samples whose CrashReport still says that they are here."""

    def load(self) -> list[Manifest]:
        """Read what an earlier agent left; the samples that are not reported yet.

        Directories without a manifest or without a snapshot are deleted: their
        original is still where it was.
        """
        self.root.mkdir(mode=0o750, parents=True, exist_ok=True)
        # The kubelet may have made it for the artifacts pod, with its own group.
        os.chown(self.root, -1, os.getegid())
        self.root.chmod(0o750)
        unfinished = []
        for directory in self.root.iterdir():
            manifest = _read(directory)
            if directory.name.startswith(_TRASH):
                self._deleted.update(_emptied(directory, manifest))
                continue
            if manifest is None:
                shutil.rmtree(directory)
                continue
            if manifest.phase is Phase.CAPTURING:
                manifest = _take_stock(manifest, directory)
            with self._lock:
                self._record(manifest)
            if manifest.phase is not Phase.REPORTED:
                unfinished.append(manifest)
        self.enforce()
        return unfinished

    def begin(self, manifest: Manifest) -> Path | None:
        """Make the directory of a new sample; None when the crash is known already.

        Raises `OSError` when our disk refuses, and leaves nothing behind then.
        Not durable: after a power cut the pod's memory, and the snapshot in
        it, are gone too.
        """
        directory = self.path(manifest.report_id)
        with self._lock:
            if manifest.report_id in self._manifests:
                return None
            self._forget(manifest.report_id)
            directory.mkdir(mode=0o750)
            try:
                (directory / names.ARTIFACT_MANIFEST).write_bytes(encode(manifest))
            except OSError:
                shutil.rmtree(directory)
                raise
            self._record(manifest)
        return directory

    def update(self, manifest: Manifest) -> None:
        """Write ``manifest`` durably; a sample deleted meanwhile stays deleted.

        Raises `OSError` when our disk refuses: then ``manifest`` is what we go
        by, and an agent that comes after us repeats the step that it tells of.
        """
        self._rewrite(manifest.report_id, lambda _known: manifest)

    def revise(self, report_id: str, **changes: object) -> None:
        """As `update`, for some fields: whatever else has changed meanwhile stays."""
        self._rewrite(report_id, lambda known: replace(known, **changes))

    def get(self, report_id: str) -> Manifest | None:
        """The manifest of a sample; None when it has gone."""
        with self._lock:
            return self._manifests.get(report_id)

    def pending(self) -> list[str]:
        """The samples that are to be uploaded, oldest first."""
        with self._lock:
            manifests = [one for one in self._manifests.values() if one.pending]
        return [one.report_id for one in sorted(manifests, key=lambda one: one.created)]

    def unplaced(self) -> list[tuple[Manifest, bool]]:
        """What CrashReports do not say yet: samples, and whether they have been deleted here."""
        with self._lock:
            uploaded = [one for one in self._manifests.values() if one.url and not one.placed]
            return [(one, False) for one in uploaded] + [
                (one, True) for one in self._deleted.values()
            ]

    def placed(self, report_id: str, *, deleted: bool) -> None:
        """The CrashReport knows, or does not want to; raises `OSError` when our disk refuses."""
        if not deleted:
            self.revise(report_id, placed=True)
            return
        with self._lock:
            self._forget(report_id)

    def path(self, report_id: str) -> Path:
        """The directory of a sample."""
        return self.root / report_id

    def delete(self, report_id: str, why: str) -> None:
        """Delete a sample, entirely or not at all; one that is gone is fine.

        ``why`` is a metric label; empty for a sample that never came to be.
        Raises `OSError`.
        """
        with self._lock:
            self._delete(report_id, why)

    def delete_of_crash_reports(self, uids: Iterable[str]) -> int:
        """Delete every sample that one of these CrashReports counted; how many went."""
        wanted = set(uids) - {""}
        with self._lock:
            doomed = [
                report_id
                for report_id, manifest in self._manifests.items()
                if manifest.crash_report_uid in wanted
            ]
            for report_id in doomed:
                self._delete(report_id, "tombstone")
        return len(doomed)

    def enforce(self, incoming: int = 0, namespace: str = "") -> bool:
        """Delete what the quotas do not allow, with ``incoming`` bytes to come for ``namespace``.

        False when there is no room even so.
        """
        with self._lock:
            doomed = surplus(
                self._samples(),
                self._quota,
                self._clock(),
                _free(self.root),
                incoming=incoming,
                namespace=namespace,
            )
            for report_id, why in doomed:
                if self._uploads and self._manifests[report_id].pending:
                    self._metrics.uploads.labels("lost").inc()
                    event(log, logging.ERROR, "sample lost before its upload", report=report_id)
                self._delete(report_id, why)
            return _free(self.root) - incoming >= self._quota.free_bytes

    def room(self, namespace: str) -> int:
        """Bytes that one more file of ``namespace`` may have, by the quotas and the disk."""
        with self._lock:
            return room(self._samples(), self._quota, _free(self.root), namespace)

    def _samples(self) -> list[Sample]:
        return [
            Sample(
                report_id,
                manifest.created,
                self._bytes[report_id],
                deletable=manifest.phase is Phase.REPORTED,
                namespace=manifest.pod.namespace,
                group=manifest.crash_report_uid,
                pending=self._uploads and manifest.pending,
            )
            for report_id, manifest in self._manifests.items()
        ]

    def _rewrite(self, report_id: str, changed: Callable[[Manifest], Manifest]) -> None:
        with self._lock:
            writing = self._writing.get(report_id)
        if writing is None:
            return
        with writing:
            known = self.get(report_id)
            if known is None:
                return
            manifest = changed(known)
            refused = None
            try:
                file = self.path(report_id) / names.ARTIFACT_MANIFEST
                write_durably(file, encode(manifest))
            except OSError as error:
                refused = error
            with self._lock:
                if report_id not in self._manifests:
                    return  # deleted meanwhile, and its directory with it
                self._record(manifest)
        if refused is not None:
            raise refused

    def _record(self, manifest: Manifest) -> None:
        directory = self.path(manifest.report_id)
        self._manifests[manifest.report_id] = manifest
        self._writing.setdefault(manifest.report_id, threading.Lock())
        self._bytes[manifest.report_id] = sum(
            entry.stat(follow_symlinks=False).st_size for entry in os.scandir(directory)
        )
        self._count()

    def _delete(self, report_id: str, why: str) -> None:
        manifest = self._manifests.pop(report_id, None)
        if manifest is None:
            return
        del self._bytes[report_id], self._writing[report_id]
        trash = self.root / f"{_TRASH}{report_id}"
        self.path(report_id).rename(trash)
        # Who deleted a CrashReport knows that its samples go.
        self._deleted.update(_emptied(trash, None if why == "tombstone" else manifest))
        if why:
            self._metrics.artifacts_deleted.labels(why).inc()
        self._count()

    def _forget(self, report_id: str) -> None:
        """A deleted sample, for good; one that is gone is fine."""
        if self._deleted.pop(report_id, None) is not None:
            shutil.rmtree(self.root / f"{_TRASH}{report_id}")

    def _count(self) -> None:
        self._metrics.artifact_samples.set(len(self._bytes))
        self._metrics.artifact_bytes.set(sum(self._bytes.values()))


def _read(directory: Path) -> Manifest | None:
    """The manifest of a directory that is worth keeping."""
    report_id = directory.name.removeprefix(_TRASH)
    if not _REPORT_ID.fullmatch(report_id):
        return None
    try:
        manifest = decode((directory / names.ARTIFACT_MANIFEST).read_bytes())
    except (OSError, ValueError):
        return None
    if manifest.report_id != report_id:
        return None
    if manifest.phase is Phase.CAPTURING and not (directory / names.ARTIFACT_SNAPSHOT).exists():
        return None
    return manifest


def _emptied(trash: Path, manifest: Manifest | None) -> dict[str, Manifest]:
    """Delete a deleted sample but for what remains to be told: its manifest, by report id."""
    if manifest is None or not manifest.crash_report_uid:
        shutil.rmtree(trash)
        return {}
    for path in trash.iterdir():
        if path.name != names.ARTIFACT_MANIFEST:
            path.unlink()
    return {manifest.report_id: manifest}


def _take_stock(manifest: Manifest, directory: Path) -> Manifest:
    """The manifest with what its agent made durable before it died; half files go."""
    for half in directory.glob(".*"):
        half.unlink()
    found = ((kind, directory / file) for file, kind in EVIDENCE.items())
    files = tuple(describe(kind, path) for kind, path in found if path.exists())
    return replace(manifest, files=files)


def _free(root: Path) -> int:
    status = os.statvfs(root)
    return status.f_bavail * status.f_frsize
