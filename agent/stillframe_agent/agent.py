"""The agent, put together: which part hands what to which, and in what order they start and stop.

Flows in: `Settings`.  Flows out: nothing, until SIGTERM.
"""

import asyncio
import contextlib
import logging
import resource
import signal
from collections.abc import Callable
from typing import Final

from msgspec.structs import replace

from stillframe.api.crashreport import MAX_SAMPLES
from stillframe_agent import health, selftest
from stillframe_agent.analyze import Analyzer
from stillframe_agent.artifacts import Artifacts
from stillframe_agent.collect import Collected, Collector
from stillframe_agent.conditions import conditions, of_directory, see, unwritable
from stillframe_agent.decide import Limits
from stillframe_agent.logs import event
from stillframe_agent.manifest import Manifest, Phase
from stillframe_agent.metrics import Metrics
from stillframe_agent.quota import Quota
from stillframe_agent.settings import Settings
from stillframe_agent.spool import Spool
from stillframe_agent.submit import GrpcIntake, Submitter
from stillframe_agent.upload import Store, Uploader
from stillframe_agent.watch import Watcher
from stillframe_agent.worker import Worker

log: Final = logging.getLogger(__name__)

DRAIN_SECONDS: Final = 3.0
"""Time that running captures get after SIGTERM; the pod's grace period must be longer."""
_NOT_ALONE: Final = "another agent works on this node: waiting for its end"
_UNWRITABLE: Final = "the state directory cannot be written to: waiting until it can"
_LOOK_SECONDS: Final = 1.0
"""How often an agent that cannot begin looks whether it can."""


async def run(settings: Settings) -> None:
    """Be the node's agent until SIGTERM or SIGINT."""
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    metrics = Metrics()
    state = health.Health(waiting_for={"the spool"}, conditions=selftest.run())
    state.current()
    metrics.registry.register(state)
    async with await health.serve(settings.listen_address, state.ready, metrics.registry) as server:
        event(log, logging.INFO, "listening", port=server.sockets[0].getsockname()[1])
        state.look = lambda: of_directory(settings.state_dir, unwritable(settings.state_dir))
        if not await _until(lambda: not state.look(), _UNWRITABLE, stop):
            return
        spool = Spool(settings.spool_dir, settings.spool_bytes, settings.spool_items, metrics)
        if await _until(spool.try_lock, _NOT_ALONE, stop):
            await _work(settings, spool, state, metrics, stop)


async def _until(done: Callable[[], bool], why_not: str, stop: asyncio.Event) -> bool:
    """Wait until ``done``; False when we are to stop first."""
    waiting = False
    while not done():
        if not waiting:
            event(log, logging.WARNING, why_not)
        waiting = True
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(stop.wait(), _LOOK_SECONDS)
            return False
    return True


async def _work(
    settings: Settings, spool: Spool, state: health.Health, metrics: Metrics, stop: asyncio.Event
) -> None:
    """Everything that must not happen twice on one node."""
    _allow_descriptors()
    wanted = bool(settings.upload_url)
    artifacts = Artifacts(settings.artifacts_dir, _quota(settings), metrics, uploads=wanted)
    unfinished = artifacts.load()
    intake = GrpcIntake(settings, metrics)
    uploader = Uploader(_store(settings), artifacts, metrics, state.conditions) if wanted else None
    submitter = Submitter(
        intake,
        spool,
        artifacts,
        metrics,
        retry_seconds=settings.retry_seconds,
        kept=uploader.upload if uploader else lambda _report_id: None,
    )
    worker = Worker(
        Collector(settings, artifacts, metrics),
        Analyzer(
            artifacts,
            spool,
            metrics,
            variables=settings.variables,
            bundle_bytes=settings.bundle_bytes,
        ),
        limits=Limits(captures=settings.captures, captures_of_pod=max(1, settings.captures // 4)),
        analyses=settings.analyses,
        retry_seconds=settings.retry_seconds,
        metrics=metrics,
        reported=submitter.submit,
    )
    spooled = spool.load()
    for report_id in spooled:
        submitter.submit(report_id)
    for manifest in unfinished:
        if manifest.report_id in spooled:
            _reported(artifacts, manifest)
        else:
            worker.resume(Collected(_orphaned(manifest)))
    watcher = Watcher(
        settings.pods_dir,
        worker.found,
        metrics,
        bundles_dir=settings.bundles_dir,
        sandboxes_dir=settings.sandboxes_dir if settings.image_libraries else None,
    )
    delivery = asyncio.create_task(submitter.run(settings.sync_seconds))
    uploads = asyncio.create_task(uploader.run()) if uploader else None
    delivery.add_done_callback(lambda _task: stop.set())
    state.look = lambda: conditions(see(settings, spool, intake, watcher), settings)
    state.waiting_for = {"the first sweep"}
    watcher.start()
    await watcher.swept.wait()
    state.waiting_for = set()
    event(log, logging.INFO, "ready", node=settings.node_name, resumed=len(unfinished))

    await stop.wait()
    state.waiting_for = {"the end"}
    watcher.stop()
    await worker.drain(DRAIN_SECONDS)
    if delivery.done():
        delivery.result()
    ending = [task for task in (delivery, uploads) if task is not None]
    for task in ending:
        task.cancel()
    await asyncio.wait(ending)
    await intake.close()
    event(log, logging.INFO, "stopped")


def _quota(settings: Settings) -> Quota:
    return Quota(
        max_bytes=settings.artifacts_bytes,
        max_age=settings.artifacts_age_seconds,
        free_bytes=settings.artifacts_free_bytes,
        per_group=MAX_SAMPLES,
    )


def _store(settings: Settings) -> Store:
    from stillframe_agent.objectstore import ObjectStore  # noqa: PLC0415 -- only where wanted

    return ObjectStore(
        settings.upload_url, settings.upload_endpoint, settings.upload_region, settings.upload_dir
    )


def _reported(artifacts: Artifacts, manifest: Manifest) -> None:
    """A sample whose report is in the spool: its agent died between the two steps."""
    try:
        artifacts.update(replace(manifest, phase=Phase.REPORTED))
    except OSError as error:
        event(log, logging.WARNING, f"ignoring a manifest that our disk refused: {error}")


def _orphaned(manifest: Manifest) -> Manifest:
    """A sample whose agent died; its process is gone, and so are the modules."""
    lost = "the agent restarted before the analysis: no module of the process could be opened"
    return replace(manifest, phase=Phase.CAPTURED, soft_errors=(*manifest.soft_errors, lost))


def _allow_descriptors() -> None:
    """Raise the soft limit of descriptors: a waiting sample keeps its modules open."""
    _soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
