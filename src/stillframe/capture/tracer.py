"""The tracer: a process of its own that takes one full core and goes.

``python -m stillframe.capture.tracer`` is started by `standby` and speaks
`corejob` with it.  Whatever happens to this process, the kernel lets the traced
threads go on when it ends.

Memory is read by a child of ours, the reader: should a page make it hang, in a
state that not even SIGKILL ends, we can still let the threads go.
"""

import array
import mmap
import os
import select
import signal
import socket
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from typing import Final

import msgspec
from msgspec.structs import replace

from stillframe.capture.coredump import dump
from stillframe.capture.corejob import GRACE_SECONDS, Descriptors, Job, Outcome
from stillframe.capture.coreoutput import open_output
from stillframe.capture.coreplan import Bounds, Source
from stillframe.capture.forked import forked
from stillframe.capture.identity import holder_of
from stillframe.capture.livesnapshot import live_notes, live_snapshot, read_facts
from stillframe.capture.onhold import shut_sockets
from stillframe.capture.pages import (
    DEFAULT_FILTER,
    Mapping,
    PageTables,
    parse_smaps,
    shared_memory_device,
)
from stillframe.capture.procfiles import (
    inner_id,
    open_below,
    read_small,
    status_field,
    thread_ids,
)
from stillframe.capture.ptrace import KernelPtrace, Ptrace, Threads, detach_all, stop_all
from stillframe.capture.threadnotes import REGSETS, Registers, core_notes
from stillframe.corefile import CoreFile
from stillframe.corefile.elf import Machine
from stillframe.corefile.notes import NT_PRSTATUS
from stillframe.errors import StillframeError, one_line
from stillframe.names import LIBRARY_FILE

STOP_SECONDS: Final = 0.25
"""For all threads to stop; 1,000 threads took 25 ms, and those inside vfork never do."""
SHUT_SECONDS: Final = 1.0
"""For the sockets, before the memory; 1,000 processes with 57 descriptors each took 0.3 s."""
SHUT_SHARE: Final = 0.25
"""Of what is left of a short hold for both."""
SHUT_GRACE_SECONDS: Final = 0.1
"""Then shutting them down counts as hanging."""
_MESSAGE: Final = 64 << 10
Contents = Callable[[], tuple[CoreFile, Callable[[bool], bytes]]]
"""What of a core is no live memory: a snapshot, and all notes, given whether it is truncated.
Called in the reader."""


class RefusedError(StillframeError):
    """There will be no full core of this process."""


def take(job: Job, fds: Descriptors, ptrace: Ptrace) -> Outcome:
    """Stop the process, let the reader read it, let it go."""
    try:
        source = _source(fds)
        _require_no_tracer(fds)
        snapshot = _snapshot(fds)
        threads = _stop(job, fds, ptrace)
    except (StillframeError, OSError, ValueError) as error:
        return Outcome(refused=one_line(error))
    bounds = Bounds(deadline=job.deadline, max_bytes=job.max_bytes)
    file = partial(open_output, job.compression, fds.core_fd, bounds)
    sockets = ""
    try:
        if job.shut_sockets:
            sockets = _shut_sockets(job, fds)
        contents = (
            _live(fds, ptrace, source, threads)
            if snapshot is None
            else _crashed(fds, ptrace, snapshot, threads)
        )

        def read() -> Outcome:
            return Outcome(dumped=dump(source, *contents(), file, bounds))

        read_ = _apart(read, job.deadline + GRACE_SECONDS, "reading the memory")
    except (StillframeError, OSError) as error:
        return Outcome(refused=one_line(error), sockets=sockets)
    finally:
        detach_all(ptrace, threads)
    return replace(read_, missed=tuple(sorted(threads.missed)), sockets=sockets)


def main() -> None:
    """Take the one job that comes through standard input."""
    with socket.socket(fileno=os.dup(sys.stdin.fileno())) as caller:
        job, fds = _receive(caller)
        outcome = take(job, fds, KernelPtrace())
        with suppress(BrokenPipeError):
            caller.sendall(msgspec.json.encode(outcome) + b"\n")


