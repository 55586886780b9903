"""Which CrashReports go: those not seen for long, and the least recently seen above the caps."""

import asyncio
import logging
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Literal

from stillframe.errors import StillframeError
from stillframe_operator import metrics
from stillframe_operator.kube import Kube, Object, crashreport_path
from stillframe_operator.settings import Settings
from stillframe_operator.store import Store
from stillframe_operator.text import parse_time

log = logging.getLogger(__name__)

Reason = Literal["expired", "namespace_cap", "cluster_cap"]


@dataclass(frozen=True)
class Entry:
    """A CrashReport as retention sees it."""

    namespace: str
    name: str
    resource_version: str
    last_seen: datetime


@dataclass(frozen=True)
class Limits:
    """How long and how many."""

    life: timedelta
    per_namespace: int
    total: int


def removals(entries: Iterable[Entry], limits: Limits, now: datetime) -> list[tuple[Entry, Reason]]:
    """Return what has to go, and why.  Pure.

    >>> e = Entry("a", "b", "1", datetime(2026, 1, 1, tzinfo=UTC))
    >>> removals([e], Limits(timedelta(days=14), 9, 9), datetime(2026, 2, 1, tzinfo=UTC))[0][1]
    'expired'
    """
    gone: list[tuple[Entry, Reason]] = []
    kept: list[Entry] = []
    counts: dict[str, int] = defaultdict(int)
    for entry in sorted(entries, key=lambda e: e.last_seen, reverse=True):
        if now - entry.last_seen > limits.life:
            gone.append((entry, "expired"))
        elif counts[entry.namespace] >= limits.per_namespace:
            gone.append((entry, "namespace_cap"))
        elif len(kept) >= limits.total:
            gone.append((entry, "cluster_cap"))
        else:
            counts[entry.namespace] += 1
            kept.append(entry)
    return gone


def entry_of(report: Object) -> Entry:
    """Return the entry of a CrashReport; one that was never counted is as old as its object."""
    metadata = report["metadata"]
    seen = (report.get("status") or {}).get("lastSeen") or metadata["creationTimestamp"]
    return Entry(
        metadata["namespace"], metadata["name"], metadata["resourceVersion"], parse_time(seen)
    )


class Retention:
    """Sweeps, for ever; belongs to the leader."""

    def __init__(self, kube: Kube, settings: Settings, store: Store) -> None:
        self._kube = kube
        self._store = store
        self._pause = settings.sweep_seconds
        self._limits = Limits(
            timedelta(seconds=settings.retention_seconds),
            settings.max_reports_per_namespace,
            settings.max_reports,
        )

    async def run(self) -> None:
        """Sweep, for ever."""
        while True:
            try:
                await self.sweep()
            except StillframeError as error:
                log.warning("retention: %s; trying again", error)
            await asyncio.sleep(self._pause)

    async def sweep(self) -> None:
        """Remove once; a report written since it was read stays until the next sweep."""
        entries: list[Entry] = []
        async for page in self._kube.pages(crashreport_path(None)):
            entries += map(entry_of, page)
        for entry, reason in removals(entries, self._limits, datetime.now(UTC)):
            if await self._store.remove(entry.namespace, entry.name, entry.resource_version):
                metrics.REMOVED.labels(reason).inc()
                log.info("retention: %s/%s removed: %s", entry.namespace, entry.name, reason)
