"""The intake: agents submit crashes, say where samples are, and ask what has to go.

``Intake`` is the gRPC shell; ``Desk`` is the sentence: authenticate, read the
report, find its pod and owner, count it.
"""

import logging
import time
from collections.abc import Awaitable
from datetime import UTC, datetime, timedelta
from typing import Any, Final, TypeVar

import grpc

from stillframe.errors import InvalidInputError, StillframeError, TemporaryError
from stillframe.rpc.v1 import intake_pb2, intake_pb2_grpc
from stillframe_operator import group, metrics
from stillframe_operator.artifacts import ArtifactsPods
from stillframe_operator.callers import Caller, Callers, ForbiddenError, UnauthenticatedError
from stillframe_operator.crash import Crash, from_report
from stillframe_operator.events import PodEvent, Recorder
from stillframe_operator.kube import Kube, Object, path
from stillframe_operator.limits import Limiter
from stillframe_operator.placement import from_request
from stillframe_operator.settings import Settings
from stillframe_operator.store import NamespaceGoneError, Recorded, Store, ThrottledError
from stillframe_operator.tombstones import Tombstones
from stillframe_operator.workload import Owners

log = logging.getLogger(__name__)
_T = TypeVar("_T")

RETRY_AFTER: Final = "retry-after-ms"
"""Trailing metadata of RESOURCE_EXHAUSTED and UNAVAILABLE: milliseconds."""
_GONE_RATE, _GONE_BURST = 2.0, 50.0
"""Reports per second and node about pods nobody can check any more."""
_PLACE_RATE, _PLACE_BURST = 5.0, 50.0
"""Placements per second and node: each reads a CrashReport, and may write it."""


class Desk:
    """Takes a report of an authenticated agent to its CrashReport."""

    def __init__(self, kube: Kube, settings: Settings, store: Store, recorder: Recorder) -> None:
        self._kube = kube
        self._owners = Owners(kube)
        self._artifacts = ArtifactsPods(kube, settings)
        self._store = store
        self._recorder = recorder
        self._artifact_life = timedelta(seconds=settings.artifact_seconds)
        self._grace = timedelta(seconds=settings.death_grace_seconds)
        self._gone = Limiter(_GONE_RATE, _GONE_BURST)
        self._places = Limiter(_PLACE_RATE, _PLACE_BURST)

    async def submit(self, caller: Caller, report: intake_pb2.Report) -> Recorded | None:
        """Count ``report``; None when its namespace is gone.

        Raises InvalidInputError, ForbiddenError or TemporaryError.
        """
        now = datetime.now(UTC)
        crash = from_report(report, caller.node, now)
        _require_own_node(caller, report.node)
        pod = await self._pod(crash)
        if pod is None:
            _admit(self._gone, caller, "too many reports of pods that are gone")
            workload = await self._owners.of_gone(crash.pod.namespace, crash.pod.name)
        elif (pod.get("spec") or {}).get("nodeName") != caller.node:
            raise ForbiddenError(f"the pod does not run on {caller.node}")
        else:
            workload = await self._owners.of_pod(pod)
        template = await self._artifacts.fetch_template(caller.node) if crash.artifacts else ""
        arrival = group.Arrival(
            crash,
            image=_image(pod, crash.pod.container),
            verified=_verified(pod, crash),
            fetch=template.format(id=crash.id),
            expires=crash.time + self._artifact_life,
        )
        spec = group.spec_of(workload, crash)
        try:
            recorded = await self._store.record(crash.pod.namespace, spec, arrival)
        except NamespaceGoneError:
            return None
        if now - crash.time > self._grace:
            await self._store.retract(crash.pod.namespace, workload, crash)
        if pod is not None:
            await self._recorder.tell(_captured(crash, recorded))
        return recorded

    async def place(self, caller: Caller, request: intake_pb2.PlaceRequest) -> None:
        """Write down where a sample's files are; done also when nobody wants to know.

        Raises InvalidInputError, ForbiddenError or TemporaryError.
        """
        placement = from_request(request)
        _admit(self._places, caller, "too many placements of samples")
        await self._store.place(placement, caller.node)

    async def _pod(self, crash: Crash) -> Object | None:
        """Return the reported pod; None when it is gone, or another has its name by now."""
        pod = await self._kube.find(path("v1", "pods", crash.pod.namespace, crash.pod.name))
        return pod if pod is not None and pod["metadata"]["uid"] == crash.pod.uid else None


