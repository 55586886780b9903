"""Where a report's artifacts can be copied from: the artifacts pod of its node."""

import time
from collections.abc import Callable
from typing import Final

from stillframe import names
from stillframe_operator.group import fetch_template
from stillframe_operator.kube import Kube, Object, path
from stillframe_operator.settings import Settings

SELECTOR: Final = f"app.kubernetes.io/component={names.COMPONENT_ARTIFACTS}"
_CACHE_SECONDS: Final = 10.0


def serving(pod: Object) -> bool:
    """Return whether ``pod`` can be copied from now."""
    return (pod.get("status") or {}).get("phase") == "Running" and not pod["metadata"].get(
        "deletionTimestamp"
    )


class ArtifactsPods:
    """Looks up fetch commands by node; remembers them for ten seconds."""

    def __init__(
        self, kube: Kube, settings: Settings, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._kube = kube
        self._namespace = settings.namespace
        self._clock = clock
        self._known: dict[str, tuple[float, str]] = {}

    async def fetch_template(self, node: str) -> str:
        """Return the command with ``{id}`` for the report's id; empty when no pod serves."""
        known = self._known.get(node)
        if known is not None and self._clock() < known[0]:
            return known[1]
        pods = await self._kube.items(
            path("v1", "pods", self._namespace),
            {"labelSelector": SELECTOR, "fieldSelector": f"spec.nodeName={node}"},
        )
        name = next((pod["metadata"]["name"] for pod in pods if serving(pod)), None)
        template = fetch_template(self._namespace, name) if name else ""
        self._known[node] = (self._clock() + _CACHE_SECONDS, template)
        return template