def _receive(caller: socket.socket) -> tuple[Job, Descriptors]:
    """The job; exits when none comes any more."""
    line, fds = b"", array.array("i")
    while not line.endswith(b"\n"):
        part, new, _flags, _address = socket.recv_fds(caller, _MESSAGE, len(Descriptors._fields))
        if not part:
            raise SystemExit(1)
        line += part
        fds.extend(new)
    return msgspec.json.decode(line, type=Job), Descriptors(*fds)


def _source(fds: Descriptors) -> Source:
    def mappings() -> Iterator[Mapping]:
        with os.fdopen(open_below(fds.task_fd, "smaps"), "rb") as file:
            yield from parse_smaps(file)

    return Source(
        # Bound to the memory as it is now: after exec or death it reads nothing.
        mem_fd=open_below(fds.task_fd, "mem"),
        tables=PageTables(open_below(fds.task_fd, "pagemap")),
        mappings=mappings,
        filter=_filter(fds.proc_fd),
        shared_memory=shared_memory_device(),
    )


def _require_no_tracer(fds: Descriptors) -> None:
    tracer = int(status_field(read_small(fds.task_fd, "status"), b"TracerPid:")[0])
    if tracer:
        raise RefusedError(f"process {tracer} traces it already, a debugger for example")


def _snapshot(fds: Descriptors) -> CoreFile | None:
    """The snapshot of a crashed process; refuses a process that cannot have written it.

    Its memory must be its own user's, and have our library: a snapshot's lock
    survives exec, so the holder may have become a setuid program by now.  The
    owner of files in /proc is root unless the process is dumpable (proc(5)),
    and such a program loads no library of ours.
    """
    if fds.snapshot_fd is None:
        return None
    owner = os.stat("mem", dir_fd=fds.task_fd).st_uid
    uids = {int(uid) for uid in status_field(read_small(fds.task_fd, "status"), b"Uid:")}
    if uids != {owner}:
        raise RefusedError("the process is not dumpable, or runs with several user ids")
    if not _maps_library(fds):
        raise RefusedError("the process has not mapped our library")
    return CoreFile.from_bytes(mmap.mmap(fds.snapshot_fd, 0, access=mmap.ACCESS_READ))


def _maps_library(fds: Descriptors) -> bool:
    """Looked up in ``maps``: ``smaps`` counts every page, 15 ms per GiB."""
    name = b"/" + os.fsencode(LIBRARY_FILE)
    with os.fdopen(open_below(fds.task_fd, "maps"), "rb") as file:
        return any(line.rstrip(b"\n").endswith(name) for line in file)


def _stop(job: Job, fds: Descriptors, ptrace: Ptrace) -> Threads:
    seconds = max(0.0, min(STOP_SECONDS, job.deadline - time.monotonic()))
    try:
        return stop_all(ptrace, lambda: thread_ids(fds.proc_fd), seconds)
    except PermissionError as error:
        raise RefusedError(
            "the kernel does not let us trace it: it has a tracer, or Yama or another "
            "security module forbids"
        ) from error


def _crashed(fds: Descriptors, ptrace: Ptrace, snapshot: CoreFile, threads: Threads) -> Contents:
    """A crashed process: the library saw the threads where the crash found them."""
    known = {thread.tid for thread in snapshot.threads}
    others = [
        registers
        for registers in _registers(fds, ptrace, threads, snapshot.machine)
        if registers.tid not in known
    ]
    notes = partial(
        core_notes,
        tuple(snapshot.records()),
        others,
        snapshot.machine,
        bool(threads.missed),
    )
    return lambda: (snapshot, notes)


