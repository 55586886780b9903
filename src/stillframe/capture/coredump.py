"""The memory of a stopped process, written as a core by several threads.

Flows in: a snapshot (its notes, and pages that only it has), the process's
``mem``, ``smaps`` and ``pagemap``, and a file.  Flows out: a valid core in that
file, whole or cut at the deadline, and a `Dumped` that says which.  Runs in the
disposable reader of `tracer`.  Memory use does not depend on the process's size:
one buffer for each of `WORKERS` threads.
"""

import errno
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final

from stillframe.capture.corejob import Dumped
from stillframe.capture.coreoutput import Output, Store
from stillframe.capture.coreplan import (
    BATCH,
    Bounds,
    Origin,
    Piece,
    Source,
    Stop,
    batches,
    plan,
)
from stillframe.capture.corewriter import cut, encode_headers, headers_size
from stillframe.capture.pages import PAGE
from stillframe.corefile import CoreFile

WORKERS: Final = 4
"""Threads that copy, however many processors there are: on two that are wanted by twelve others,
four threads took 0.8 of the time of two (bench/core).  Each has about 2 MiB."""
AHEAD: Final = 16
"""Batches that are stored while an earlier one is not: 256 KiB each at most."""
_ZEROS: Final = memoryview(bytes(BATCH))


def dump(
    source: Source,
    snapshot: CoreFile,
    notes: Callable[[bool], bytes],
    open_: Callable[[int], Output],
    bounds: Bounds,
) -> Dumped:
    """Write the core of ``source``.

    ``open_`` gives the file for it, told the size of its headers.  ``notes`` gives
    all notes of the core; its argument says whether the core is truncated, and
    must not change the size.  Raises `Stop` when there was no time for any
    memory, `OSError` when our disk fails.
    """
    planned, cause = plan(source, snapshot, bounds)
    loads = [segment.load for segment in planned]
    size = headers_size(len(notes(False)), len(loads))
    output = open_(size)
    copy = _Copy(source, snapshot, output, bounds, batches(planned, source.tables))
    cause = copy.run(WORKERS) or cause
    if cause and copy.written == 0:
        raise Stop(cause)
    headers = encode_headers(snapshot.machine, notes(bool(cause)), cut(loads, copy.written))
    output.finish(headers, copy.written)
    return Dumped(bytes=size + copy.written, truncated=cause, unreadable=copy.unreadable)


@dataclass(frozen=True, slots=True)
class _Stored:
    """What a worker has to say of its batch."""

    rest: bytes = b""
    """What is to be written in its turn."""
    size: int = 0
    """Bytes of memory."""
    unreadable: int = 0
    end: Exception | None = None
    """Why nothing after it belongs into the core."""


