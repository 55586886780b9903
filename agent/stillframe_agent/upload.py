"""Upload: acknowledged samples to the object store, until each is there and verified.

Flows in: report ids.  Flows out: copies under ``<namespace>/<report id>/<file>``,
and in each sample's manifest where they are.  The manifest is the journal: an
agent that died goes on with the first file that is not in it.  The manifest's
own copy is the last: a sample that has one is whole, and its CrashReport is
told so (`submit`).
"""

import asyncio
import hashlib
import logging
import re
from pathlib import Path
from typing import Final, Protocol

from msgspec.structs import replace

from stillframe import names
from stillframe.errors import PermanentError, TemporaryError
from stillframe_agent.artifacts import Artifacts
from stillframe_agent.backoff import Backoff
from stillframe_agent.logs import event
from stillframe_agent.manifest import Manifest, encode
from stillframe_agent.metrics import Metrics

log: Final = logging.getLogger(__name__)

CONDITION: Final = "UploadFailing"
_AT_ONCE: Final = 2
"""Samples on their way: each takes four parts of memory at most."""
_BACKOFF_FIRST: Final = 1.0
_BACKOFF_MOST: Final = 300.0
_NAMESPACE: Final = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")
_UNKNOWN_NAMESPACE: Final = "_unknown"
"""No namespace can be called that."""


class Store(Protocol):
    """The object store, as far as we need it; see `objectstore`."""

    url: str

    async def put(self, key: str, source: Path | bytes, size: int, sha256: str) -> None:
        """Copy and verify; raises `TemporaryError` or `PermanentError`."""
        ...


class Uploader:
    """Uploads samples, each until it is done, refused or deleted."""

    def __init__(
        self,
        store: Store,
        artifacts: Artifacts,
        metrics: Metrics,
        conditions: dict[str, str],
    ) -> None:
        """``conditions`` has a line while the store takes nothing."""
        self._store = store
        self._artifacts = artifacts
        self._metrics = metrics
        self._conditions = conditions
        self._queue: asyncio.Queue[str] = asyncio.Queue()
        self._known: set[str] = set()
        """What waits in the queue or is on its way."""
        self._backoff = Backoff(_BACKOFF_FIRST, _BACKOFF_MOST)

    def upload(self, report_id: str) -> None:
        """Upload a sample as soon as possible; one that is there already is fine."""
        if report_id not in self._known:
            self._known.add(report_id)
            self._queue.put_nowait(report_id)
        self._count()

    async def run(self) -> None:
        """Work until cancelled; begins with what an earlier agent left."""
        for report_id in self._artifacts.pending():
            self.upload(report_id)
        async with asyncio.TaskGroup() as group:
            for _ in range(_AT_ONCE):
                group.create_task(self._work())

    async def _work(self) -> None:
        while True:
            report_id = await self._queue.get()
            try:
                await self._until_done(report_id)
            except Exception:
                log.exception("ignoring a sample until the next start: uploading it failed")
            self._known.discard(report_id)
            self._count()

    async def _until_done(self, report_id: str) -> None:
        while (manifest := self._artifacts.get(report_id)) is not None and manifest.pending:
            await self._backoff.wait()
            try:
                await self._step(manifest)
            except PermanentError as error:
                if self._artifacts.get(report_id) is None:
                    return  # deleted while it was read
                self._metrics.uploads.labels("refused").inc()
                event(log, logging.ERROR, f"sample not uploaded: {error}", report=report_id)
                await self._journal(report_id, upload_refused=str(error))
            except TemporaryError as error:
                self._metrics.uploads.labels("failed").inc()
                if self._backoff.failed(error.delay):
                    self._conditions[CONDITION] = str(error)
                    event(log, logging.WARNING, f"no upload: {error}")
            else:
                self._conditions.pop(CONDITION, None)
                self._backoff.succeeded()

    async def _step(self, manifest: Manifest) -> None:
        """Upload the next file, or the manifest when all others are there."""
        directory = self._artifacts.path(manifest.report_id)
        prefix = key_prefix(manifest)
        for index, kept in enumerate(manifest.files):
            if not kept.url:
                key = f"{prefix}/{kept.file}"
                await self._store.put(key, directory / kept.file, kept.bytes, kept.sha256)
                self._metrics.upload_bytes.inc(kept.bytes)
                there = replace(kept, url=f"{self._store.url}/{key}")
                files = (*manifest.files[:index], there, *manifest.files[index + 1 :])
                await self._journal(manifest.report_id, files=files)
                return
        url = f"{self._store.url}/{prefix}/"
        data = encode(replace(manifest, url=url))
        key = f"{prefix}/{names.ARTIFACT_MANIFEST}"
        await self._store.put(key, data, len(data), hashlib.sha256(data).hexdigest())
        await self._journal(manifest.report_id, url=url)
        self._metrics.uploads.labels("ok").inc()
        event(log, logging.INFO, "sample uploaded", report=manifest.report_id, url=url)

    async def _journal(self, report_id: str, **changes: object) -> None:
        """Write down a step; one that our disk refuses is repeated by the next agent."""
        try:
            await asyncio.to_thread(self._artifacts.revise, report_id, **changes)
        except OSError as error:
            event(log, logging.WARNING, f"ignoring a manifest that our disk refused: {error}")

    def _count(self) -> None:
        self._metrics.uploads_waiting.set(len(self._artifacts.pending()))


def key_prefix(manifest: Manifest) -> str:
    """Where a sample's files go below the store's prefix: ``<namespace>/<report id>``."""
    namespace = manifest.pod.namespace
    known = _NAMESPACE.fullmatch(namespace)
    return f"{namespace if known else _UNKNOWN_NAMESPACE}/{manifest.report_id}"
