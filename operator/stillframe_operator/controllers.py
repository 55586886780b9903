"""kopf, each watch in its own thread with its own loop.

Inside a foreign loop kopf cancels tasks that are not its own when it stops:
in-flight gRPC calls died and the server never answered again (measured with 1.45).
"""

import asyncio
import logging
import threading
from collections.abc import Sequence
from typing import Final

import kopf
from kopf._core.engines.peering import Identity

from stillframe_operator import metrics
from stillframe_operator.handlers import Watch

log = logging.getLogger(__name__)

_RESTART_SECONDS: Final = 5.0
_JOIN_SECONDS: Final = 15.0


class Controllers:
    """Starts and stops kopf; a watch that fails is started again."""

    def __init__(self, watches: Sequence[Watch]) -> None:
        self._watches = watches
        self._stop = threading.Event()
        self._threads: list[threading.Thread] = []

    def start(self) -> None:
        """Run every watch until ``stop``."""
        self._stop = threading.Event()
        self._threads = [
            threading.Thread(
                target=_run, args=(watch, self._stop), name=f"kopf-{watch.name}", daemon=True
            )
            for watch in self._watches
        ]
        for thread in self._threads:
            thread.start()

    async def stop(self) -> None:
        """Stop every watch and wait for it, at most 15 s."""
        self._stop.set()
        threads, self._threads = self._threads, []
        for thread in threads:
            await asyncio.to_thread(thread.join, _JOIN_SECONDS)
            if thread.is_alive():
                log.error("%s does not stop; ignoring: it only reads", thread.name)


def _run(watch: Watch, stop: threading.Event) -> None:
    while not stop.is_set():
        try:
            kopf.run(
                registry=watch.registry,
                settings=_settings(watch),
                # kopf would make one from the user's name, and an arbitrary uid has none.
                identity=Identity(f"stillframe-{watch.name}"),
                standalone=True,
                clusterwide=watch.namespace is None,
                namespaces=[watch.namespace] if watch.namespace else [],
                stop_flag=stop,
            )
        except Exception:
            log.exception("kopf watch %r failed", watch.name)
        if not stop.is_set():
            metrics.RESTARTS.labels(f"kopf-{watch.name}").inc()
            stop.wait(_RESTART_SECONDS)


def _settings(watch: Watch) -> kopf.OperatorSettings:
    settings = kopf.OperatorSettings()
    settings.watching.label_selectors["v1", "pods"] = watch.pod_selector
    settings.watching.chunk_size = 500
    # Belt and braces against a stream that goes silent: kopf reconnects anyway
    # after 70 s without a bookmark.
    settings.watching.server_timeout = 300
    settings.watching.client_timeout = 310
    settings.scanning.disabled = True
    settings.posting.enabled = False
    settings.execution.max_workers = 2
    return settings
