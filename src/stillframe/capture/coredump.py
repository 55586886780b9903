"""The memory of a stopped process, streamed into a core.

Flows in: a snapshot (its notes, and pages that only it has), the process's
``mem``, ``smaps`` and ``pagemap``, and a file.  Flows out: a valid core in that
file, whole or cut at the deadline, and a `Dumped` that says which.  Runs in the
disposable reader of `tracer`, which forks others like itself, as many as there
are processors.  Memory use does not depend on the process's size.
"""

import errno
import os
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from itertools import zip_longest
from typing import Final

from msgspec.structs import replace

from stillframe.capture.corejob import Dumped
from stillframe.capture.coreoutput import Block, Output
from stillframe.capture.coreplan import Bounds, Piece, Source, Stop, blocks, plan
from stillframe.capture.corewriter import cut, encode_headers, headers_size
from stillframe.capture.pages import PAGE
from stillframe.capture.relay import Baton, Turn, relay
from stillframe.corefile import CoreFile

CHUNK: Final = 1 << 20
"""Bytes of memory in a block; more is not faster (bench/core)."""
MAX_READERS: Final = 4
"""Each takes a processor of the node, and about 4 MiB."""
_GONE: Final = "the process was gone"


def dump(
    source: Source,
    snapshot: CoreFile,
    notes: Callable[[bool], bytes],
    open_: Callable[[int], Output],
    bounds: Bounds,
    *,
    readers: int | None = None,
) -> Dumped:
    """Write the core of ``source``.

    ``open_`` gives the file for it, told the size of its headers.  ``notes`` gives
    all notes of the core; its argument says whether the core is truncated, and
    must not change the size.  ``readers`` is how many processes read, as many as
    there are processors when None.  Raises `Stop` when there was no time for any
    memory, `OSError` when our disk fails.
    """
    planned, cause = plan(source, snapshot, bounds)
    loads = [segment.load for segment in planned]
    size = headers_size(len(notes(False)), len(loads))
    output = open_(size)
    runners = max(1, min(readers or _processors(), sum(load.filesz for load in loads) // CHUNK))

    def share(rank: int) -> Iterator[Turn]:
        memory = _Memory(output, source, snapshot, bounds)
        numbered = enumerate(blocks(planned, CHUNK))
        for round_ in zip_longest(*[numbered] * runners):
            yield memory.turn(*round_[rank]) if round_[rank] else replace

    end = relay(Baton(file_bytes=output.start), runners, share)
    cause = end.over or cause
    if cause and end.written == 0:
        raise Stop(cause)
    headers = encode_headers(snapshot.machine, notes(bool(cause)), cut(loads, end.written))
    output.finish(headers, end.file_bytes)
    return Dumped(bytes=size + end.written, truncated=cause, unreadable=end.unreadable)


def _processors() -> int:
    return min(len(os.sched_getaffinity(0)), MAX_READERS)


class _Memory:
    """Reads the memory, a block at a time."""

    def __init__(self, output: Output, source: Source, snapshot: CoreFile, bounds: Bounds) -> None:
        self._output = output
        self._source = source
        self._snapshot = snapshot
        self._bounds = bounds
        self._buffer = memoryview(bytearray(CHUNK))
        self._filled = 0
        """Bytes of the buffer."""
        self._runs: list[tuple[int, int]] = []
        self._unreadable = 0
        note = snapshot.note
        self._secrets = (
            tuple((secret.address, secret.address + secret.size) for secret in note.secrets)
            if note
            else ()
        )

    def turn(self, number: int, pieces: Iterable[Piece]) -> Turn:
        """Read the block of that number now; append it when it is its turn."""
        self._filled, self._runs, self._unreadable = 0, [], 0
        cut_because = ""
        try:
            for piece in pieces:
                self._copy(piece)
        except Stop as stop:
            cut_because = str(stop)
        size, unreadable = self._filled, self._unreadable
        try:
            made = self._output.make(Block(number * CHUNK, self._buffer[:size], self._runs))
        except Stop as stop:
            return partial(replace, over=str(stop))

        def append(baton: Baton) -> Baton:
            try:
                end = self._output.append(made, baton.file_bytes)
            except Stop as stop:
                return replace(baton, over=str(stop))
            return Baton(
                file_bytes=end,
                written=baton.written + size,
                unreadable=baton.unreadable + unreadable,
                over=cut_because,
            )

        return append

    def _copy(self, piece: Piece) -> None:
        self._bounds.check_time()
        at, kind = piece.start, piece.segment.kind
        if kind is None:
            self._put(self._snapshot.read(at, piece.end - at))
            return
        try:
            for first, last in self._source.tables.saved(at, piece.end, kind):
                self._skip(first - at)
                self._read(first, last)
                at = last
        except ProcessLookupError as error:
            raise Stop(_GONE) from error
        self._skip(piece.end - at)

    def _put(self, data: bytes) -> None:
        first = self._filled
        self._filled += len(data)
        self._buffer[first : self._filled] = data
        self._runs.append((first, self._filled))

    def _skip(self, size: int) -> None:
        """Memory that the process never touched."""
        self._buffer[self._filled : self._filled + size] = bytes(size)
        self._filled += size

    def _read(self, address: int, end: int) -> None:
        first = self._filled
        try:
            while address < end:
                chunk = self._buffer[self._filled : self._filled + end - address]
                size = self._fill(chunk, address)
                self._hide_secrets(chunk[:size], address)
                self._filled += size
                address += size
        finally:
            self._runs.append((first, self._filled))

    def _fill(self, chunk: memoryview, address: int) -> int:
        """Read what can be read, at least a page: zeros where the kernel refuses."""
        try:
            size = os.preadv(self._source.mem_fd, [chunk], address)
        except OSError as error:
            if error.errno not in (errno.EIO, errno.EFAULT):
                raise
            self._unreadable += 1
            chunk[:PAGE] = bytes(PAGE)
            return PAGE
        if size == 0:
            raise Stop(_GONE)
        return size

    def _hide_secrets(self, chunk: memoryview, address: int) -> None:
        for start, end in self._secrets:
            first = max(start - address, 0)
            last = min(end - address, len(chunk))
            if first < last:
                chunk[first:last] = bytes(last - first)
