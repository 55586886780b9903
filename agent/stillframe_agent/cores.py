"""Cores: which held processes have a full core taken, as `decide_core` says.

Flows in: attested holders, from many threads at once.  Flows out: what
`stillframe.capture` is to take.  Keeps the count that the decision needs, and a
tracer that has started before it is needed.
"""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

from stillframe.capture.fullcore import CoreRequest
from stillframe.capture.identity import Holder
from stillframe.capture.pipeline import CoreWish
from stillframe.capture.standby import Standby
from stillframe_agent.artifacts import Artifacts
from stillframe_agent.decide import CoreLimits, decide_core
from stillframe_agent.identity import require_pod
from stillframe_agent.pods import wish
from stillframe_agent.settings import Settings


class Cores:
    """The full cores of one node."""

    def __init__(self, settings: Settings, artifacts: Artifacts) -> None:
        self._bundles_dir = settings.bundles_dir
        self._artifacts = artifacts
        self._limits = CoreLimits(
            max_bytes=settings.core_bytes,
            max_hold_seconds=settings.core_hold_seconds,
            at_once=settings.cores,
            compression=settings.core_compression,
            shutdown_sockets=settings.shutdown_sockets,
        )
        self._standby = Standby()
        self._prepare()
        self._lock = threading.Lock()
        self._running: dict[object, int] = {}
        """Bytes that each core being taken may have."""

    @contextmanager
    def of_pod(self, pod_uid: str, namespace: str) -> Iterator[CoreWish]:
        """Decides about one process of a pod; its core counts until the end of the context."""
        key = object()

        def choose(holder: Holder) -> CoreRequest | str:
            asked = wish(require_pod(holder.cgroup, pod_uid), self._bundles_dir)
            # Other samples may be writing to the disk now: who wants no core is not held for it.
            room = self._artifacts.room(namespace) if asked and asked.core else 0
            with self._lock:
                decision = decide_core(
                    asked,
                    self._limits,
                    running=len(self._running),
                    room_bytes=room - sum(self._running.values()),
                )
                if decision.request is not None:
                    self._running[key] = decision.request.max_bytes
            if decision.request is None:
                return decision.refused
            return replace(decision.request, standby=self._standby)

        try:
            yield choose
        finally:
            with self._lock:
                self._running.pop(key, None)
            self._prepare()

    def _prepare(self) -> None:
        if self._limits.at_once > 0:
            self._standby.prepare()
