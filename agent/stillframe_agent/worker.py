"""Worker: N crashes at once, and none of them waits for the analysis of another.

Flows in: `SnapshotFound`s in the event loop.  Flows out: ids of reports in the
spool.  Captures run in as many threads as may hold a process at once; analyses
have their own, few threads.
"""

import asyncio
import contextlib
import logging
import os
import time
from collections import Counter, OrderedDict
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import replace
from typing import Final

from stillframe.capture.handover import (
    ANY_SIZE,
    OpenSnapshot,
    SnapshotName,
    Stage,
    claim,
    open_snapshot,
)
from stillframe.errors import InvalidInputError, TemporaryError
from stillframe_agent.analyze import Analyzer
from stillframe_agent.collect import Collected, Collector, discard_all
from stillframe_agent.decide import Budget, Limits, Load, Plan, decide
from stillframe_agent.logs import event
from stillframe_agent.metrics import Metrics
from stillframe_agent.watch import SnapshotFound

log: Final = logging.getLogger(__name__)

_PODS_REMEMBERED: Final = 1024
"""Budgets kept; a pod that is forgotten starts with a full one."""
_FRESH_SECONDS: Final = 0.1
"""Then a capture counts as one that waits: for a slow writer, for a full core, for our disk."""
_WITH_MODULES: Final = 64
"""Samples that wait for analysis with their modules open; arbitrary, bounds descriptors."""


