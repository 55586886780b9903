"""Submit: reports from the spool to the operator, until each one is acknowledged.

Flows in: report ids.  Flows out: acknowledgements in the artifacts' manifests,
deletions the operator asks for, and where samples are that are not only here,
or here no more.  gRPC over TLS with the operator's own CA; we connect, it never
does.
"""

import asyncio
import contextlib
import logging
import random
import time
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Final, Protocol

import grpc

from stillframe.errors import PermanentError, StillframeError, TemporaryError
from stillframe.rpc.v1.intake_pb2 import (
    PlaceRequest,
    Report,
    SubmitRequest,
    SubmitResponse,
    SyncRequest,
)
from stillframe.rpc.v1.intake_pb2_grpc import IntakeStub
from stillframe_agent.artifacts import Artifacts
from stillframe_agent.backoff import Backoff
from stillframe_agent.logs import event
from stillframe_agent.metrics import Metrics
from stillframe_agent.settings import Settings
from stillframe_agent.spool import Spool

if TYPE_CHECKING:
    from stillframe.rpc.v1.intake_pb2_grpc import IntakeAsyncStub

log: Final = logging.getLogger(__name__)

_IN_FLIGHT: Final = 32
"""Reports on their way at once.  An answer may take a batch of the operator's (10 s)."""
_DEADLINE_SECONDS: Final = 45.0
_BACKOFF_FIRST: Final = 0.5
_BACKOFF_MOST: Final = 30.0
_PERMANENT: Final = {
    grpc.StatusCode.INVALID_ARGUMENT,
    grpc.StatusCode.PERMISSION_DENIED,
}
_RETRY_AFTER: Final = "retry-after-ms"
"""Trailing metadata of ``RESOURCE_EXHAUSTED`` and ``UNAVAILABLE``."""
_CHANNEL_OPTIONS: Final = (
    ("grpc.initial_reconnect_backoff_ms", 250),
    ("grpc.max_reconnect_backoff_ms", 5_000),
    ("grpc.keepalive_time_ms", 30_000),
    ("grpc.enable_http_proxy", 0),
)


class ThrottledError(TemporaryError):
    """The operator has no room for this report now; for others it may have."""


class Intake(Protocol):
    """The operator, as far as we need it."""

    async def submit(self, report: Report) -> SubmitResponse:
        """Hand over a report; raises `TemporaryError` or `PermanentError`."""
        ...

    async def place(self, request: PlaceRequest) -> None:
        """Say where a sample is; raises `TemporaryError` or `PermanentError`."""
        ...

    async def tombstones(self) -> Sequence[str]:
        """UIDs of CrashReports that were deleted; raises `StillframeError`."""
        ...


