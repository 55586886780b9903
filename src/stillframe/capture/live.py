"""A snapshot of a process that lives: taken like a full core, and the process goes on.

Flows in: a pid that a person named.  Flows out: a durable core with all threads
and all memory.  Nothing is attested: who calls this may trace the process, or
the kernel says no.
"""

import os
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from stillframe.capture.copying import Copied
from stillframe.capture.fullcore import CoreRequest, take_core, with_digest
from stillframe.capture.identity import Holder, holder_of
from stillframe.capture.modules import OpenModule, open_modules
from stillframe.capture.procfiles import read_small, status_field
from stillframe.errors import InvalidInputError, PermanentError

MAX_MODULES: Final = 512
"""Files opened; below the default limit of open files."""
MAX_MODULE_BYTES: Final = 1 << 30
_DIRECTORY: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
_MAY_NOT: Final = "Run it as the same user, or as root: sudo stillframe snapshot {pid}"


@dataclass(frozen=True, slots=True)
class Live:
    """What was taken of a process; the modules are open while the context lasts."""

    core: Copied
    process: Holder
    stopped_millis: int
    """How long its threads may have been stopped, ms."""
    modules: tuple[OpenModule, ...]
    soft_errors: tuple[str, ...]


@contextmanager
def snapshot_live(pid: int, directory: Path, request: CoreRequest) -> Iterator[Live]:
    """Stop a process, write its core into ``directory``, let it go on.

    Raises `PermanentError` with one sentence when there is no such process, or
    when it cannot be had; `TemporaryError` when our disk fails.
    """
    with ExitStack() as resources:
        process = resources.enter_context(_opened(pid))
        directory_fd = os.open(directory, _DIRECTORY)
        resources.callback(os.close, directory_fd)
        opened = open_modules(process, max_modules=MAX_MODULES, max_bytes=MAX_MODULE_BYTES)
        resources.callback(opened.close)
        modules, module_errors = opened.checked()
        started = time.monotonic()
        full = take_core(process, None, directory_fd, request, started)
        stopped = time.monotonic() - started
        if isinstance(full, str):
            raise PermanentError(f"process {pid}: {full}")
        yield Live(
            core=with_digest(full.staged).commit(),
            process=process,
            stopped_millis=round(stopped * 1000),
            modules=modules,
            soft_errors=(*full.soft_errors, *module_errors),
        )


@contextmanager
def _opened(pid: int) -> Iterator[Holder]:
    """The process, by descriptors: a later one of its pid is never meant."""
    if pid == os.getpid():
        raise PermanentError(f"process {pid} is this command itself: it cannot stop itself")
    with ExitStack() as opened:
        try:
            # Before pidfd_open: that calls a thread's id an invalid argument.
            proc_fd = os.open(f"/proc/{pid}", _DIRECTORY)
            opened.callback(os.close, proc_fd)
            _require_ordinary(pid, proc_fd)
            pidfd = os.pidfd_open(pid)
            opened.callback(os.close, pidfd)
            os.close(os.open("mem", os.O_RDONLY | os.O_CLOEXEC, dir_fd=proc_fd))
            holder = holder_of(pid, pid, pidfd, proc_fd)
        except (FileNotFoundError, ProcessLookupError) as error:
            raise PermanentError(f"there is no process {pid}") from error
        except PermissionError as error:
            raise PermanentError(
                f"the kernel does not let us look at process {pid}", _MAY_NOT.format(pid=pid)
            ) from error
        opened.callback(os.close, holder.task_fd)
        yield holder


def _require_ordinary(pid: int, proc_fd: int) -> None:
    """Refuse what has no memory of its own."""
    status = read_small(proc_fd, "status")
    leader = int(status_field(status, b"Tgid:")[0])
    if leader != pid:
        raise PermanentError(
            f"{pid} is a thread of process {leader}", f"Try: stillframe snapshot {leader}"
        )
    if status_field(status, b"State:")[0] in (b"Z", b"X"):
        parent = int(status_field(status, b"PPid:")[0])
        raise PermanentError(
            f"process {pid} is dead already: it is a zombie that process {parent} has not reaped"
        )
    try:
        status_field(status, b"VmSize:")
    except InvalidInputError as error:
        raise PermanentError(f"process {pid} is a kernel thread: it has no memory") from error
    tracer = int(status_field(status, b"TracerPid:")[0])
    if tracer:
        raise PermanentError(
            f"process {pid} is being traced by process {tracer}, a debugger or strace perhaps",
            "Let that detach first: the kernel allows one tracer.",
        )
