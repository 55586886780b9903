"""Keeps the ``fetch`` commands in CrashReports naming artifacts pods that exist.

kopf shows every artifacts pod to ``notice`` and ``gone``; ``run`` rewrites the
samples of the nodes whose pod changed, in one pass over the reports, however
many changed.  A sample whose node has no such pod has no command.
"""

import asyncio
import logging
from datetime import UTC, datetime
from typing import Final

from stillframe.errors import StillframeError
from stillframe_operator.artifacts import ArtifactsPods, template_of
from stillframe_operator.group import with_fetch
from stillframe_operator.kube import Kube, Object, crashreport_path
from stillframe_operator.store import Store, status_of

log = logging.getLogger(__name__)

_PAUSE_SECONDS: Final = 2.0
"""A rollout of the DaemonSet changes many nodes at about the same time."""


class FetchCommands:
    """Belongs to the main loop; ``notice`` and ``gone`` never block."""

    def __init__(self, kube: Kube, store: Store, pods: ArtifactsPods) -> None:
        self._kube = kube
        self._store = store
        self._pods = pods
        self._known: dict[str, str] = {}
        """Templates by node, as kopf showed them: whether something changed."""
        self._wake = asyncio.Event()

    def notice(self, pod: Object) -> None:
        """Look at an artifacts pod."""
        template, node = template_of(pod), _node(pod)
        if template and self._known.get(node) != template:
            self._known[node] = template
            self._wake.set()

    def gone(self, pod: Object) -> None:
        """Look at an artifacts pod that was deleted: maybe its node was, too."""
        self._known.pop(_node(pod), None)
        self._wake.set()

    async def run(self) -> None:
        """Refresh, for ever; first what changed while nobody led."""
        self._wake.set()
        while True:
            await self._wake.wait()
            self._wake.clear()
            try:
                complete = await self._refresh()
            except StillframeError as error:
                log.warning("fetch commands: %s; trying again", error)
                complete = False
            if not complete:
                self._wake.set()
            await asyncio.sleep(_PAUSE_SECONDS)

    async def _refresh(self) -> bool:
        complete = True
        templates = await self._pods.fetch_templates()
        async for page in self._kube.pages(crashreport_path(None)):
            for report in page:
                old = status_of(report)
                new = with_fetch(old, templates, datetime.now(UTC))
                if new != old:
                    complete &= await self._store.update_status(report, new)
        return complete


def _node(pod: Object) -> str:
    """Empty before it is scheduled."""
    return str((pod.get("spec") or {}).get("nodeName", ""))
