"""Crashes of a running program: noticed, captured, handed on.

Flows in: a snapshot directory.  Flows out: one call of ``on_crash`` per
capture, in a thread of its own, so that a slow analysis never makes the next
crash wait.
"""

import os
import select
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from stillframe.capture.handover import SnapshotDirectory, SnapshotName, Stage, list_names
from stillframe.capture.inotify import IN_CREATE, IN_MOVED_TO, Inotify
from stillframe.errors import StillframeError

MAX_CAPTURES: Final = 64
"""At once; the library writes no more files than that into one directory."""

Take = Callable[[SnapshotDirectory, SnapshotName], None]
"""Captures one snapshot and does all that follows; raises `StillframeError`."""


class Watcher:
    """Watches one directory, from entering it to `finish`.

    While it is open the library sees an agent and lets crashes wait for it.
    """

    def __init__(self, path: Path, take: Take) -> None:
        self._take = take
        self._inotify = Inotify()
        # Watch before the beacon: no crash that waits for us can be missed.
        self._inotify.add(str(path), IN_CREATE | IN_MOVED_TO)
        self._directory = SnapshotDirectory.open(path)
        self._pool = ThreadPoolExecutor(MAX_CAPTURES, thread_name_prefix="capture")
        self._taken: dict[str, Future[None]] = {}
        self._stopped = os.eventfd(0, os.EFD_CLOEXEC)
        self._thread = threading.Thread(target=self._watch, name="watch")

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stop()
        self._pool.shutdown()
        self._inotify.close()
        self._directory.close()
        os.close(self._stopped)

    def finish(self) -> list[StillframeError]:
        """Take what is still in the directory, now that the program has ended.

        A snapshot that was refused while its process lived gets its second
        chance here.  Returns why the rest could not be had.
        """
        self._stop()
        self._errors()
        self._taken.clear()
        self._sweep()
        return self._errors()

    def _stop(self) -> None:
        os.eventfd_write(self._stopped, 1)
        self._thread.join()

    def _errors(self) -> list[StillframeError]:
        """Waits for every capture; why some of them failed."""
        errors = []
        for future in self._taken.values():
            try:
                future.result()
            except FileNotFoundError:
                continue  # the library took it back: its disk was full, say
            except StillframeError as error:
                errors.append(error)
        return errors

    def _watch(self) -> None:
        poll = select.poll()
        poll.register(self._inotify.fd, select.POLLIN)
        poll.register(self._stopped, select.POLLIN)
        while self._stopped not in dict(poll.poll()):
            self._inotify.read()
            self._sweep()

    def _sweep(self) -> None:
        for name in list_names(self._directory.fd).names:
            if name.stage is not Stage.BIRTH and name.id not in self._taken:
                self._taken[name.id] = self._pool.submit(self._take, self._directory, name)
