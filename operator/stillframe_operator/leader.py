"""What only the leader does: kopf, retention, the death watch, the scan for missed pods."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from typing import Final

from stillframe_operator import metrics
from stillframe_operator.controllers import Controllers

log = logging.getLogger(__name__)

_RESTART_SECONDS: Final = 5.0


class Leader:
    """Starts and stops the leader's work; a task that fails is started again."""

    def __init__(
        self, controllers: Controllers, tasks: Mapping[str, Callable[[], Awaitable[None]]]
    ) -> None:
        self._controllers = controllers
        self._work = tasks
        self._tasks: list[asyncio.Task[None]] = []

    async def start(self) -> None:
        """Start everything."""
        self._controllers.start()
        self._tasks = [
            asyncio.create_task(supervise(name, work), name=name)
            for name, work in self._work.items()
        ]

    async def stop(self) -> None:
        """Stop everything and wait for its end."""
        tasks, self._tasks = self._tasks, []
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._controllers.stop()


async def supervise(name: str, work: Callable[[], Awaitable[None]]) -> None:
    """Run ``work``, which should never end, for ever."""
    while True:
        try:
            await work()
        except Exception:
            log.exception("task %s failed; starting it again", name)
        metrics.RESTARTS.labels(name).inc()
        await asyncio.sleep(_RESTART_SECONDS)
