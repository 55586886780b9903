"""ptrace(2): stopping every thread of a process, reading registers, letting go.

`Ptrace` is all that the kernel can do to us here, and tests have a fake of it.
Calls are bound to the thread that seized, so a tracer is a process of its own
(`tracer`), which also keeps its stops out of everybody else's ``waitpid``.
"""

import ctypes
import os
import signal
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Protocol

PTRACE_DETACH: Final = 17
PTRACE_GETREGSET: Final = 0x4204
PTRACE_SEIZE: Final = 0x4206
PTRACE_INTERRUPT: Final = 0x4207
PTRACE_EVENT_STOP: Final = 128
WALL: Final = 0x40000000
"""``__WALL``: threads too."""
MAX_REGSET: Final = 16 << 10
"""Bytes; AMX tiles make the largest ``NT_X86_XSTATE``, about 11 KiB."""
POLL_FIRST: Final = 0.0001
POLL_MOST: Final = 0.002
"""Seconds between two looks at threads that have not stopped."""

_libc = ctypes.CDLL(None, use_errno=True)
_libc.ptrace.restype = ctypes.c_long
_libc.ptrace.argtypes = (ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p)


class Ptrace(Protocol):
    """The calls, each about one thread; `OSError` with the kernel's errno."""

    def seize(self, tid: int) -> None:
        """Become its tracer without stopping it."""

    def interrupt(self, tid: int) -> None:
        """Ask it to stop."""

    def stopped(self, tid: int) -> int | None:
        """None while it runs; else the signal it stopped for and must get on detaching, or 0."""

    def registers(self, tid: int, kind: int) -> bytes:
        """A register set of a stopped thread; ``kind`` is the type of its note."""

    def detach(self, tid: int, signal_: int) -> None:
        """Let it go on, with a signal or with 0."""


class KernelPtrace:
    """`Ptrace` for real; all calls from one thread."""

    def seize(self, tid: int) -> None:
        """See `Ptrace`; `ProcessLookupError` also for a zombie, which the kernel calls EPERM."""
        try:
            _ptrace(PTRACE_SEIZE, tid)
        except PermissionError:
            state = Path(f"/proc/{tid}/stat").read_bytes().rpartition(b")")[2].split()[0]
            if state in (b"Z", b"X"):
                raise ProcessLookupError from None
            raise

    def interrupt(self, tid: int) -> None:
        """See `Ptrace`."""
        _ptrace(PTRACE_INTERRUPT, tid)

    def stopped(self, tid: int) -> int | None:
        """See `Ptrace`; `ProcessLookupError` when it ended instead."""
        pid, status = os.waitpid(tid, os.WNOHANG | WALL)
        if pid == 0:
            return None
        if not os.WIFSTOPPED(status):
            raise ProcessLookupError
        # A group stop is an event stop, too: only a signal's own stop must be answered with it.
        return 0 if status >> 16 == PTRACE_EVENT_STOP else os.WSTOPSIG(status)

    def registers(self, tid: int, kind: int) -> bytes:
        """See `Ptrace`."""
        buffer = ctypes.create_string_buffer(MAX_REGSET)
        vector = (ctypes.c_size_t * 2)(ctypes.addressof(buffer), MAX_REGSET)
        _ptrace(PTRACE_GETREGSET, tid, kind, ctypes.addressof(vector))
        return buffer.raw[: vector[1]]

    def detach(self, tid: int, signal_: int) -> None:
        """See `Ptrace`."""
        _ptrace(PTRACE_DETACH, tid, 0, signal_)


@dataclass(slots=True)
class Threads:
    """The threads of a seized process."""

    stopped: dict[int, int] = field(default_factory=dict)
    """By tid, the signal that it is due."""
    missed: set[int] = field(default_factory=set)
    """Did not stop in time: inside ``vfork``, say, or in an uninterruptible call."""


def stop_all(
    ptrace: Ptrace,
    list_tids: Callable[[], Iterable[int]],
    seconds: float,
    *,
    clock: Callable[[], float] = time.monotonic,
    pause: Callable[[float], None] = time.sleep,
) -> Threads:
    """Stop every thread that stops within ``seconds``.

    The list is read again until it holds nothing new: a thread that still runs
    can start another.  Raises `PermissionError` when a thread cannot be seized,
    most often because it has a tracer; all others are let go then.
    """
    threads = Threads()
    seen: set[int] = set()
    deadline = clock() + seconds
    try:
        wait = POLL_FIRST
        while True:
            new = set(list_tids()) - seen
            seen |= new  # a zombie stays in the list
            for tid in sorted(new):
                _seize(ptrace, tid, threads)
            _collect(ptrace, threads)
            if (not threads.missed and not new) or clock() > deadline:
                return threads
            if threads.missed:
                pause(wait)
                wait = min(wait * 2, POLL_MOST)
    except PermissionError:
        detach_all(ptrace, threads)
        raise


def detach_all(ptrace: Ptrace, threads: Threads) -> None:
    """Let every stopped thread go on; those that run are let go by our exit."""
    for tid, due in threads.stopped.items():
        try:
            ptrace.detach(tid, due)
        except ProcessLookupError:
            continue  # killed meanwhile
    threads.stopped.clear()


def _seize(ptrace: Ptrace, tid: int, threads: Threads) -> None:
    try:
        ptrace.seize(tid)
        ptrace.interrupt(tid)
    except ProcessLookupError:
        return  # ended between the list and here
    threads.missed.add(tid)


def _collect(ptrace: Ptrace, threads: Threads) -> None:
    """Move the threads that have stopped, and forget those that ended."""
    for tid in list(threads.missed):
        try:
            due = ptrace.stopped(tid)
        except (ProcessLookupError, ChildProcessError):
            threads.missed.discard(tid)
            continue
        if due is not None:
            threads.missed.discard(tid)
            threads.stopped[tid] = 0 if due == signal.SIGTRAP else due


def _ptrace(request: int, tid: int, address: int = 0, data: int = 0) -> None:
    if _libc.ptrace(request, tid, address, data) < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), f"thread {tid}")