class GrpcIntake:
    """The operator's intake over gRPC; connects when first used."""

    def __init__(self, settings: Settings, metrics: Metrics) -> None:
        self._settings = settings
        self._metrics = metrics
        self._ca = b""
        self._channel: grpc.aio.Channel | None = None
        self.answered = time.monotonic()
        """When a call last succeeded, or our start; seconds, monotonic."""
        self.refusal = ""
        """gRPC status code of the call that failed last."""

    async def submit(self, report: Report) -> SubmitResponse:
        """Hand over a report; the answer comes when the API server has it."""
        stub, token = await self._stub(), self._token()
        try:
            with self._answering():
                request = SubmitRequest(report=report)
                answer = await stub.Submit(request, metadata=token, timeout=_DEADLINE_SECONDS)
        except StillframeError:
            self._metrics.submissions.labels(self.refusal).inc()
            raise
        self._metrics.submissions.labels("OK").inc()
        return answer

    async def place(self, request: PlaceRequest) -> None:
        """Say where a sample is; the answer comes when the API server has it."""
        stub = await self._stub()
        with self._answering():
            await stub.Place(request, metadata=self._token(), timeout=_DEADLINE_SECONDS)

    async def tombstones(self) -> Sequence[str]:
        """What of our artifacts has to go."""
        stub = await self._stub()
        request = SyncRequest(node=self._settings.node_name)
        with self._answering():
            answer = await stub.Sync(request, metadata=self._token(), timeout=_DEADLINE_SECONDS)
        return [tombstone.uid for tombstone in answer.tombstones]

    async def close(self) -> None:
        """Hang up."""
        if self._channel is not None:
            await self._channel.close()

    @contextlib.contextmanager
    def _answering(self) -> Iterator[None]:
        """Remembers how a call ended, and makes its failure one of ours."""
        try:
            yield
        except grpc.aio.AioRpcError as error:
            self.refusal = error.code().name
            raise _converted(error) from error
        self.answered = time.monotonic()

    async def _stub(self) -> "IntakeAsyncStub":
        """A stub of a channel that trusts the CA as it is on disk now."""
        try:
            ca = self._settings.ca_file.read_bytes()
        except OSError as error:
            raise TemporaryError(f"no CA of the operator yet: {error}") from error
        if self._channel is None or ca != self._ca:
            await self.close()
            name = self._settings.server_name
            self._channel = grpc.aio.secure_channel(
                self._settings.operator_address,
                grpc.ssl_channel_credentials(ca),
                options=(*_CHANNEL_OPTIONS, ("grpc.ssl_target_name_override", name)),
            )
            self._ca = ca
        return IntakeStub(self._channel)

    def _token(self) -> tuple[tuple[str, str], ...]:
        try:
            token = self._settings.token_file.read_text().strip()
        except OSError as error:
            raise TemporaryError(f"no token: {error}") from error
        return (("authorization", f"Bearer {token}"),)


def _converted(error: grpc.aio.AioRpcError) -> StillframeError:
    text = f"{error.code().name}: {error.details()}"
    if error.code() in _PERMANENT:
        return PermanentError(text)
    millis = str(dict(error.trailing_metadata() or ()).get(_RETRY_AFTER, ""))
    delay = int(millis) / 1000 if millis.isdecimal() else _BACKOFF_FIRST
    if error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED:
        return ThrottledError(text, delay)
    return TemporaryError(text, delay)


