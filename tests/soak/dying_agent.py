"""The agent as it is, but it dies when it reaches a line: ``dying_agent.py PLAN run``.

PLAN is ``record:WHEN:FILE`` or ``die:WHEN:SOURCE:LINE:N``.  The first writes
down each line of ours that is reached, in order of their first time; the
second kills the process at the N-th time it reaches one.  Both count over all
threads, WHEN ``start``: from the start of the work, or ``signal``: from SIGUSR1.
"""

import os
import signal
import sys
import threading
from pathlib import Path
from types import FrameType
from typing import Any

ROOT = Path(__file__).parents[2]
TRACED = (str(ROOT / "agent/stillframe_agent/"), str(ROOT / "src/stillframe/capture/"))
WORK = "_work"
"""The agent's function with which its work begins."""


class Tracer:
    """Sees every line of ours, in every thread; see `sys.settrace`."""

    def __init__(self, plan: str) -> None:
        kind, self._when, rest = plan.split(":", 2)
        self._record = os.open(rest, os.O_WRONLY | os.O_CREAT, 0o600) if kind == "record" else -1
        self._point, _, times = rest.rpartition(":")
        self._left = int(times) if kind == "die" else 0
        self._seen: set[str] = set()
        self._begun = False
        self._lock = threading.Lock()

    def start(self) -> None:
        signal.signal(signal.SIGUSR1, self._begin)
        threading.settrace(self._call)
        sys.settrace(self._call)

    def _begin(self, *_signal: object) -> None:
        self._begun = True

    def _call(self, frame: FrameType, _event: str, _argument: object) -> Any:
        if not frame.f_code.co_filename.startswith(TRACED):
            return None
        if self._when == "start" and frame.f_code.co_name == WORK:
            self._begun = True
        return self._line if self._begun else None

    def _line(self, frame: FrameType, event: str, _argument: object) -> Any:
        if event == "line":
            source = Path(frame.f_code.co_filename).relative_to(ROOT)
            self._reach(f"{source}:{frame.f_lineno}")
        return self._line

    def _reach(self, point: str) -> None:
        with self._lock:
            if self._record >= 0 and point not in self._seen:
                self._seen.add(point)
                os.write(self._record, f"{point}\n".encode())
            elif point == self._point:
                self._left -= 1
                if self._left == 0:
                    os.kill(os.getpid(), signal.SIGKILL)


def main() -> None:
    Tracer(sys.argv.pop(1)).start()
    # The directory of this file comes first in it, and has names of its own.
    sys.path.pop(0)
    from stillframe_agent.__main__ import main as agent

    agent()


if __name__ == "__main__":
    main()
