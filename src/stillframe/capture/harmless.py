"""Harmless: files of a pod, opened with nothing touched before it is known to be harmless.

Flows in: a path below a directory of the process.  Flows out: a read-only
descriptor.  An ``open`` of a FIFO, a device or a file that a server has to
deliver could wait for ever; so could a ``stat``.
"""

import os
import re
import stat
from typing import Final

from stillframe.capture.identity import Holder
from stillframe.capture.kernel import Resolve, file_facts, openat2
from stillframe.capture.procfiles import lines, read_small

MOUNTINFO_LIMIT: Final = 16 << 20
"""Bytes read of ``mountinfo``: about 100,000 mounts, the kernel's default limit."""
KERNEL_ONLY: Final = ("sysfs", "cgroup", "cgroup2")
"""Filesystem types (kernfs) whose lookups ask nobody; without asking they answer none."""
STALLING: Final = re.compile(r"fuse.*|nfs4?|cifs|smb3|9p|afs|ceph|coda|orangefs")
"""Filesystem types whose reads may wait for a server for ever."""

_STEP: Final = Resolve.BENEATH | Resolve.NO_MAGICLINKS | Resolve.NO_SYMLINKS

Filesystems = dict[int, str]
"""Mount id → filesystem type."""


def filesystems_of(holder: Holder) -> Filesystems:
    """What ``holder`` sees mounted; raises `OSError` when the process cannot be read."""
    return parse_mountinfo(read_small(holder.task_fd, "mountinfo", MOUNTINFO_LIMIT))


def parse_mountinfo(text: bytes) -> Filesystems:
    r"""The mounts in a ``/proc/PID/mountinfo``, which may be cut.

    >>> parse_mountinfo(b"46 27 0:49 / /m rw shared:1 - overlay overlay rw,lowerdir=l\n")
    {46: 'overlay'}
    """
    found = {}
    for line in lines(text[: text.rfind(b"\n") + 1]):  # half a line tells half a type
        mount, _, filesystem = line.partition(b" - ")
        found[int(mount.split()[0])] = os.fsdecode(filesystem.split()[0])
    return found


def open_mount_point(root_fd: int, path: str, filesystems: Filesystems) -> int:
    """An ``O_PATH`` descriptor of the directory at ``path`` below ``root_fd``, a mount point.

    A mount pins its path in the dentry cache, so only the kernel's own
    filesystems are ever asked; raises `OSError` (``EAGAIN``) where another one
    would have to be.
    """
    fd = os.dup(root_fd)
    for name in path.strip("/").split("/"):
        asks_nobody = filesystems.get(file_facts(fd).mount_id) in KERNEL_ONLY
        try:
            below = openat2(
                fd,
                name,
                os.O_PATH | os.O_DIRECTORY,
                _STEP if asks_nobody else _STEP | Resolve.CACHED,
            )
        finally:
            os.close(fd)
        fd = below
    return fd


def open_harmless(
    directory_fd: int, path: str, resolve: Resolve, filesystems: Filesystems, *, max_bytes: int
) -> int:
    """Open ``path`` below ``directory_fd`` for reading, if it is a regular file.

    Of 1 to ``max_bytes`` bytes, on a filesystem that no server can stall; the
    lookup itself is as harmless as ``resolve`` makes it.  Raises `OSError`:
    errno 0 with the reason where it is ours, the kernel's otherwise.
    """
    path_fd = openat2(directory_fd, path, os.O_PATH | os.O_NOFOLLOW, resolve)
    try:
        facts = file_facts(path_fd)
        filesystem = filesystems.get(facts.mount_id)
        if not stat.S_ISREG(facts.mode):
            raise OSError(0, "not a regular file")
        if not 0 < facts.size <= max_bytes:
            raise OSError(0, f"{facts.size} bytes, at most {max_bytes}")
        if filesystem is None or STALLING.fullmatch(filesystem):
            raise OSError(0, f"on a filesystem that could stall ({filesystem or 'unknown'})")
        return os.open(
            f"/proc/self/fd/{path_fd}", os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
        )
    finally:
        os.close(path_fd)
