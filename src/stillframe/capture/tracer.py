"""The tracer: a process of its own that takes one full core and goes.

``python -m stillframe.capture.tracer`` is started by `fullcore` and speaks
`corejob` with it.  Whatever happens to this process, the
kernel lets the traced threads go on when it ends.

Memory is read by a child of ours, the reader: should a page make it hang, in a
state that not even SIGKILL ends, we can still let the threads go.
"""

import ctypes
import mmap
import os
import select
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from typing import Final, NoReturn

import msgspec

from stillframe.capture.coredump import Bounds, Source, dump
from stillframe.capture.corejob import GRACE_SECONDS, Dumped, Job, Outcome
from stillframe.capture.pages import (
    DEFAULT_FILTER,
    Mapping,
    PageTables,
    parse_smaps,
    shared_memory_device,
)
from stillframe.capture.ptrace import KernelPtrace, Ptrace, Threads, detach_all, stop_all
from stillframe.capture.threadnotes import REGSETS, Registers, core_notes
from stillframe.corefile import CoreFile
from stillframe.corefile.elf import Machine
from stillframe.corefile.notes import NT_PRSTATUS
from stillframe.errors import InvalidInputError, StillframeError
from stillframe.names import LIBRARY_FILE

STOP_SECONDS: Final = 0.25
"""For all threads to stop; 1,000 threads took 25 ms, and those inside vfork never do."""
PR_SET_PDEATHSIG: Final = 1
_SMALL: Final = 64 << 10


class RefusedError(StillframeError):
    """There will be no full core of this process."""


def take(job: Job, ptrace: Ptrace) -> Outcome:
    """Stop the process, let the reader read it, let it go."""
    try:
        snapshot = CoreFile.from_bytes(mmap.mmap(job.snapshot_fd, 0, access=mmap.ACCESS_READ))
        source = _source(job)
        _require_ours(job, source)
        threads = _stop(job, ptrace)
    except (StillframeError, OSError, ValueError) as error:
        return Outcome(refused=_one_line(error))
    try:
        notes = _notes(job, ptrace, snapshot, threads)
        bounds = Bounds(deadline=job.deadline, max_bytes=job.max_bytes)
        dumped, problem = _read_apart(
            job, lambda: dump(source, snapshot, notes, job.core_fd, bounds)
        )
    finally:
        detach_all(ptrace, threads)
    return Outcome(dumped=dumped, refused=problem, missed=tuple(sorted(threads.missed)))


def main() -> None:
    """Take the one job on standard input."""
    line = _read_line(sys.stdin.fileno())
    job = msgspec.json.decode(line, type=Job)
    outcome = take(job, KernelPtrace())
    with suppress(BrokenPipeError):
        os.write(sys.stdout.fileno(), msgspec.json.encode(outcome) + b"\n")


def _source(job: Job) -> Source:
    def mappings() -> Iterator[Mapping]:
        with open(_open(job.task_fd, "smaps"), "rb") as file:
            yield from parse_smaps(file)

    return Source(
        # Bound to the memory as it is now: after exec or death it reads nothing.
        mem_fd=_open(job.task_fd, "mem"),
        tables=PageTables(_open(job.task_fd, "pagemap")),
        mappings=mappings,
        filter=_filter(job.proc_fd),
        shared_memory=shared_memory_device(),
    )


def _require_ours(job: Job, source: Source) -> None:
    """Refuse a process whose memory its own user may not have, or that never loaded us.

    A snapshot's lock survives exec: the holder may have become a setuid program
    by now.  The owner of files in /proc is root unless the process is dumpable
    (proc(5)), and such a program loads no library of ours.
    """
    owner = os.stat("mem", dir_fd=job.task_fd).st_uid
    status = _small(job.task_fd, "status")
    uids = {int(uid) for uid in _field(status, b"Uid:")}
    if uids != {owner}:
        raise RefusedError("the process is not dumpable, or runs with several user ids")
    tracer = int(_field(status, b"TracerPid:")[0])
    if tracer:
        raise RefusedError(f"process {tracer} traces it already, a debugger for example")
    if not any(m.path.rpartition("/")[2] == LIBRARY_FILE for m in source.mappings()):
        raise RefusedError("the process has not mapped our library")


def _stop(job: Job, ptrace: Ptrace) -> Threads:
    seconds = max(0.0, min(STOP_SECONDS, job.deadline - time.monotonic()))
    try:
        return stop_all(ptrace, lambda: _tids(job.proc_fd), seconds)
    except PermissionError as error:
        raise RefusedError(
            "the kernel does not let us trace it: it has a tracer, or Yama or another "
            "security module forbids"
        ) from error


