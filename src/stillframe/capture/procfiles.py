"""Small files of ``/proc/PID``, read below an open directory: never those of a later process."""

import os
from typing import Final

from stillframe.errors import InvalidInputError

SMALL: Final = 64 << 10
"""Bytes read of one file."""


def open_below(directory_fd: int, name: str) -> int:
    """A descriptor for reading; raises `OSError`."""
    return os.open(name, os.O_RDONLY | os.O_CLOEXEC, dir_fd=directory_fd)


def read_small(directory_fd: int, name: str) -> bytes:
    """The first `SMALL` bytes; raises `OSError`."""
    fd = open_below(directory_fd, name)
    try:
        return os.read(fd, SMALL)
    finally:
        os.close(fd)


def status_field(status: bytes, name: bytes) -> list[bytes]:
    r"""The words of one line of a ``status`` file; raises `InvalidInputError` without it.

    >>> status_field(b"Name:\tx\nUid:\t0\t0\n", b"Uid:")
    [b'0', b'0']
    """
    for line in status.splitlines():
        if line.startswith(name):
            return line.split()[1:]
    raise InvalidInputError("NotStatus", f"no {name.decode()} in a status file")


def thread_ids(proc_fd: int) -> list[int]:
    """The threads of a process, those that have ended but are not gone included."""
    fd = open_below(proc_fd, "task")
    try:
        return [int(name) for name in os.listdir(fd)]  # noqa: PTH208 -- a descriptor
    finally:
        os.close(fd)


def inner_id(proc_fd: int, tid: int) -> int:
    """A thread's id in the pid namespace of its own process."""
    fd = os.open(f"task/{tid}", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=proc_fd)
    try:
        return int(status_field(read_small(fd, "status"), b"NSpid:")[-1])
    finally:
        os.close(fd)
