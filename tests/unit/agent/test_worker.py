"""The worker, with a collector that the test plays."""

import asyncio
import threading
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

from stillframe_agent.decide import Limits
from stillframe_agent.metrics import Metrics
from stillframe_agent.mounts import Volume
from stillframe_agent.watch import SnapshotFound, WatchedDirectory
from stillframe_agent.worker import Worker

from stillframe.capture.handover import SnapshotDirectory, SnapshotName, Stage

ID = "5eed" * 8


def _worker(collect: Callable[[SnapshotFound], object], limits: Limits) -> Worker:
    return Worker(
        SimpleNamespace(collect=collect),  # type: ignore[arg-type]
        SimpleNamespace(),  # type: ignore[arg-type]
        limits=limits,
        analyses=1,
        retry_seconds=1,
        metrics=Metrics(),
        reported=lambda _: None,
    )


def run(tmp_path: Path, collect: Callable[[Worker, SnapshotFound], None]) -> list[Stage]:
    """The names that the collector was given, from a ``.part`` on until nothing is left to do."""
    given: list[Stage] = []

    async def main() -> None:
        loop = asyncio.get_running_loop()

        def play(seen: SnapshotFound) -> None:
            given.append(seen.name.stage)
            done = asyncio.run_coroutine_threadsafe(in_the_loop(seen), loop)
            done.result()

        async def in_the_loop(seen: SnapshotFound) -> None:
            collect(worker, seen)

        worker = _worker(play, Limits(captures=1, captures_of_pod=1))
        with SnapshotDirectory.open(tmp_path) as snapshots:
            directory = WatchedDirectory(Volume("uid", tmp_path, tmp_path), snapshots, 1, 2)
            worker.found(SnapshotFound(directory, SnapshotName(ID, Stage.PART)))
            while worker._tasks:
                await asyncio.wait(worker._tasks)

    asyncio.run(main())
    return given


def test_what_becomes_complete_while_it_is_given_up_is_found_again(tmp_path: Path) -> None:
    part, core = (tmp_path / f"{ID}.{stage}" for stage in ("part", "core"))
    part.write_bytes(b"")

    def give_up(worker: Worker, seen: SnapshotFound) -> None:
        if seen.name.stage is Stage.PART:
            part.rename(core)
            # The event of the new name, which comes before the old one is out of our hands.
            worker.found(SnapshotFound(seen.directory, SnapshotName(ID, Stage.CORE)))

    assert run(tmp_path, give_up) == [Stage.PART, Stage.CORE]


def test_what_stays_as_it_was_is_not_looked_at_again(tmp_path: Path) -> None:
    (tmp_path / f"{ID}.part").write_bytes(b"")
    assert run(tmp_path, lambda _worker, _seen: None) == [Stage.PART]
    (tmp_path / f"{ID}.core").write_bytes(b"")
    assert run(tmp_path, lambda _worker, _seen: None) == [Stage.PART, Stage.CORE]


def test_few_captures_begin_at_once_and_those_that_wait_do_not_count(tmp_path: Path) -> None:
    all_three = threading.Barrier(3, timeout=20)

    def wait_for_the_others(_seen: SnapshotFound) -> None:
        all_three.wait()

    async def main() -> None:
        worker = _worker(
            wait_for_the_others, Limits(captures=8, captures_of_pod=8, fresh=2, fresh_of_pod=2)
        )
        with SnapshotDirectory.open(tmp_path) as snapshots:
            directory = WatchedDirectory(Volume("uid", tmp_path, tmp_path), snapshots, 1, 2)
            for number in range(3):
                name = SnapshotName(f"{number:032x}", Stage.PART)
                (tmp_path / name.file).write_bytes(b"")
                worker.found(SnapshotFound(directory, name))
            assert worker._capturing.total() == 2
            while worker._tasks:
                await asyncio.wait(worker._tasks)

    asyncio.run(main())
    assert not all_three.broken