def _live(fds: Descriptors, ptrace: Ptrace, source: Source, threads: Threads) -> Contents:
    """A process that lives: its registers are where its threads are."""
    facts = read_facts(fds.task_fd)
    registers = _registers(fds, ptrace, threads, facts.machine)
    mappings = tuple(source.mappings())
    notes = live_notes(facts, registers, mappings)
    return lambda: (
        live_snapshot(facts, registers, mappings, notes, source),
        lambda _truncated: notes,
    )


def _registers(
    fds: Descriptors, ptrace: Ptrace, threads: Threads, machine: Machine
) -> list[Registers]:
    found = []
    for tid in sorted(threads.stopped):
        with suppress(OSError):  # killed meanwhile
            found.append(Registers(inner_id(fds.proc_fd, tid), _regsets(ptrace, tid, machine)))
    return found


def _regsets(ptrace: Ptrace, tid: int, machine: Machine) -> dict[int, bytes]:
    sets = {NT_PRSTATUS: ptrace.registers(tid, NT_PRSTATUS)}
    for _owner, kind in REGSETS[machine]:
        with suppress(OSError):  # not on this processor
            sets[kind] = ptrace.registers(tid, kind)
    return sets


def _shut_sockets(job: Job, fds: Descriptors) -> str:
    """What became of the sockets; in a child, for a socket that its owner uses can hang us."""
    assert fds.pidfd is not None
    assert fds.lock_fd is not None
    now = time.monotonic()
    deadline = now + min(SHUT_SECONDS, max(0.0, job.deadline - now) * SHUT_SHARE)
    work = "shutting its sockets down"
    try:
        pid, tid = (
            int(status_field(read_small(fd, "status"), b"Pid:")[0])
            for fd in (fds.proc_fd, fds.task_fd)
        )
        shut = partial(
            shut_sockets, holder_of(pid, tid, fds.pidfd, fds.proc_fd), fds.lock_fd, deadline
        )
        outcome = _apart(lambda: Outcome(sockets=shut()), deadline + SHUT_GRACE_SECONDS, work)
    except OSError as error:  # no reason to have no core
        return f"{work} failed: {one_line(error)}"
    finally:
        os.close(fds.lock_fd)  # a reader that hangs must not keep the pod's volume busy
    return outcome.sockets or outcome.refused


def _apart(work: Callable[[], Outcome], deadline: float, what: str) -> Outcome:
    """Done in a child; what it says, or why it says nothing.

    ``deadline`` in seconds on the monotonic clock, ``what`` names the work.
    """
    answer_fd, child_fd = os.pipe()
    child = forked(partial(_work, work, child_fd))
    os.close(child_fd)
    try:
        return _answer(answer_fd, deadline, what)
    finally:
        # Not waited for: one that hangs would make us hang. It is init's when we are gone.
        os.kill(child, signal.SIGKILL)
        os.close(answer_fd)


def _work(work: Callable[[], Outcome], answer_fd: int) -> None:
    """The child: answers in one write."""
    try:
        outcome = work()
    except BaseException as error:  # the last words of this process
        outcome = Outcome(refused=one_line(error))
    os.write(answer_fd, msgspec.json.encode(outcome))


def _answer(fd: int, deadline: float, what: str) -> Outcome:
    poll = select.poll()
    poll.register(fd, select.POLLIN)
    # The job has been read: this socket can only end.
    poll.register(sys.stdin.fileno(), select.POLLRDHUP)
    ready = dict(poll.poll(max(0.0, deadline - time.monotonic()) * 1000))
    if fd not in ready:
        return Outcome(refused="nobody waits for it any more" if ready else f"{what} hung")
    answer = os.read(fd, _MESSAGE)
    if not answer:
        return Outcome(refused=f"the process that was {what} was killed")
    return msgspec.json.decode(answer, type=Outcome)


def _filter(proc_fd: int) -> int:
    try:
        return int(read_small(proc_fd, "coredump_filter"), 16)
    except (OSError, ValueError):
        return DEFAULT_FILTER  # the leader is a zombie


if __name__ == "__main__":
    main()
