"""CrashReports in the API server: read, merge, PUT with resourceVersion.

One write in flight per group and replica: the first report is written at once, those
that come while it is being written or within ``batch_seconds`` share the
next write.  ``record`` returns only when the API server has the report, so an
acknowledgement never promises more than is stored.  (Server-side apply
lost 96 % of the counts of two writers: measured.)

Spec and status are two writes, because the API server drops a status on
create; a report between the two is simply not acknowledged yet.
"""

import asyncio
import time
from collections import OrderedDict
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Final, NoReturn

import msgspec

from stillframe import names
from stillframe.api.crashreport import CrashReportSpec, CrashReportStatus, Workload
from stillframe.errors import PermanentError, TemporaryError
from stillframe_operator import deaths, group, metrics
from stillframe_operator.callers import ForbiddenError
from stillframe_operator.crash import Crash
from stillframe_operator.group import Arrival
from stillframe_operator.kube import Kube, Object, RefusedError, crashreport_path
from stillframe_operator.limits import Limiter
from stillframe_operator.placement import Placement
from stillframe_operator.settings import Settings

_ATTEMPTS: Final = 50
"""Conflicts per write: with two replicas each loses at most every other time."""
_MAX_WAITING: Final = 1000
"""Reports that may wait for the next write of one group."""
_NAMESPACE_RATE, _NAMESPACE_BURST = 5.0, 20.0
_CLUSTER_RATE, _CLUSTER_BURST = 20.0, 100.0
"""Groups that may start being written, per second: what etcd should see of a storm."""


class NamespaceGoneError(PermanentError):
    """There is no place for the report any more."""


class ThrottledError(TemporaryError):
    """Too much at once: come again after ``delay``."""


@dataclass(frozen=True)
class Recorded:
    """Where a crash was counted."""

    namespace: str
    name: str
    uid: str
    sample_kept: bool


@dataclass
class _Waiting:
    arrival: Arrival
    done: asyncio.Future[Recorded]


@dataclass
class _Writer:
    """The one writer of a group in this replica; lives while there is something to write."""

    spec: CrashReportSpec
    waiting: list[_Waiting] = field(default_factory=list)
    full: asyncio.Event = field(default_factory=asyncio.Event)
    """Enough is waiting for a write of its own: do not wait for the batch's time."""


