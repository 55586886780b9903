"""Records deaths nobody reported, once the agent has had its time.

kopf shows every injected pod to ``notice``; ``run`` looks a grace period
later whether a report explains the death and, if not, records it without a stack,
with the cause and what to do.  A report that comes after all takes the record back
(``Store.retract``).
"""

import asyncio
import logging
import time
from collections import OrderedDict, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

from stillframe.errors import PermanentError, StillframeError
from stillframe_operator import group, metrics
from stillframe_operator.crash import Crash
from stillframe_operator.deaths import deaths, explained
from stillframe_operator.events import PodEvent, Recorder
from stillframe_operator.kube import Kube, Object
from stillframe_operator.settings import Settings
from stillframe_operator.store import Store
from stillframe_operator.workload import Owners

log = logging.getLogger(__name__)

_TICK_SECONDS: Final = 1.0
_MAX_AGE: Final = timedelta(hours=1)
"""Older deaths in a status were dealt with by an earlier leader, or are old news."""
_REMEMBERED: Final = 10_000


@dataclass(frozen=True)
class _Case:
    """A death that waits for its report."""

    death: Crash
    pod: Object
    """Only what the owner and the image are found by."""
    due: float
    """Monotonic seconds."""


class DeathWatch:
    """Belongs to the main loop; ``notice`` never blocks."""

    def __init__(self, kube: Kube, settings: Settings, store: Store, recorder: Recorder) -> None:
        self._owners = Owners(kube)
        self._store = store
        self._recorder = recorder
        self._grace = settings.death_grace_seconds
        self._cases: dict[str, _Case] = {}
        self._closed: OrderedDict[str, None] = OrderedDict()

    def notice(self, pod: Object) -> None:
        """Look at an injected pod's status."""
        for death in deaths(pod):
            known = death.id in self._cases or death.id in self._closed
            if known or datetime.now(UTC) - death.time > _MAX_AGE:
                continue
            if len(self._cases) < _REMEMBERED:
                due = time.monotonic() + self._grace
                self._cases[death.id] = _Case(death, _slice(pod), due)

    async def run(self) -> None:
        """Close cases, for ever."""
        while True:
            await asyncio.sleep(_TICK_SECONDS)
            by_namespace: dict[str, list[_Case]] = defaultdict(list)
            for case in self._cases.values():
                if case.due <= time.monotonic():
                    by_namespace[case.death.pod.namespace].append(case)
            for namespace, cases in by_namespace.items():
                try:
                    await self._close(namespace, cases)
                except StillframeError as error:
                    log.warning("deaths in %s: %s; trying again", namespace, error)

    async def _close(self, namespace: str, cases: Sequence[_Case]) -> None:
        reports = await self._store.statuses(namespace)
        open_cases = [case for case in cases if not explained(case.death, reports)]
        for case in cases:
            if case not in open_cases:
                self._forget(case)  # a report explains it
        results = await asyncio.gather(
            *(self._record(case) for case in open_cases), return_exceptions=True
        )
        for error in results:
            if isinstance(error, BaseException):
                raise error

    async def _record(self, case: _Case) -> None:
        death = case.death
        workload = await self._owners.of_pod(case.pod)
        images = {c["name"]: c.get("image", "") for c in case.pod["spec"]["containers"]}
        arrival = group.Arrival(
            death, image=images.get(death.pod.container, ""), verified="ApiServer"
        )
        spec = group.spec_of(workload, death)
        try:
            recorded = await self._store.record(death.pod.namespace, spec, arrival)
        except PermanentError as error:  # such as a namespace that is gone
            log.warning("a death in %s is not recorded, ignoring: %s", death.pod.namespace, error)
            self._forget(case)
            return
        self._forget(case)
        metrics.DEATHS.labels(death.signal).inc()
        await self._recorder.tell(
            PodEvent(
                namespace=death.pod.namespace,
                pod=death.pod.name,
                uid=death.pod.uid,
                kind="Warning",
                reason="CrashNotCaptured",
                note=f"{death.pod.container}: {death.cause}. {death.message} "
                f"kubectl describe crashreport -n {recorded.namespace} {recorded.name}",
                key=death.id,
            )
        )

    def _forget(self, case: _Case) -> None:
        self._cases.pop(case.death.id, None)
        self._closed[case.death.id] = None
        if len(self._closed) > _REMEMBERED:
            self._closed.popitem(last=False)


def _slice(pod: Object) -> Object:
    kept = ("name", "namespace", "generateName", "ownerReferences")
    metadata = {key: pod["metadata"][key] for key in kept if key in pod["metadata"]}
    images = [{"name": c["name"], "image": c.get("image", "")} for c in pod["spec"]["containers"]]
    return {"metadata": metadata, "spec": {"containers": images}}
