"""Tells pods that should have been injected and were not.

``failurePolicy: Ignore`` lets pods start while the webhook is down; an
annotation on a running pod changes nothing; a skipped pod has a reason.  In each
case a Warning event on the pod says so.

The leader walks the metadata of running pods without our label, at most 250
of them a second: bounded on the largest cluster, seconds on a usual one,
and, unlike a watch, without memory of it all.
"""

import asyncio
import logging
import time
from collections import OrderedDict
from collections.abc import Mapping
from typing import Any, Final

from stillframe import names
from stillframe.errors import StillframeError
from stillframe_operator import metrics, optin
from stillframe_operator.events import PodEvent, Recorder
from stillframe_operator.kube import Kube, path
from stillframe_operator.settings import Settings

log = logging.getLogger(__name__)

_PAGE_SECONDS: Final = 1.0
_TELL_AGAIN_SECONDS: Final = 1800.0
"""The API server forgets events after an hour."""
_REMEMBERED: Final = 10_000


def missed(
    metadata: Mapping[str, Any], namespaces: Mapping[str, str], excluded: frozenset[str]
) -> PodEvent | None:
    """Return what to tell about a pod that is not injected; None: it did not ask.  Pure.

    ``namespaces`` maps opted-in namespaces to their label's value.
    """
    annotations = metadata.get("annotations") or {}
    namespace = metadata["namespace"]
    level = optin.requested(annotations, namespaces.get(namespace))
    if level == "off" or namespace in excluded:
        return None
    reason = annotations.get(names.ANNOTATION_SKIP_REASON)
    if reason or level is None:
        why = reason or "InvalidCapture"
        return _event(metadata, "CaptureSkipped", f"This pod is not captured: {why[:64]}.")
    return _event(
        metadata,
        "NotInjected",
        "This pod asked for capture but was not injected: it was created before it asked, or "
        "while the webhook could not be reached. Crashes leave no report until it is created anew.",
    )


def _event(metadata: Mapping[str, Any], reason: str, note: str) -> PodEvent:
    return PodEvent(
        metadata["namespace"], metadata["name"], metadata["uid"], "Warning", reason, note
    )


class MissedScan:
    """Walks all pods, for ever; belongs to the leader."""

    def __init__(self, kube: Kube, settings: Settings, recorder: Recorder) -> None:
        self._kube = kube
        self._recorder = recorder
        self._pause = settings.scan_seconds
        self._excluded = frozenset({settings.namespace, *settings.excluded_namespaces})
        self._told: OrderedDict[tuple[str, str], float] = OrderedDict()

    async def run(self) -> None:
        """Scan, for ever."""
        while True:
            try:
                metrics.MISSED.set(await self.scan())
            except StillframeError as error:
                log.warning("scan for missed injections: %s; trying again", error)
            await asyncio.sleep(self._pause)

    async def scan(self) -> int:
        """Walk once; return how many pods should be injected and are not."""
        namespaces = await self._opted_in()
        count = 0
        pages = self._kube.pages(
            path("v1", "pods", None),
            {
                "labelSelector": f"{names.LABEL_INJECTED}!=true",
                "fieldSelector": "status.phase!=Succeeded,status.phase!=Failed",
            },
            metadata_only=True,
        )
        async for page in pages:
            for pod in page:
                event = missed(pod["metadata"], namespaces, self._excluded)
                if event is not None:
                    count += event.reason == "NotInjected"
                    await self._tell(event)
            await asyncio.sleep(_PAGE_SECONDS)
        return count

    async def _opted_in(self) -> dict[str, str]:
        found = await self._kube.items(
            path("v1", "namespaces", None), {"labelSelector": names.LABEL_CAPTURE}
        )
        return {
            item["metadata"]["name"]: item["metadata"]["labels"][names.LABEL_CAPTURE]
            for item in found
        }

    async def _tell(self, event: PodEvent) -> None:
        key, now = (event.uid, event.reason), time.monotonic()
        if now < self._told.get(key, 0.0):
            return
        self._told[key] = now + _TELL_AGAIN_SECONDS
        if len(self._told) > _REMEMBERED:
            self._told.popitem(last=False)
        await self._recorder.tell(event)
