"""inotify(7): the four calls of it that we use.

A watch refers to the inode, not to the mount: unlike an open descriptor it
never keeps the kubelet from unmounting a volume.
"""

import ctypes
import os
import struct
from dataclasses import dataclass
from typing import Final

IN_CREATE: Final = 0x100
IN_DELETE_SELF: Final = 0x400
IN_MOVED_TO: Final = 0x80
IN_Q_OVERFLOW: Final = 0x4000
IN_IGNORED: Final = 0x8000
IN_ONLYDIR: Final = 0x1000000
IN_DONT_FOLLOW: Final = 0x2000000

_HEADER: Final = struct.Struct("=iIII")
_BUFFER: Final = 64 << 10
_libc: Final = ctypes.CDLL(None, use_errno=True)


@dataclass(frozen=True, slots=True)
class Event:
    """One struct inotify_event."""

    watch: int
    """Watch descriptor; -1 with `IN_Q_OVERFLOW`."""
    mask: int
    name: str
    """Entry of the watched directory, undecodable bytes escaped; may be empty."""


class Inotify:
    """One inotify instance, non-blocking."""

    def __init__(self) -> None:
        self.fd: int = _checked(_libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC), "inotify_init1")

    def add(self, path: str, mask: int) -> int:
        """Watch ``path``; the same inode always gets the same descriptor.  Raises `OSError`."""
        return _checked(_libc.inotify_add_watch(self.fd, os.fsencode(path), mask), path)

    def remove(self, watch: int) -> None:
        """Stop watching; a watch whose inode has gone is gone already."""
        _libc.inotify_rm_watch(self.fd, watch)

    def read(self) -> list[Event]:
        """The events that wait, at most 64 KiB of them; empty when there are none."""
        try:
            data = os.read(self.fd, _BUFFER)
        except BlockingIOError:
            return []
        events = []
        offset = 0
        while offset < len(data):
            watch, mask, _cookie, length = _HEADER.unpack_from(data, offset)
            offset += _HEADER.size
            name = data[offset : offset + length].rstrip(b"\0")
            offset += length
            events.append(Event(watch, mask, os.fsdecode(name)))
        return events

    def close(self) -> None:
        """Close; every watch ends."""
        os.close(self.fd)


def _checked(result: int, what: str) -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), what)
    return result
