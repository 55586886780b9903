"""A kernel that traces as told: the fake beside `stillframe.capture.ptrace.Ptrace`."""

import errno
from dataclasses import dataclass, field


@dataclass
class FakeThread:
    """How one thread behaves."""

    looks: int = 0
    """How often it is looked at before it has stopped; -1: for ever."""
    due: int = 0
    """The signal that it stops for."""
    dead: bool = False
    """It ended before it was seized."""
    dies: bool = False
    """It ends instead of stopping."""
    traced: bool = False
    """It has a tracer."""
    starts: int = 0
    """A thread that it starts before it stops."""


@dataclass
class FakePtrace:
    threads: dict[int, FakeThread]
    seized: list[int] = field(default_factory=list)
    detached: dict[int, int] = field(default_factory=dict)

    def tids(self) -> list[int]:
        return [tid for tid, thread in self.threads.items() if not thread.dead]

    def seize(self, tid: int) -> None:
        thread = self.threads[tid]
        if thread.dead:
            raise ProcessLookupError
        if thread.traced:
            raise PermissionError(errno.EPERM, "Operation not permitted")
        self.seized.append(tid)
        if thread.starts:
            self.threads[thread.starts] = FakeThread()

    def interrupt(self, tid: int) -> None:
        assert tid in self.seized

    def stopped(self, tid: int) -> int | None:
        thread = self.threads[tid]
        if thread.dies:
            thread.dead = True
            raise ProcessLookupError
        if thread.looks:
            thread.looks -= 1
            return None
        return thread.due

    def registers(self, tid: int, kind: int) -> bytes:
        return kind.to_bytes(4, "little") * 54

    def detach(self, tid: int, signal_: int) -> None:
        assert tid in self.seized
        if self.threads[tid].dead:
            raise ProcessLookupError
        self.detached[tid] = signal_
