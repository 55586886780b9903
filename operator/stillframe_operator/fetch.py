"""Keeps the ``fetch`` commands in CrashReports naming artifacts pods that exist.

kopf shows every artifacts pod to ``notice``; ``run`` rewrites the samples of
the nodes whose pod changed, in one pass over the reports, however many changed.
"""

import asyncio
import logging
from typing import Final

from stillframe.errors import StillframeError
from stillframe_operator.artifacts import serving
from stillframe_operator.group import fetch_template, with_fetch
from stillframe_operator.kube import Kube, Object, crashreport_path
from stillframe_operator.store import Store, status_of

log = logging.getLogger(__name__)

_PAUSE_SECONDS: Final = 2.0
"""A rollout of the DaemonSet changes many nodes at about the same time."""


class FetchCommands:
    """Belongs to the main loop; ``notice`` never blocks."""

    def __init__(self, kube: Kube, store: Store) -> None:
        self._kube = kube
        self._store = store
        self._templates: dict[str, str] = {}
        self._changed: dict[str, str] = {}
        self._wake = asyncio.Event()

    def notice(self, pod: Object) -> None:
        """Look at an artifacts pod."""
        node = (pod.get("spec") or {}).get("nodeName")
        if not node or not serving(pod):
            return
        metadata = pod["metadata"]
        template = fetch_template(metadata["namespace"], metadata["name"])
        if self._templates.get(node) != template:
            self._templates[node] = self._changed[node] = template
            self._wake.set()

    async def run(self) -> None:
        """Refresh, for ever."""
        while True:
            await self._wake.wait()
            self._wake.clear()
            changed, self._changed = self._changed, {}
            try:
                complete = await self._refresh(changed)
            except StillframeError as error:
                log.warning("fetch commands: %s; trying again", error)
                complete = False
            if not complete:
                self._changed = changed | self._changed
                self._wake.set()
            await asyncio.sleep(_PAUSE_SECONDS)

    async def _refresh(self, changed: dict[str, str]) -> bool:
        complete = True
        async for page in self._kube.pages(crashreport_path(None)):
            for report in page:
                old = status_of(report)
                new = with_fetch(old, changed)
                if new != old:
                    complete &= await self._store.update_status(report, new)
        return complete
