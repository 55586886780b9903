"""What kopf watches.  Handlers hand the object to the main loop and return.

Only ``on.event``: nothing is written to pods or CrashReports (no annotations,
no finalizers).  Two watches, because kopf has one label selector per resource:
injected pods are everywhere, artifacts pods only in our namespace.
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import kopf

from stillframe import names
from stillframe_operator import artifacts
from stillframe_operator.kube import Object

Notice = Callable[[Object], None]


@dataclass(frozen=True)
class Watch:
    """One ``kopf.run``: what it watches, and where (None: everywhere)."""

    name: str
    registry: kopf.OperatorRegistry
    pod_selector: str
    namespace: str | None = None


def workloads(
    loop: asyncio.AbstractEventLoop, pod_seen: Notice, report_deleted: Callable[[str], None]
) -> Watch:
    """Watch injected pods and CrashReports of the whole cluster."""
    registry = _registry()

    @kopf.on.event("v1", "pods", registry=registry)
    async def injected_pod(body: kopf.Body, type: str | None, **_: Any) -> None:  # noqa: A002
        if type != "DELETED":
            loop.call_soon_threadsafe(pod_seen, dict(body))

    @kopf.on.event(names.GROUP, names.VERSION, "crashreports", registry=registry)
    async def crashreport(uid: str, type: str | None, **_: Any) -> None:  # noqa: A002
        if type == "DELETED":
            loop.call_soon_threadsafe(report_deleted, uid)

    return Watch("workloads", registry, f"{names.LABEL_INJECTED}=true")


def artifacts_pods(
    loop: asyncio.AbstractEventLoop, namespace: str, pod_seen: Notice, pod_gone: Notice
) -> Watch:
    """Watch the artifacts DaemonSet's pods in ``namespace``."""
    registry = _registry()

    @kopf.on.event("v1", "pods", registry=registry)
    async def artifacts_pod(body: kopf.Body, type: str | None, **_: Any) -> None:  # noqa: A002
        loop.call_soon_threadsafe(pod_gone if type == "DELETED" else pod_seen, dict(body))

    return Watch("artifacts", registry, artifacts.SELECTOR, namespace)


def _registry() -> kopf.OperatorRegistry:
    registry = kopf.OperatorRegistry()

    @kopf.on.login(registry=registry)
    def login(**kwargs: Any) -> kopf.ConnectionInfo | None:
        return kopf.login_with_service_account(**kwargs) or kopf.login_with_kubeconfig(**kwargs)

    return registry