class _Copy:
    """Memory on its way to the file: read and compressed by many threads, counted in order.

    A worker that is ahead of its turn leaves its block behind and goes on: the
    scheduler may have put aside the one whose turn it is.
    """

    def __init__(
        self,
        source: Source,
        snapshot: CoreFile,
        output: Output,
        bounds: Bounds,
        batches_: Iterator[list[Piece]],
    ) -> None:
        self.written = 0
        """Bytes of memory, uncompressed."""
        self.unreadable = 0
        self._reader = _Reader(source.mem_fd, snapshot)
        self._output = output
        self._bounds = bounds
        self._batches = enumerate(batches_)
        self._taking = threading.Lock()
        self._turn = threading.Condition()
        self._done = 0
        """Batches that have been written."""
        self._early: dict[int, _Stored] = {}
        """Batches that are stored before others, by number; at most `AHEAD`."""
        self._end: Exception | None = None
        """Why nothing more is written."""

    def run(self, threads: int) -> str:
        """Copy everything; why it ended early, or nothing.  Raises what is no `Stop`."""
        others = [threading.Thread(target=self._work) for _ in range(threads - 1)]
        for thread in others:
            thread.start()
        self._work()
        for thread in others:
            thread.join()
        if self._end is not None and not isinstance(self._end, Stop):
            raise self._end
        return str(self._end or "")

    def _work(self) -> None:
        buffer = memoryview(bytearray(BATCH))
        store = self._output.storer()
        try:
            while (taken := self._take()) is not None:
                number, batch = taken
                self._finish(number, self._copy(number, batch, buffer, store))
        except Exception as error:  # raised by run()
            self._give_up(error)

    def _take(self) -> tuple[int, list[Piece]] | None:
        """The next batch and its number; None when there is none, or none is wanted."""
        with self._taking:
            with self._turn:
                self._turn.wait_for(lambda: len(self._early) < AHEAD or self._end is not None)
                if self._end is not None:
                    return None
            return next(self._batches, None)

    def _copy(
        self, number: int, batch: Sequence[Piece], buffer: memoryview, store: Store
    ) -> _Stored:
        """Do of a batch all that need not wait for its turn."""
        try:
            self._bounds.check_time()
            filled = self._reader.fill(buffer, batch)
            # All batches before this one are full, or there will be none here.
            rest = store(number * BATCH, buffer[: filled.size], filled.runs)
        except (Stop, OSError) as error:
            return _Stored(end=error)
        return _Stored(rest, filled.size, filled.unreadable, filled.end)

    def _finish(self, number: int, stored: _Stored) -> None:
        """Count a batch, and those that have waited for it."""
        with self._turn:
            self._early[number] = stored
            while self._end is None and (ready := self._early.pop(self._done, None)) is not None:
                self._append(ready)
                self._done += 1
            self._turn.notify_all()

    def _append(self, stored: _Stored) -> None:
        try:
            self._output.append(stored.rest)
            self.written += stored.size
            self.unreadable += stored.unreadable
            self._end = stored.end
        except (Stop, OSError) as error:
            self._end = error

    def _give_up(self, error: Exception) -> None:
        with self._turn:
            self._end = self._end or error
            self._turn.notify_all()


@dataclass(slots=True)
class _Filled:
    """A buffer's content."""

    size: int = 0
    runs: list[tuple[int, int]] = field(default_factory=list)
    """What of it is more than untouched memory: first and last offset, in order."""
    unreadable: int = 0
    """Pages."""
    end: Stop | None = None
    """The process gave no more."""

    def add(self, size: int, origin: Origin) -> None:
        """Count a piece."""
        if origin is not Origin.ZEROS:
            if self.runs and self.runs[-1][1] == self.size:
                self.runs[-1] = (self.runs[-1][0], self.size + size)
            else:
                self.runs.append((self.size, self.size + size))
        self.size += size


class _Reader:
    """Reads pieces of memory; used by many threads."""

    def __init__(self, mem_fd: int, snapshot: CoreFile) -> None:
        self._mem_fd = mem_fd
        self._snapshot = snapshot
        note = snapshot.note
        self._secrets = (
            tuple((secret.address, secret.address + secret.size) for secret in note.secrets)
            if note
            else ()
        )

    def fill(self, buffer: memoryview, batch: Sequence[Piece]) -> _Filled:
        """Put a batch into a buffer."""
        filled = _Filled()
        for piece in batch:
            view = buffer[filled.size : filled.size + piece.size]
            if piece.origin is Origin.PROCESS:
                self._read(view, piece.address, filled)
                if filled.end is not None:
                    break
            else:
                snapshot = piece.origin is Origin.SNAPSHOT
                view[:] = (
                    self._snapshot.read(piece.address, piece.size)
                    if snapshot
                    else _ZEROS[: piece.size]
                )
                filled.add(piece.size, piece.origin)
        return filled

    def _read(self, view: memoryview, address: int, filled: _Filled) -> None:
        """Read what can be read: zeros where the kernel refuses."""
        while view:
            try:
                size = os.preadv(self._mem_fd, [view], address)
            except OSError as error:
                if error.errno not in (errno.EIO, errno.EFAULT):
                    raise
                filled.unreadable += 1
                size = min(PAGE, len(view))
                view[:size] = _ZEROS[:size]
            if size == 0:
                filled.end = Stop("the process was gone")
                return
            self._without_secrets(view[:size], address)
            filled.add(size, Origin.PROCESS)
            view = view[size:]
            address += size

    def _without_secrets(self, view: memoryview, address: int) -> None:
        for start, end in self._secrets:
            first = max(start - address, 0)
            last = min(end - address, len(view))
            if first < last:
                view[first:last] = _ZEROS[: last - first]
