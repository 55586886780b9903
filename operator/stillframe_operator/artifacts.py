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


def template_of(pod: Object) -> str:
    """Return the command that copies from ``pod``; empty where nothing can be copied now."""
    metadata, phase = pod["metadata"], (pod.get("status") or {}).get("phase")
    if phase != "Running" or metadata.get("deletionTimestamp"):
        return ""
    return fetch_template(metadata["namespace"], metadata["name"])


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
        template = (await self._serving(f"spec.nodeName={node}")).get(node, "")
        if template:  # otherwise a pod may begin to serve in a moment
            self._known[node] = (self._clock() + _CACHE_SECONDS, template)
        return template

    async def fetch_templates(self) -> dict[str, str]:
        """Return the commands of all nodes that have one, as it is now."""
        return await self._serving("")

    async def _serving(self, field_selector: str) -> dict[str, str]:
        pods = await self._kube.items(
            path("v1", "pods", self._namespace),
            {"labelSelector": SELECTOR, "fieldSelector": field_selector},
        )
        return {pod["spec"]["nodeName"]: template for pod in pods if (template := template_of(pod))}