def _notes(
    job: Job, ptrace: Ptrace, snapshot: CoreFile, threads: Threads
) -> Callable[[bool], bytes]:
    """All notes of the core, given whether it is truncated."""
    return partial(
        core_notes,
        tuple(snapshot.records()),
        _not_in_snapshot(job, ptrace, snapshot, threads),
        snapshot.machine,
        bool(threads.missed),
    )


def _not_in_snapshot(
    job: Job, ptrace: Ptrace, snapshot: CoreFile, threads: Threads
) -> list[Registers]:
    known = {thread.tid for thread in snapshot.threads}
    found = []
    for tid in threads.stopped:
        with suppress(OSError):  # killed meanwhile
            inner = _inner_tid(job.proc_fd, tid)
            if inner not in known:
                found.append(Registers(inner, _regsets(ptrace, tid, snapshot.machine)))
    return found


def _regsets(ptrace: Ptrace, tid: int, machine: Machine) -> dict[int, bytes]:
    sets = {NT_PRSTATUS: ptrace.registers(tid, NT_PRSTATUS)}
    for _owner, kind in REGSETS[machine]:
        with suppress(OSError):  # not on this processor
            sets[kind] = ptrace.registers(tid, kind)
    return sets


def _read_apart(job: Job, dump_: Callable[[], Dumped]) -> tuple[Dumped | None, str]:
    """Dump in a child; what it says, or why it says nothing."""
    answer_fd, child_fd = os.pipe()
    parent = os.getpid()
    reader = os.fork()  # one thread, nothing locked: a plain fork is enough
    if reader == 0:
        _read(dump_, child_fd, parent)
    os.close(child_fd)
    try:
        return _answer(answer_fd, job.deadline + GRACE_SECONDS)
    finally:
        # Not waited for: one that hangs would make us hang. It is init's when we are gone.
        os.kill(reader, signal.SIGKILL)
        os.close(answer_fd)


def _read(dump_: Callable[[], Dumped], answer_fd: int, parent: int) -> NoReturn:
    """The reader: answers in one write and never returns."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:
        os._exit(1)
    try:
        outcome = Outcome(dumped=dump_())
    except BaseException as error:  # the last words of this process
        outcome = Outcome(refused=_one_line(error))
    os.write(answer_fd, msgspec.json.encode(outcome))
    os._exit(0)


def _answer(fd: int, deadline: float) -> tuple[Dumped | None, str]:
    poll = select.poll()
    poll.register(fd, select.POLLIN)
    # The job has been read: this pipe can only end.
    poll.register(sys.stdin.fileno(), 0)
    ready = dict(poll.poll(max(0.0, deadline - time.monotonic()) * 1000))
    if fd not in ready:
        why = "nobody waits for it any more" if ready else "reading the memory hung"
        return None, why
    answer = os.read(fd, _SMALL)
    if not answer:
        return None, "the reader was killed"
    outcome = msgspec.json.decode(answer, type=Outcome)
    return outcome.dumped, outcome.refused


def _filter(proc_fd: int) -> int:
    try:
        return int(_small(proc_fd, "coredump_filter"), 16)
    except (OSError, ValueError):
        return DEFAULT_FILTER  # the leader is a zombie


def _inner_tid(proc_fd: int, tid: int) -> int:
    fd = os.open(f"task/{tid}", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=proc_fd)
    try:
        return int(_field(_small(fd, "status"), b"NSpid:")[-1])
    finally:
        os.close(fd)


def _tids(proc_fd: int) -> list[int]:
    fd = _open(proc_fd, "task")
    try:
        return [int(name) for name in os.listdir(fd)]  # noqa: PTH208 -- a descriptor
    finally:
        os.close(fd)


def _field(status: bytes, name: bytes) -> list[bytes]:
    for line in status.splitlines():
        if line.startswith(name):
            return line.split()[1:]
    raise InvalidInputError("NotStatus", f"no {name.decode()} in a status file")


def _small(directory_fd: int, name: str) -> bytes:
    fd = _open(directory_fd, name)
    try:
        return os.read(fd, _SMALL)
    finally:
        os.close(fd)


def _open(directory_fd: int, name: str) -> int:
    return os.open(name, os.O_RDONLY | os.O_CLOEXEC, dir_fd=directory_fd)


def _read_line(fd: int) -> bytes:
    line = b""
    while not line.endswith(b"\n"):
        part = os.read(fd, _SMALL)
        if not part:
            raise SystemExit(1)
        line += part
    return line


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split()) or type(error).__name__


if __name__ == "__main__":
    main()
