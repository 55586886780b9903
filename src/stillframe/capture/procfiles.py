"""Small files of ``/proc/PID``, read below an open directory: never those of a later process."""

import os
from typing import Final

from stillframe.errors import InvalidInputError

SMALL: Final = 64 << 10
"""Bytes read of one file."""


def open_below(directory_fd: int, name: str) -> int:
    """A descriptor for reading; raises `OSError`."""
    return os.open(name, os.O_RDONLY | os.O_CLOEXEC, dir_fd=directory_fd)


def read_small(directory_fd: int, name: str, limit: int = SMALL) -> bytes:
    """The first ``limit`` bytes; raises `OSError`."""
    # Buffered: one read(2) of a file that the kernel prints ends with a page.
    with os.fdopen(open_below(directory_fd, name), "rb") as file:
        return file.read(limit)


def lines(text: bytes) -> list[bytes]:
    r"""The lines that the kernel printed.

    In names and paths it escapes the newline alone (fs/proc/array.c, ``proc_task_name``;
    fs/seq_file.c, ``seq_path``).  At the other characters that ``splitlines`` takes for the end of
    a line a process could begin one of its own.

    >>> lines(b"Name:\ta\rUid:\t0\nUid:\t7\n")
    [b'Name:\ta\rUid:\t0', b'Uid:\t7']
    """
    return text.removesuffix(b"\n").split(b"\n") if text else []


def status_field(status: bytes, name: bytes) -> list[bytes]:
    r"""The words of one line of a ``status`` file; raises `InvalidInputError` without it.

    >>> status_field(b"Name:\tx\nUid:\t0\t0\n", b"Uid:")
    [b'0', b'0']
    """
    for line in lines(status):
        if line.startswith(name):
            return line.split()[1:]
    raise InvalidInputError("NotStatus", f"no {name.decode()} in a status file")


def list_below(directory_fd: int, name: str) -> list[str]:
    """The names in a directory; raises `OSError`."""
    fd = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=directory_fd)
    try:
        return os.listdir(fd)  # noqa: PTH208 -- a descriptor
    finally:
        os.close(fd)


def thread_ids(proc_fd: int) -> list[int]:
    """The threads of a process, those that have ended but are not gone included."""
    return [int(name) for name in list_below(proc_fd, "task")]


def inner_id(proc_fd: int, tid: int) -> int:
    """A thread's id in the pid namespace of its own process."""
    fd = os.open(f"task/{tid}", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=proc_fd)
    try:
        return int(status_field(read_small(fd, "status"), b"NSpid:")[-1])
    finally:
        os.close(fd)