class Worker:
    """Executes what `decide` plans."""

    def __init__(
        self,
        collector: Collector,
        analyzer: Analyzer,
        *,
        limits: Limits,
        analyses: int,
        retry_seconds: float,
        metrics: Metrics,
        reported: Callable[[str], None],
    ) -> None:
        """``reported`` is called in the event loop with the id of each spooled report.

        ``retry_seconds`` is the time until an analysis that our disk refused is tried again.
        """
        self._collector = collector
        self._analyzer = analyzer
        self._limits = limits
        self._retry_seconds = retry_seconds
        self._metrics = metrics
        self._reported = reported
        self._loop = asyncio.get_running_loop()
        self._capture_threads = ThreadPoolExecutor(limits.captures, "capture")
        self._analysis_threads = ThreadPoolExecutor(analyses, "analysis")
        self._known: set[tuple[str, str]] = set()
        """Pod UID and snapshot id of what waits or runs: one crash has several names."""
        self._waiting: list[SnapshotFound] = []
        self._waiting_of: Counter[str] = Counter()
        """Of `_waiting`, by pod UID."""
        self._claims: dict[tuple[str, str], OpenSnapshot] = {}
        """Of what waits or runs: a capture's own claim may come too late."""
        self._capturing: Counter[str] = Counter()
        """Captures that run, by pod UID."""
        self._fresh: set[tuple[str, str]] = set()
        """Of these, the ones that have only begun; as in `_known`."""
        self._budgets: OrderedDict[str, Budget] = OrderedDict()
        self._tasks: set[asyncio.Task[None]] = set()
        self._analyses_waiting = 0
        self._draining = False

    def found(self, seen: SnapshotFound) -> None:
        """Take a snapshot that was seen; returns at once."""
        key = _key(seen)
        if key in self._known or self._draining:
            return
        self._known.add(key)
        seen.directory.__enter__()
        self._waiting.append(seen)
        self._waiting_of[seen.directory.pod_uid] += 1
        self._consider(seen)

    def resume(self, collected: Collected) -> None:
        """Analyse a sample that an earlier agent left."""
        self._start(self._conclude(collected))

    async def drain(self, seconds: float) -> None:
        """Finish the captures that run, for at most ``seconds``; begin nothing.

        What was not analysed goes on at the next start.
        """
        self._draining = True
        for seen in self._waiting:
            self._done(seen)
        self._waiting.clear()
        deadline = self._loop.time() + seconds
        while self._capturing.total() and self._loop.time() < deadline:
            await asyncio.wait(
                self._tasks,
                timeout=deadline - self._loop.time(),
                return_when=asyncio.FIRST_COMPLETED,
            )

    def _consider(self, seen: SnapshotFound) -> None:
        """Do with one waiting snapshot what is decided now."""
        pod = seen.directory.pod_uid
        decision = decide(self._load(pod), self._budget(pod), self._limits, time.monotonic())
        self._budgets[pod] = decision.budget
        if decision.plan is not Plan.REFUSE:
            self._claim(seen)
        if decision.plan is not Plan.WAIT:
            self._waiting.remove(seen)
            _decrease(self._waiting_of, pod)
        if decision.plan is Plan.CAPTURE:
            self._capturing[pod] += 1
            self._fresh.add(_key(seen))
            self._loop.call_later(_FRESH_SECONDS, self._not_fresh, _key(seen))
            self._start(self._capture(seen))
        elif decision.plan is Plan.REFUSE:
            self._metrics.refusals.labels(str(decision.reason)).inc()
            discard_all(seen.directory.snapshots.fd, seen.name)
            self._done(seen)
        self._metrics.captures_waiting.set(len(self._waiting))

    def _claim(self, seen: SnapshotFound) -> None:
        """Tell a process at once that we have seen it: it waits as long as its policy says.

        What cannot be claimed is refused with a reason when its turn comes.
        """
        key = _key(seen)
        if key in self._claims:
            return
        for stage in (seen.name.stage, Stage.CORE):
            with contextlib.suppress(FileNotFoundError, InvalidInputError):
                name = SnapshotName(seen.name.id, stage)
                fd = seen.directory.snapshots.fd
                with ExitStack() as undo:
                    snapshot = undo.enter_context(open_snapshot(fd, name, max_bytes=ANY_SIZE))
                    claim(snapshot.fd)
                    undo.pop_all()
                self._claims[key] = snapshot
                return

    def _load(self, pod: str) -> Load:
        return Load(
            captures=self._capturing.total(),
            captures_of_pod=self._capturing[pod],
            fresh=len(self._fresh),
            fresh_of_pod=sum(uid == pod for uid, _ in self._fresh),
            waiting_of_pod=self._waiting_of[pod] - 1,
        )

    def _budget(self, pod: str) -> Budget:
        budget = self._budgets.pop(pod, Budget(self._limits.burst, time.monotonic()))
        self._budgets[pod] = budget
        if len(self._budgets) > _PODS_REMEMBERED:
            self._budgets.popitem(last=False)
        return budget

    async def _capture(self, seen: SnapshotFound) -> None:
        collected = None
        try:
            collected = await self._loop.run_in_executor(
                self._capture_threads, self._collector.collect, seen
            )
        except TemporaryError as error:
            self._metrics.captures.labels("retried").inc()
            event(log, logging.WARNING, str(error), pod_uid=seen.directory.pod_uid)
            self._loop.call_later(error.delay, self._again, seen)
        except Exception:
            log.exception("ignoring a snapshot: capturing it failed")
        finally:
            _decrease(self._capturing, seen.directory.pod_uid)
            self._done(seen)
            self._not_fresh(_key(seen))
        if collected is None:
            self._look_again(seen)
        elif not self._draining:
            await self._conclude(collected)

    def _not_fresh(self, key: tuple[str, str]) -> None:
        """A capture waits, or is over: others may have their turn."""
        self._fresh.discard(key)
        for other in list(self._waiting):
            self._consider(other)

    def _look_again(self, seen: SnapshotFound) -> None:
        """Find what became complete while we had it in hand, when its new name meant nothing."""
        core = SnapshotName(seen.name.id, Stage.CORE)
        with contextlib.suppress(FileNotFoundError):
            if seen.name != core and seen.directory.open:
                os.stat(core.file, dir_fd=seen.directory.snapshots.fd, follow_symlinks=False)
                self.found(replace(seen, name=core))

    def _again(self, seen: SnapshotFound) -> None:
        if seen.directory.open:
            self.found(seen)

    async def _conclude(self, collected: Collected) -> None:
        if self._analyses_waiting >= _WITH_MODULES:
            collected.close()
            collected = Collected(collected.manifest)
        self._analyses_waiting += 1
        try:
            report_id = None
            while report_id is None:
                report_id = await self._analyse(collected)
            self._reported(report_id)
        except Exception:
            log.exception("ignoring a sample until the next start: analysing it failed")
        finally:
            self._analyses_waiting -= 1
            collected.close()

    async def _analyse(self, collected: Collected) -> str | None:
        """The id of the spooled report; None, after a while, when our disk refused it."""
        try:
            return await self._loop.run_in_executor(
                self._analysis_threads, self._analyzer.conclude, collected
            )
        except OSError as error:
            event(
                log,
                logging.ERROR,
                f"our disk refused a report, again in {self._retry_seconds:g} s: {error}",
                report=collected.manifest.report_id,
            )
            await asyncio.sleep(self._retry_seconds)
            return None

    def _done(self, seen: SnapshotFound) -> None:
        key = _key(seen)
        self._known.discard(key)
        claimed = self._claims.pop(key, None)
        if claimed is not None:
            claimed.close()
        seen.directory.__exit__()

    def _start(self, work: Coroutine[object, object, None]) -> None:
        task = self._loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


def _decrease(counter: Counter[str], key: str) -> None:
    """Count one less, and forget what is 0: pods come and go for ever."""
    counter[key] -= 1
    if counter[key] == 0:
        del counter[key]


def _key(seen: SnapshotFound) -> tuple[str, str]:
    return seen.directory.pod_uid, seen.name.id
