"""The memory of a stopped process, streamed into a core.

Flows in: a snapshot (its notes, and pages that only it has), the process's
``mem``, ``smaps`` and ``pagemap``, and a file.  Flows out: a valid core in that
file, whole or cut at the deadline, and a `Dumped` that says which.  Runs in the
disposable reader of `tracer`.  Memory use does not depend on the process's size.
"""

import errno
import os
from collections.abc import Callable
from typing import Final

from stillframe.capture.corejob import Dumped
from stillframe.capture.coreoutput import Output
from stillframe.capture.coreplan import Bounds, Planned, Source, Stop, plan
from stillframe.capture.corewriter import cut, encode_headers, headers_size
from stillframe.capture.pages import PAGE
from stillframe.corefile import CoreFile

CHUNK: Final = 256 << 10
"""Bytes read at once: they stay in the processor's cache, and more is not faster (bench/core)."""
_GONE: Final = "the process was gone"


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
    memory = _Memory(output, source, snapshot, bounds)
    try:
        for segment in planned:
            memory.copy(segment)
    except Stop as stop:
        cause = str(stop)
    if cause and memory.written == 0:
        raise Stop(cause)
    headers = encode_headers(snapshot.machine, notes(bool(cause)), cut(loads, memory.written))
    output.finish(headers)
    return Dumped(bytes=size + memory.written, truncated=cause, unreadable=memory.unreadable)


class _Memory:
    """The stream of memory after the headers."""

    def __init__(self, output: Output, source: Source, snapshot: CoreFile, bounds: Bounds) -> None:
        self._output = output
        self.written = 0
        """Bytes, uncompressed."""
        self.unreadable = 0
        self._source = source
        self._snapshot = snapshot
        self._bounds = bounds
        self._buffer = memoryview(bytearray(CHUNK))
        note = snapshot.note
        self._secrets = (
            tuple((secret.address, secret.address + secret.size) for secret in note.secrets)
            if note
            else ()
        )

    def copy(self, segment: Planned) -> None:
        """Write the content of one segment, ``filesz`` bytes."""
        at, end = segment.load.vaddr, segment.load.vaddr + segment.load.filesz
        if segment.kind is None:
            self._write(self._snapshot.read(at, end - at))
            return
        try:
            for first, last in self._source.tables.saved(at, end, segment.kind):
                self._skip(first - at)
                self._read(first, last)
                at = last
        except ProcessLookupError as error:
            raise Stop(_GONE) from error
        self._skip(end - at)

    def _read(self, address: int, end: int) -> None:
        while address < end:
            chunk = self._buffer[: min(CHUNK, end - address)]
            size = self._fill(chunk, address)
            self._write(self._without_secrets(chunk[:size], address))
            address += size

    def _fill(self, chunk: memoryview, address: int) -> int:
        """Read what can be read, at least a page: zeros where the kernel refuses."""
        try:
            size = os.preadv(self._source.mem_fd, [chunk], address)
        except OSError as error:
            if error.errno not in (errno.EIO, errno.EFAULT):
                raise
            self.unreadable += 1
            chunk[:PAGE] = bytes(PAGE)
            return PAGE
        if size == 0:
            raise Stop(_GONE)
        return size

    def _without_secrets(self, chunk: memoryview, address: int) -> memoryview:
        for start, end in self._secrets:
            first = max(start - address, 0)
            last = min(end - address, len(chunk))
            if first < last:
                chunk[first:last] = bytes(last - first)
        return chunk

    def _write(self, data: "bytes | memoryview") -> None:
        self._bounds.check_time()
        self._output.write(data)
        self.written += len(data)

    def _skip(self, size: int) -> None:
        """Memory that the process never touched."""
        self._output.skip(size)
        self.written += size