class Intake(intake_pb2_grpc.IntakeServicer):
    """Unpacks, calls, answers: every error becomes a gRPC status here and only here."""

    def __init__(self, callers: Callers, desk: Desk, tombstones: Tombstones) -> None:
        self._callers = callers
        self._desk = desk
        self._tombstones = tombstones

    async def Submit(  # noqa: N802 -- the name in the protocol
        self, request: intake_pb2.SubmitRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> intake_pb2.SubmitResponse:
        """Record one crash."""
        with metrics.SUBMIT_SECONDS.time(), metrics.SUBMITTING.track_inprogress():
            recorded = await _answered("Submit", context, self._submit(request, context))
        if recorded is None:
            metrics.CALLS.labels("Submit", "namespace_gone").inc()
            return intake_pb2.SubmitResponse()
        metrics.CALLS.labels("Submit", "ok").inc()
        return intake_pb2.SubmitResponse(
            namespace=recorded.namespace,
            name=recorded.name,
            uid=recorded.uid,
            sample_kept=recorded.sample_kept,
        )

    async def Sync(  # noqa: N802 -- the name in the protocol
        self, request: intake_pb2.SyncRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> intake_pb2.SyncResponse:
        """Say which artifacts have to go."""
        uids = await _answered("Sync", context, self._sync(request, context))
        metrics.CALLS.labels("Sync", "ok").inc()
        return intake_pb2.SyncResponse(tombstones=[intake_pb2.Tombstone(uid=u) for u in uids])

    async def Place(  # noqa: N802 -- the name in the protocol
        self, request: intake_pb2.PlaceRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> intake_pb2.PlaceResponse:
        """Write down where a sample's files are."""
        await _answered("Place", context, self._place(request, context))
        metrics.CALLS.labels("Place", "ok").inc()
        return intake_pb2.PlaceResponse()

    async def _submit(
        self, request: intake_pb2.SubmitRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> Recorded | None:
        caller = await self._callers.authenticate(_authorization(context))
        return await self._desk.submit(caller, request.report)

    async def _place(
        self, request: intake_pb2.PlaceRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> None:
        caller = await self._callers.authenticate(_authorization(context))
        await self._desk.place(caller, request)

    async def _sync(
        self, request: intake_pb2.SyncRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> tuple[str, ...]:
        caller = await self._callers.authenticate(_authorization(context))
        _require_own_node(caller, request.node)
        return await self._tombstones.current()


async def _answered(
    call: str, context: grpc.aio.ServicerContext[Any, Any], work: Awaitable[_T]
) -> _T:
    try:
        return await work
    except StillframeError as error:
        code = _status(error)
        metrics.CALLS.labels(call, code.name).inc()
        log.warning("%s: %s: %s", call, code.name, error)
        if isinstance(error, TemporaryError):
            context.set_trailing_metadata(((RETRY_AFTER, str(int(error.delay * 1000) + 1)),))
        await context.abort(code, str(error))
        raise AssertionError("abort always raises") from error


def _status(error: StillframeError) -> grpc.StatusCode:
    match error:
        case UnauthenticatedError():
            return grpc.StatusCode.UNAUTHENTICATED
        case ForbiddenError():
            return grpc.StatusCode.PERMISSION_DENIED
        case InvalidInputError():
            return grpc.StatusCode.INVALID_ARGUMENT
        case ThrottledError():
            return grpc.StatusCode.RESOURCE_EXHAUSTED
        case TemporaryError():
            return grpc.StatusCode.UNAVAILABLE
        case _:
            return grpc.StatusCode.INTERNAL


def _authorization(context: grpc.aio.ServicerContext[Any, Any]) -> str:
    for key, value in context.invocation_metadata() or ():
        if key == "authorization" and isinstance(value, str):
            return value
    return ""


def _admit(limiter: Limiter, caller: Caller, why_not: str) -> None:
    wait = limiter.wait(caller.node, time.monotonic())
    if wait > 0:
        raise ThrottledError(why_not, wait)
    limiter.take(caller.node)


def _require_own_node(caller: Caller, node: str) -> None:
    if node not in ("", caller.node):
        raise ForbiddenError(f"an agent on {caller.node} speaks for another node")


def _image(pod: Object | None, container: str) -> str:
    containers = ((pod or {}).get("spec") or {}).get("containers") or []
    return next((str(c.get("image", "")) for c in containers if c["name"] == container), "")


def _verified(pod: Object | None, crash: Crash) -> str:
    if pod is None:
        return "PodGone"
    return "Attested" if crash.attested else "NotAttested"


def _captured(crash: Crash, recorded: Recorded) -> PodEvent:
    return PodEvent(
        namespace=crash.pod.namespace,
        pod=crash.pod.name,
        uid=crash.pod.uid,
        kind="Warning",
        reason="CrashCaptured",
        note=(
            f"{crash.pod.container}: {crash.signal}: {crash.cause}. "
            f"kubectl describe crashreport -n {recorded.namespace} {recorded.name}"
        ),
        key=crash.id,
    )
