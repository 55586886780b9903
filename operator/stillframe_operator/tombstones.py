"""Deleted CrashReports, for as long as a node may still hold their artifacts.

kopf's handler adds a uid when its CrashReport is deleted; every replica
serves the list to polling agents.  Level-based: an agent that was away hears of it
when it is back.  Entries expire with the artifacts they would remove.
"""

import asyncio
import logging
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Final

from stillframe import names
from stillframe.errors import StillframeError
from stillframe_operator.owned import Owned
from stillframe_operator.settings import Settings
from stillframe_operator.text import parse_time, rfc3339

log = logging.getLogger(__name__)

_CACHE_SECONDS: Final = 2.0
_RETRY_SECONDS: Final = 5.0
_MAX_ENTRIES: Final = 8000
"""About 0.5 MiB of the 1 MiB a ConfigMap may have; beyond it the oldest go."""


def added(old: dict[str, str], uids: set[str], expires: datetime, now: datetime) -> dict[str, str]:
    """Return the ConfigMap's data with ``uids`` added and the expired dropped.  Pure."""
    data = {uid: until for uid, until in old.items() if parse_time(until) > now}
    data |= dict.fromkeys(uids, rfc3339(expires))
    youngest_first = sorted(data.items(), key=lambda entry: entry[1], reverse=True)
    return dict(youngest_first[:_MAX_ENTRIES])


class Tombstones:
    """The ConfigMap of tombstones."""

    def __init__(
        self, owned: Owned, settings: Settings, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._owned = owned
        self._life = timedelta(seconds=settings.artifact_seconds)
        self._clock = clock
        self._cached: tuple[float, tuple[str, ...]] | None = None
        self._waiting: set[str] = set()
        self._writer: asyncio.Task[None] | None = None

    def bury(self, uid: str) -> None:
        """Add ``uid`` soon; several at once share one write, and failures are retried.

        kopf forgets an event whose handler failed, so the retry is here, on the
        main loop, where losing the Lease does not end it.
        """
        self._waiting.add(uid)
        if self._writer is None or self._writer.done():
            self._writer = asyncio.create_task(self._write_all())

    async def current(self) -> tuple[str, ...]:
        """Return the uids, at most two seconds old."""
        now = self._clock()
        if self._cached is None or now >= self._cached[0]:
            data = await self._owned.data("configmaps", names.TOMBSTONES_CONFIGMAP)
            self._cached = (now + _CACHE_SECONDS, tuple(sorted(data)))
        return self._cached[1]

    async def _write_all(self) -> None:
        while self._waiting:
            batch, now = set(self._waiting), datetime.now(UTC)
            add = partial(added, uids=batch, expires=now + self._life, now=now)
            try:
                await self._owned.update("configmaps", names.TOMBSTONES_CONFIGMAP, add)
            except StillframeError as error:
                log.warning("tombstones: not written, trying again: %s", error)
                await asyncio.sleep(_RETRY_SECONDS)
            else:
                self._waiting -= batch
