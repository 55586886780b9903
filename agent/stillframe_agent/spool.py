"""Spool: reports that are not acknowledged yet, on disk.

A report is one file, ``<report id>.report``, written durably before anything
else may be forgotten.  Bounded: when it is full, the oldest report of the pod
that has most is given up, so that one crash loop cannot push out the rest.
The directory's lock says which agent of the node works; a second one waits.
"""

import fcntl
import os
import threading
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from google.protobuf.message import DecodeError

from stillframe.rpc.v1.intake_pb2 import Report
from stillframe_agent.files import write_durably
from stillframe_agent.metrics import Metrics

_SUFFIX: Final = ".report"
_LOCK_FILE: Final = ".lock"


@dataclass(frozen=True, slots=True)
class _Item:
    pod_uid: str
    bytes: int


class Spool:
    """The node's spool.  Methods may be called from any thread."""

    def __init__(self, root: Path, max_bytes: int, max_items: int, metrics: Metrics) -> None:
        root.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._root = root
        self._max_bytes = max_bytes
        self._max_items = max_items
        self._metrics = metrics
        self._lock = threading.Lock()
        self._items: dict[str, _Item] = {}
        """Oldest first."""
        self._lock_fd = os.open(root / _LOCK_FILE, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)

    def try_lock(self) -> bool:
        """Become the node's agent; False while another one is.  Ends with the process."""
        try:
            fcntl.flock(self._lock_fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True

    def load(self) -> list[str]:
        """Read what is there; the ids, oldest first.  Unreadable files are given up."""
        for unfinished in self._root.glob(f".*{_SUFFIX}"):
            unfinished.unlink()
        files = self._root.glob(f"*{_SUFFIX}")
        with self._lock:
            for path in sorted(files, key=lambda path: (path.stat().st_mtime_ns, path.name)):
                data = path.read_bytes()
                try:
                    report = Report.FromString(data)
                except DecodeError:
                    self._metrics.spool_dropped.labels("unreadable").inc()
                    path.unlink()
                    continue
                self._items[path.stem] = _Item(report.pod.uid, len(data))
            self._count()
            return list(self._items)

    def add(self, report: Report) -> None:
        """Keep ``report`` until it is removed.  Raises `OSError` when the disk refuses."""
        data = report.SerializeToString()
        with self._lock:
            write_durably(self._path(report.id), data)
            self._items[report.id] = _Item(report.pod.uid, len(data))
            while len(self._items) > self._max_items or self._bytes() > self._max_bytes:
                self._remove(self._first_to_go())
                self._metrics.spool_dropped.labels("full").inc()
            self._count()

    def get(self, report_id: str) -> Report | None:
        """The report; None when it has been removed."""
        with self._lock:
            if report_id not in self._items:
                return None
            return Report.FromString(self._path(report_id).read_bytes())

    def remove(self, report_id: str) -> None:
        """Forget a report; one that is gone is fine."""
        with self._lock:
            if report_id in self._items:
                self._remove(report_id)
                self._count()

    def used(self) -> float:
        """Share of the quota that is used: of bytes or of items, whichever is more."""
        with self._lock:
            return max(self._bytes() / self._max_bytes, len(self._items) / self._max_items)

    def _remove(self, report_id: str) -> None:
        del self._items[report_id]
        self._path(report_id).unlink()

    def _first_to_go(self) -> str:
        ((greediest, _count),) = Counter(item.pod_uid for item in self._items.values()).most_common(
            1
        )
        return next(key for key, item in self._items.items() if item.pod_uid == greediest)

    def _bytes(self) -> int:
        return sum(item.bytes for item in self._items.values())

    def _path(self, report_id: str) -> Path:
        return self._root / f"{report_id}{_SUFFIX}"

    def _count(self) -> None:
        self._metrics.spool_items.set(len(self._items))
        self._metrics.spool_bytes.set(self._bytes())
