"""The log that a JVM writes about its own death, taken along.

Flows in: a `Holder`.  Flows out: a descriptor, and later our copy.  HotSpot
writes ``hs_err_pid<pid>.log`` into its working directory, or into ``/tmp``
where it cannot (hotspot/share/utilities/vmError.cpp, ``prepare_log_file``),
before it aborts or exits: it is complete when the process is held.  Whether
the process is a JVM need not be known: other processes have no such file, and
to find that out takes four system calls.  Deliberately absent: other places
that ``-XX:ErrorFile`` may name.
"""

import errno
import os
from dataclasses import dataclass
from typing import Final

from stillframe.capture.copying import Copied, stage
from stillframe.capture.harmless import Filesystems, filesystems_of, open_harmless
from stillframe.capture.identity import START_SLACK_NS, Holder
from stillframe.capture.kernel import Resolve, file_facts
from stillframe.errors import StillframeError

_RESOLVE: Final = (
    # CACHED: the file was made just now, so a lookup that would have to ask a
    # server or a disk leads elsewhere.
    Resolve.BENEATH | Resolve.NO_MAGICLINKS | Resolve.NO_SYMLINKS | Resolve.CACHED
)
_NOT_THERE: Final = (errno.ENOENT, errno.EAGAIN, errno.EINVAL, errno.ENOSYS)
"""Also for a kernel without openat2(RESOLVE_CACHED), Linux 5.12."""
_PLACES: Final = (("cwd", ""), ("root", "tmp/"))
"""Links in ``/proc/PID``, which lead where they lead without a path, and what comes below."""


@dataclass(frozen=True, slots=True)
class HsErr:
    """A log as it was found; owns its descriptor."""

    fd: int | None = None
    soft_errors: tuple[str, ...] = ()
    """Why one that is there was not taken."""

    def close(self) -> None:
        """Close the descriptor."""
        if self.fd is not None:
            os.close(self.fd)


def open_hs_err(holder: Holder, *, max_bytes: int) -> HsErr:
    """Find the log of ``holder``'s own death, while the process lives; never raises.

    Only a file that was born after the process: pid 1 is pid 1 again after a
    restart, and its working directory may be a volume that stays.
    """
    name = f"hs_err_pid{holder.pids[-1]}.log"
    try:
        filesystems = filesystems_of(holder)
        for link, folder in _PLACES:
            fd = _open(holder, link, folder + name, filesystems, max_bytes)
            if fd is None:
                continue
            if file_facts(fd).birth_ns + START_SLACK_NS >= holder.started_ns():
                return HsErr(fd)
            os.close(fd)
    except OSError as error:
        return HsErr(soft_errors=(f"{name}: {error.strerror}",))
    return HsErr()


def keep_hs_err(
    log: HsErr, directory_fd: int, name: str, *, max_bytes: int
) -> tuple[Copied | None, tuple[str, ...]]:
    """Our durable copy of the log, if there is one, and why there is none; never raises."""
    if log.fd is None:
        return None, log.soft_errors
    try:
        return stage(log.fd, directory_fd, name, max_bytes=max_bytes).commit(), ()
    except (StillframeError, OSError) as error:
        return None, (f"{name}: {error}",)


def _open(
    holder: Holder, link: str, path: str, filesystems: Filesystems, max_bytes: int
) -> int | None:
    flags = os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC
    directory_fd = os.open(link, flags, dir_fd=holder.task_fd)
    try:
        return open_harmless(directory_fd, path, _RESOLVE, filesystems, max_bytes=max_bytes)
    except OSError as error:
        if error.errno in _NOT_THERE:
            return None
        raise
    finally:
        os.close(directory_fd)
