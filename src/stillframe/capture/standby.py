"""Tracers: processes of `tracer` that wait for their job, and one that has started before.

To start one takes longer than to copy a small process: the interpreter and its
imports are 65 ms on an idle machine and several times that on a busy one, while
a process is held.  So a `Standby` keeps one ready.  It inherits nothing but its
socket, which a claim is not; it ends when the socket does, that is with us.
"""

import os
import select
import socket
import subprocess
import sys
import threading
import time
from types import TracebackType
from typing import Final, Self

import msgspec

from stillframe.capture.corejob import Descriptors, Job, Outcome

_ANSWER_BYTES: Final = 1 << 20
_PART: Final = 64 << 10


class Tracer:
    """One started tracer, for one job; leaving it ends the process, and so lets all threads go."""

    def __init__(self) -> None:
        """Raises `OSError` when no process can be started."""
        self._socket, theirs = socket.socketpair()
        with theirs:
            try:
                self._process = subprocess.Popen(
                    [sys.executable, "-s", "-P", "-m", "stillframe.capture.tracer"],
                    stdin=theirs.fileno(),
                    stdout=subprocess.DEVNULL,
                    stderr=subprocess.DEVNULL,
                    env={"PYTHONPATH": os.pathsep.join(path for path in sys.path if path)},
                    cwd="/",
                )
            except OSError:
                self._socket.close()
                raise

    @property
    def pid(self) -> int:
        """Of its process."""
        return self._process.pid

    def alive(self) -> bool:
        """Whether it can be given a job."""
        return self._process.poll() is None

    def run(self, job: Job, descriptors: Descriptors, deadline: float) -> Outcome:
        """Have a core taken; waits until ``deadline`` at most, seconds on the monotonic clock.

        Raises `OSError` and `msgspec.MsgspecError` when the tracer is broken.
        """
        line = msgspec.json.encode(job) + b"\n"
        socket.send_fds(self._socket, [line], descriptors.present())
        answer = self._line(deadline)
        if not answer:
            return Outcome(refused="the tracer died or hung")
        return msgspec.json.decode(answer, type=Outcome)

    def close(self) -> None:
        """End it: the kernel lets its threads go then."""
        self._process.kill()
        self._socket.close()
        self._process.wait()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _line(self, deadline: float) -> bytes:
        poll = select.poll()
        poll.register(self._socket, select.POLLIN)
        line = b""
        while not line.endswith(b"\n") and len(line) < _ANSWER_BYTES:
            left = deadline - time.monotonic()
            if left <= 0 or not poll.poll(left * 1000):
                return b""
            part = self._socket.recv(_PART)
            if not part:
                return b""
            line += part
        return line


class Standby:
    """At most one tracer that waits; methods may be called from any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._ready: Tracer | None = None

    def prepare(self) -> None:
        """Have one ready for the next core; not to be called while a process is held.

        Ignores a failure: `take` starts one then, and says what is wrong.
        """
        with self._lock:
            if self._ready is not None and self._ready.alive():
                return
            dead, self._ready = self._ready, None
            if dead is not None:
                dead.close()
            try:
                self._ready = Tracer()
            except OSError:
                return

    def take(self) -> Tracer:
        """The one that is ready, or one that is started now; raises `OSError`."""
        with self._lock:
            ready, self._ready = self._ready, None
        if ready is not None and ready.alive():
            return ready
        if ready is not None:
            ready.close()
        return Tracer()

    def close(self) -> None:
        """End the one that waits."""
        with self._lock:
            ready, self._ready = self._ready, None
        if ready is not None:
            ready.close()
