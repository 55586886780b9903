"""One replica at a time leads.

``kubernetes.aio``'s election as shipped (37.0.2) cannot create its Lease
(``pretty=True`` fails its own validation) and lets client errors and a silent
API server keep it "leading" (measured).  Here a call that fails or takes too long is
"not renewed", so a leader steps down before its Lease can be taken.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable

import aiohttp
from kubernetes.aio import client
from kubernetes.aio.client.exceptions import ApiException
from kubernetes.aio.leaderelection.electionconfig import Config
from kubernetes.aio.leaderelection.leaderelection import LeaderElection
from kubernetes.aio.leaderelection.leaderelectionrecord import LeaderElectionRecord
from kubernetes.aio.leaderelection.resourcelock.leaselock import LeaseLock

from stillframe import names
from stillframe_operator import metrics
from stillframe_operator.kube import Kube
from stillframe_operator.owned import Owned
from stillframe_operator.settings import LEASE_CALL_SECONDS, Settings

log = logging.getLogger(__name__)


class _Lock(LeaseLock):
    """LeaseLock whose ``create`` works."""

    def __init__(self, settings: Settings, kube: Kube, owned: Owned) -> None:
        super().__init__(names.LEASE, settings.namespace, settings.identity, kube.api)
        self._metadata = owned.metadata(names.LEASE)

    async def create(
        self, name: str, namespace: str, election_record: LeaderElectionRecord
    ) -> bool:
        metadata = client.V1ObjectMeta.from_dict({**self._metadata, "name": name})
        body = client.V1Lease(metadata=metadata, spec=self.update_lease(election_record))
        try:
            await self.api_instance.create_namespaced_lease(namespace, body)
        except ApiException:
            return False
        return True

    async def release(self) -> None:
        """Let another replica lead at once."""
        lease = await self.api_instance.read_namespaced_lease(self.name, self.namespace)
        if lease.spec is not None and lease.spec.holder_identity == self.identity:
            lease.spec.holder_identity = ""
            await self.api_instance.replace_namespaced_lease(self.name, self.namespace, lease)


class _Election(LeaderElection):
    """LeaderElection for which every failed or slow call is "no"."""

    async def try_acquire_or_renew(self) -> bool:
        try:
            async with asyncio.timeout(LEASE_CALL_SECONDS):
                return bool(await super().try_acquire_or_renew())
        except (TimeoutError, aiohttp.ClientError, ApiException, OSError) as error:
            log.warning("lease: the API server did not answer (%r): not renewed", error)
            return False


async def lead(
    kube: Kube,
    owned: Owned,
    settings: Settings,
    start: Callable[[], Awaitable[None]],
    stop: Callable[[], Awaitable[None]],
) -> None:
    """Run for ever: ``start`` when this replica becomes leader, ``stop`` when it no longer is.

    ``start`` returns at once (it starts things); ``stop`` waits for their end.
    Cancelling stops, then releases the Lease.
    """
    lock = _Lock(settings, kube, owned)

    async def started() -> None:
        log.info("lease: leading")
        metrics.LEADER.set(1)
        await start()

    async def stopped() -> None:
        log.warning("lease: lost")
        metrics.LEADER.set(0)
        await stop()

    election = Config(
        lock,
        lease_duration=settings.lease_seconds,
        renew_deadline=settings.renew_seconds,
        retry_period=settings.retry_seconds,
        onstarted_leading=started,
        onstopped_leading=stopped,
    )
    try:
        while True:
            await _Election(election).run()
    finally:
        await stop()
        try:
            async with asyncio.timeout(LEASE_CALL_SECONDS):
                await lock.release()
        except (TimeoutError, aiohttp.ClientError, ApiException, OSError) as error:
            log.info("lease: not released (%r): it runs out by itself", error)
