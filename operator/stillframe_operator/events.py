"""Events on pods (events.k8s.io/v1), so that ``kubectl describe pod`` tells.

Best effort: an event that cannot be written is counted and logged, never
retried.  The name is derived from what it tells, so telling twice is one event.
"""

import hashlib
import logging
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Literal

from stillframe.errors import StillframeError
from stillframe_operator import metrics
from stillframe_operator.kube import Kube, Object, RefusedError, path
from stillframe_operator.settings import Settings

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class PodEvent:
    """Something to tell about a pod; ``key`` makes it unique for this pod."""

    namespace: str
    pod: str
    uid: str
    kind: Literal["Normal", "Warning"]
    reason: str
    note: str
    key: str = ""


class Recorder:
    """Writes events."""

    def __init__(self, kube: Kube, settings: Settings) -> None:
        self._kube = kube
        self._identity = settings.identity

    async def tell(self, event: PodEvent) -> None:
        """Write ``event`` unless it was written before."""
        where = path("events.k8s.io/v1", "events", event.namespace)
        try:
            await self._kube.create(where, self._body(event))
        except RefusedError as error:
            if error.conflict:
                return
            self._failed(error)
        except StillframeError as error:
            self._failed(error)

    def _body(self, event: PodEvent) -> Object:
        unique = hashlib.sha256(f"{event.uid}\0{event.reason}\0{event.key}".encode()).hexdigest()
        return {
            "apiVersion": "events.k8s.io/v1",
            "kind": "Event",
            "metadata": {
                "name": f"{event.pod[:200]}.{unique[:16]}",
                "namespace": event.namespace,
            },
            "eventTime": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ"),
            "reportingController": "stillframe.dev/operator",
            "reportingInstance": self._identity[:128],
            "action": "Capture",
            "reason": event.reason,
            "type": event.kind,
            "note": event.note[:1000],
            "regarding": {
                "apiVersion": "v1",
                "kind": "Pod",
                "namespace": event.namespace,
                "name": event.pod,
                "uid": event.uid,
            },
        }

    @staticmethod
    def _failed(error: StillframeError) -> None:
        metrics.EVENTS_FAILED.inc()
        log.warning("an event was not written, ignoring: %s", error)