class Store:
    """Writes CrashReports; used by the intake and by the death watch."""

    def __init__(self, kube: Kube, settings: Settings) -> None:
        self._kube = kube
        self._pause = settings.batch_seconds
        self._writers: dict[tuple[str, str], _Writer] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._namespaces = Limiter(_NAMESPACE_RATE, _NAMESPACE_BURST)
        self._cluster = Limiter(_CLUSTER_RATE, _CLUSTER_BURST)
        self._refused: OrderedDict[tuple[str, str], int] = OrderedDict()

    async def record(self, namespace: str, spec: CrashReportSpec, arrival: Arrival) -> Recorded:
        """Count ``arrival``; returns when the API server has it.

        Raises NamespaceGoneError, or TemporaryError when it has to come again.
        """
        key = (namespace, group.report_name(spec))
        writer = self._writers.get(key)
        if writer is None:
            self._admit(key)
            writer = self._writers[key] = _Writer(spec)
            task = asyncio.create_task(self._write_group(key, writer))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        elif len(writer.waiting) >= _MAX_WAITING:
            self._refuse(key, self._pause)
        waiting = _Waiting(arrival, asyncio.get_running_loop().create_future())
        writer.waiting.append(waiting)
        if len(writer.waiting) >= group.MAX_BATCH:
            writer.full.set()
        return await waiting.done

    async def retract(self, namespace: str, workload: Workload, crash: Crash) -> None:
        """Take back that ``crash``, reported late, was recorded as a death without a snapshot."""
        for death in deaths.retractable(crash):
            where = crashreport_path(namespace, group.report_name(group.spec_of(workload, death)))
            for _ in range(_ATTEMPTS):
                report = await self._kube.find(where)
                if report is None or not deaths.explained(death, [status_of(report)]):
                    break
                status = group.retract(status_of(report), death.id)
                if status.count == 0:
                    metadata = report["metadata"]
                    await self.remove(namespace, metadata["name"], metadata["resourceVersion"])
                elif await self.update_status(report, status):
                    break

    async def place(self, placement: Placement, node: str) -> None:
        """Write where a sample's files are, for an agent on ``node``; returns when it is stored.

        Also when nobody wants to know: its CrashReport is gone, or lists it no
        more.  Raises ForbiddenError for a sample of another node, or TemporaryError.
        """
        where = crashreport_path(placement.namespace, placement.name)
        for _ in range(_ATTEMPTS):
            report = await self._kube.find(where)
            if report is None or report["metadata"]["uid"] != placement.uid:
                return
            old = status_of(report)
            sample = old.samples.get(placement.report_id)
            if sample is not None and sample.node != node:
                raise ForbiddenError(f"the sample is not of {node}")
            new = group.place(old, placement, datetime.now(UTC))
            if new == old or await self.update_status(report, new):
                return
        raise TemporaryError(
            f"CrashReport {placement.namespace}/{placement.name} changes too often"
        )

    async def remove(self, namespace: str, name: str, resource_version: str) -> bool:
        """Delete a report unless somebody wrote it since ``resource_version``; False: they did."""
        try:
            await self._kube.delete(
                crashreport_path(namespace, name), resource_version=resource_version
            )
        except RefusedError as error:
            if error.conflict or error.not_found:
                return False
            raise
        return True

    async def statuses(self, namespace: str) -> list[CrashReportStatus]:
        """Return the status of every CrashReport in ``namespace``."""
        found = await self._kube.items(crashreport_path(namespace))
        return [status_of(report) for report in found]

    async def update_status(self, report: Object, status: CrashReportStatus) -> bool:
        """PUT ``status``; False when somebody wrote first or the report is gone."""
        metadata = report["metadata"]
        where = crashreport_path(metadata["namespace"], metadata["name"], "status")
        try:
            await self._kube.replace(where, {**report, "status": msgspec.to_builtins(status)})
        except RefusedError as error:
            if error.conflict or error.not_found:
                metrics.WRITES.labels("conflict").inc()
                return False
            raise
        metrics.WRITES.labels("ok").inc()
        return True

    async def drain(self) -> None:
        """Write what is waiting now, without waiting for the batch's time."""
        self._pause = 0.0
        for writer in self._writers.values():
            writer.full.set()
        await asyncio.gather(*self._tasks)

    async def _write_group(self, key: tuple[str, str], writer: _Writer) -> None:
        try:
            while writer.waiting:
                batch = writer.waiting[: group.MAX_BATCH]
                del writer.waiting[: group.MAX_BATCH]
                if len(writer.waiting) < group.MAX_BATCH:
                    writer.full.clear()
                await self._answer(key, writer.spec, batch)
                with suppress(TimeoutError):
                    async with asyncio.timeout(self._pause):
                        await writer.full.wait()
        finally:
            del self._writers[key]

    async def _answer(
        self, key: tuple[str, str], spec: CrashReportSpec, batch: Sequence[_Waiting]
    ) -> None:
        try:
            recorded = await self._write(key, spec, [w.arrival for w in batch])
        except Exception as error:  # whoever waits has to hear of it
            for waiting in batch:
                if not waiting.done.done():
                    waiting.done.set_exception(error)
            return
        for waiting, answer in zip(batch, recorded, strict=True):
            if not waiting.done.done():
                waiting.done.set_result(answer)

    async def _write(
        self, key: tuple[str, str], spec: CrashReportSpec, arrivals: Sequence[Arrival]
    ) -> list[Recorded]:
        namespace, name = key
        refused = self._refused.pop(key, 0)
        for _ in range(_ATTEMPTS):
            report = await self._read_or_create(namespace, name, spec)
            if report is None:
                continue
            old = status_of(report)
            merged = group.merge(old, arrivals, datetime.now(UTC), refused=refused)
            if merged.status == old or await self.update_status(report, merged.status):
                uid = report["metadata"]["uid"]
                return [
                    Recorded(namespace, name, uid, arrival.crash.id in merged.kept)
                    for arrival in arrivals
                ]
        raise TemporaryError(f"CrashReport {namespace}/{name} changes too often")

    async def _read_or_create(
        self, namespace: str, name: str, spec: CrashReportSpec
    ) -> Object | None:
        """None: another replica is making it at this moment."""
        found = await self._kube.find(crashreport_path(namespace, name))
        if found is not None:
            return found
        body: Object = {
            "apiVersion": names.API_VERSION,
            "kind": "CrashReport",
            "metadata": {"name": name, "namespace": namespace},
            "spec": msgspec.to_builtins(spec) | {"triage": spec.triage},
        }
        try:
            return await self._kube.create(crashreport_path(namespace), body)
        except RefusedError as error:
            if error.conflict:
                return None
            if error.namespace_gone:
                raise NamespaceGoneError(f"namespace {namespace} is gone") from error
            raise

    def _admit(self, key: tuple[str, str]) -> None:
        now = time.monotonic()
        wait = max(self._namespaces.wait(key[0], now), self._cluster.wait("", now))
        if wait > 0:
            self._refuse(key, wait)
        self._namespaces.take(key[0])
        self._cluster.take("")

    def _refuse(self, key: tuple[str, str], delay: float) -> NoReturn:
        self._refused[key] = self._refused.get(key, 0) + 1
        if len(self._refused) > _MAX_WAITING:
            self._refused.popitem(last=False)
        raise ThrottledError("too many crash reports at once", delay)


def status_of(report: Object) -> CrashReportStatus:
    """Return the status as its type; an empty one where nothing was written yet."""
    return msgspec.convert(report.get("status") or {}, CrashReportStatus)