class Submitter:
    """Delivers the spool, and asks what to delete."""

    def __init__(
        self,
        intake: Intake,
        spool: Spool,
        artifacts: Artifacts,
        metrics: Metrics,
        *,
        retry_seconds: float,
        kept: Callable[[str], None] = lambda _report_id: None,
    ) -> None:
        """``retry_seconds`` is the time until a write that our disk refused is tried again.

        ``kept`` is called in the event loop with the id of each acknowledged
        report whose sample stays.
        """
        self._kept = kept
        self._retry_seconds = retry_seconds
        self._intake = intake
        self._spool = spool
        self._artifacts = artifacts
        self._metrics = metrics
        self._queue: asyncio.Queue[str] = asyncio.Queue()
        self._backoff = Backoff(_BACKOFF_FIRST, _BACKOFF_MOST)

    def submit(self, report_id: str) -> None:
        """Deliver a spooled report as soon as possible."""
        self._queue.put_nowait(report_id)

    async def run(self, sync_seconds: float) -> None:
        """Work until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._sync(sync_seconds))
            for _ in range(_IN_FLIGHT):
                group.create_task(self._deliver_all())

    async def _deliver_all(self) -> None:
        while True:
            await self._deliver(await self._queue.get())

    async def _deliver(self, report_id: str) -> None:
        """Try until the report is acknowledged, refused for good, or gone."""
        while (report := self._spool.get(report_id)) is not None:
            await self._backoff.wait()
            try:
                answer = await self._intake.submit(report)
            except PermanentError as error:
                self._metrics.spool_dropped.labels("refused").inc()
                event(log, logging.ERROR, f"report dropped: {error}", report=report_id)
                self._spool.remove(report_id)
            except ThrottledError as error:
                self._later(report_id, error.delay)
                return
            except TemporaryError as error:
                if self._backoff.failed(error.delay):
                    event(log, logging.WARNING, f"the operator does not take reports: {error}")
            else:
                self._backoff.succeeded()
                try:
                    await self._acknowledged(report_id, answer)
                except TemporaryError as error:
                    event(log, logging.DEBUG, f"ignoring a failed Place: {error}")
                    self._later(report_id, self._retry_seconds)
                    return
                except OSError as error:
                    event(
                        log,
                        logging.ERROR,
                        f"our disk refused an acknowledgement: {error}",
                        report=report_id,
                    )
                    self._later(report_id, self._retry_seconds)
                    return

    def _later(self, report_id: str, seconds: float) -> None:
        """Deliver again after ``seconds`` and a little, meanwhile others have their turn."""
        seconds *= random.uniform(1.0, 1.5)  # noqa: S311
        asyncio.get_running_loop().call_later(seconds, self.submit, report_id)

    async def _acknowledged(self, report_id: str, answer: SubmitResponse) -> None:
        """Remember who counted the report, then forget it; raises `TemporaryError`, `OSError`."""
        if answer.uid and answer.sample_kept:
            name = f"{answer.namespace}/{answer.name}"
            await asyncio.to_thread(
                self._artifacts.revise, report_id, crash_report=name, crash_report_uid=answer.uid
            )
            if self._artifacts.get(report_id) is None:
                # Deleted before anybody knew whom to tell: the report waited for the operator.
                await self._place(report_id, name, answer.uid, deleted=True)
        elif answer.uid:
            await asyncio.to_thread(self._artifacts.delete, report_id, "surplus")
        await asyncio.to_thread(self._spool.remove, report_id)
        event(log, logging.DEBUG, "report acknowledged", report=report_id, uid=answer.uid)
        if answer.uid and answer.sample_kept:
            self._kept(report_id)

    async def _sync(self, seconds: float) -> None:
        """Delete what has to go, and say where samples are; `_deliver` tells of an outage."""
        while True:
            await asyncio.sleep(seconds * random.uniform(0.8, 1.2))  # noqa: S311
            try:
                await asyncio.to_thread(self._artifacts.enforce)
                uids = await self._intake.tombstones()
                deleted = await asyncio.to_thread(self._artifacts.delete_of_crash_reports, uids)
                if deleted:
                    event(
                        log, logging.INFO, "deleted artifacts of deleted reports", samples=deleted
                    )
                await self._place_all()
            except StillframeError as error:
                event(log, logging.DEBUG, f"ignoring a failed Sync: {error}")
            except OSError as error:
                event(log, logging.ERROR, f"our disk refused a deletion or its record: {error}")

    async def _place_all(self) -> None:
        """Tell CrashReports where samples are; raises what ends this round, the next goes on."""
        unplaced = self._artifacts.unplaced()
        random.shuffle(unplaced)  # one that fails for ever must not be in front of the others
        for manifest, deleted in unplaced:
            await self._place(
                manifest.report_id,
                manifest.crash_report,
                manifest.crash_report_uid,
                url=manifest.url,
                deleted=deleted,
            )
            await asyncio.to_thread(self._artifacts.placed, manifest.report_id, deleted=deleted)

    async def _place(
        self, report_id: str, crash_report: str, uid: str, *, url: str = "", deleted: bool
    ) -> None:
        """Tell a CrashReport where its sample is, or that it would never say; `TemporaryError`."""
        namespace, _, name = crash_report.partition("/")
        request = PlaceRequest(
            report_id=report_id, namespace=namespace, name=name, uid=uid, url=url, deleted=deleted
        )
        try:
            await self._intake.place(request)
        except PermanentError as error:
            why = f"the CrashReport does not say where its sample is: {error}"
            event(log, logging.ERROR, why, report=report_id)
