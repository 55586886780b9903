"""Puts the parts together and runs them: what serves, what leads, in which order they end."""

import asyncio
import logging
import ssl
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from functools import partial
from typing import Final

import grpc
from aiohttp import web

from stillframe.rpc.v1 import intake_pb2_grpc
from stillframe_operator import handlers, health, lease
from stillframe_operator.artifacts import ArtifactsPods
from stillframe_operator.callers import Callers
from stillframe_operator.certs import Certificates
from stillframe_operator.controllers import Controllers
from stillframe_operator.deathwatch import DeathWatch
from stillframe_operator.events import Recorder
from stillframe_operator.fetch import FetchCommands
from stillframe_operator.intake import Desk, Intake
from stillframe_operator.kube import Kube
from stillframe_operator.leader import Leader, supervise
from stillframe_operator.missed import MissedScan
from stillframe_operator.owned import Owned
from stillframe_operator.retention import Retention
from stillframe_operator.settings import Settings
from stillframe_operator.store import Store
from stillframe_operator.tombstones import Tombstones
from stillframe_operator.webhook import Webhook

log = logging.getLogger(__name__)

_GRACE_SECONDS: Final = 15.0
"""For calls in flight at the end: a report may be waiting for a slow API server."""
_MAX_CALLS: Final = 2000
_GRPC_OPTIONS: Final = [
    # Agents reconnect after five minutes, so that they spread over the replicas again.
    ("grpc.max_connection_age_ms", 300_000),
    ("grpc.max_connection_age_grace_ms", 60_000),
    ("grpc.max_receive_message_length", 1 << 20),
    ("grpc.so_reuseport", 0),
]


@dataclass(frozen=True)
class Ports:
    """Where a running operator listens."""

    webhook: int
    intake: int
    http: int


@asynccontextmanager
async def running(settings: Settings) -> AsyncIterator[Ports]:
    """Run the operator; leaving the context ends it: answer what came, write what waits."""
    async with AsyncExitStack() as stack:
        kube = await Kube.connect()
        stack.push_async_callback(kube.close)
        owned = await Owned.connect(kube, settings)
        certificates = Certificates(kube, owned, settings)
        await certificates.ensure()
        recorder = Recorder(kube, settings)
        store = Store(kube, settings)
        tombstones = Tombstones(owned, settings)
        intake = Intake(Callers(kube, settings), Desk(kube, settings, store, recorder), tombstones)
        leader = _leader(kube, settings, store, recorder, tombstones)
        http = await _serve(
            stack, health.app(lambda: certificates.ready), settings.host, settings.http_port
        )
        webhook = await _serve(
            stack,
            Webhook(kube, settings).app(),
            settings.host,
            settings.webhook_port,
            certificates.context,
        )
        port = await _serve_intake(stack, intake, store, settings, certificates)
        lead = partial(lease.lead, kube, owned, settings, leader.start, leader.stop)
        for name, work in (("certificates", certificates.keep), ("lease", lead)):
            stack.push_async_callback(_cancelled, asyncio.create_task(supervise(name, work)))
        yield Ports(webhook, port, http)
        log.info("ending")


def _leader(
    kube: Kube, settings: Settings, store: Store, recorder: Recorder, tombstones: Tombstones
) -> Leader:
    loop = asyncio.get_running_loop()
    watch = DeathWatch(kube, settings, store, recorder)
    fetch = FetchCommands(kube, store, ArtifactsPods(kube, settings))
    controllers = Controllers(
        [
            handlers.workloads(loop, watch.notice, tombstones.bury),
            handlers.artifacts_pods(loop, settings.namespace, fetch.notice, fetch.gone),
        ]
    )
    return Leader(
        controllers,
        {
            "deaths": watch.run,
            "fetch": fetch.run,
            "missed": MissedScan(kube, settings, recorder).run,
            "retention": Retention(kube, settings, store).run,
        },
    )


async def _serve(
    stack: AsyncExitStack,
    app: web.Application,
    host: str,
    port: int,
    tls: ssl.SSLContext | None = None,
) -> int:
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=_GRACE_SECONDS)
    await runner.setup()
    stack.push_async_callback(runner.cleanup)
    await web.TCPSite(runner, host, port, ssl_context=tls).start()
    return int(runner.addresses[0][1])


async def _serve_intake(
    stack: AsyncExitStack,
    intake: Intake,
    store: Store,
    settings: Settings,
    certificates: Certificates,
) -> int:
    server = grpc.aio.server(options=_GRPC_OPTIONS, maximum_concurrent_rpcs=_MAX_CALLS)
    intake_pb2_grpc.add_IntakeServicer_to_server(intake, server)
    port = server.add_secure_port(
        f"{settings.host}:{settings.intake_port}", certificates.grpc_credentials()
    )
    await server.start()

    async def end() -> None:
        stopping = asyncio.create_task(server.stop(_GRACE_SECONDS))
        await store.drain()
        await stopping

    stack.push_async_callback(end)
    return port


async def _cancelled(task: asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
