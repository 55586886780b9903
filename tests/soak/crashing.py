"""Crashes by the dozen: processes that die in pods that come and go.

Flows in: cases.  Flows out: `Crash`es, each with its exit status and with what
the library said it wrote.
"""

import argparse
import os
import random
import re
import resource
import select
import signal
import subprocess
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from tests.integration.agent.node import CRASHERS, Node, Pod

AT_ONCE = 64
PODS = 8
"""At once."""
CRASHES_OF_POD = 40
"""Then a new pod takes its place: an agent captures 60 of one without a pause."""
HANG_SECONDS = 60.0
ERRNO_FULL = "24"
_SAID = re.compile(r"^stillframe: .*?(?:, wrote \S+|no snapshot: errno (?P<errno>\d+))", re.M)


@dataclass(frozen=True, order=True)
class Case:
    """One way to die, in one kind of process."""

    way: str
    libc: str
    init: bool

    def __str__(self) -> str:
        return f"{self.way} ({self.libc}{', pid 1' if self.init else ''})"


@dataclass
class Crash:
    """One process, from its start to its end."""

    name: str
    """What the kernel calls it."""
    case: Case
    pod: Pod
    library: bool
    stderr: Path
    process: subprocess.Popen[str] | None = None
    deadline: float = 0.0
    status: int | None = None
    """As `subprocess`; None: it hung."""
    errors: list[str] = field(default_factory=list)
    """errno, as text, of each snapshot that could not be written."""
    written: int = 0
    """Snapshots."""


class Stage:
    """Starts crashers and waits for their ends."""

    def __init__(self, node: Node, **variables: object) -> None:
        """``variables`` are for the environment of each."""
        self._variables = variables
        self._directory = node.directory / "crashers"
        self._directory.mkdir()
        self._count = 0

    def crash(self, case: Case, pod: Pod, library: bool) -> Crash:
        """A crash that has not been started."""
        name = f"c{self._count:08}"
        self._count += 1
        (self._directory / name).symlink_to(CRASHERS / case.libc / "crasher")
        return Crash(name, case, pod, library, self._directory / f"{name}.err")

    def run(
        self,
        crashes: Iterable[Crash],
        ended: Callable[[Crash], None],
        due: Callable[[], float] = lambda: HANG_SECONDS,
    ) -> None:
        """Run them, `AT_ONCE` at a time.

        ``due`` is called between them, does what is due and returns the
        seconds until the next time.
        """
        waiting = iter(crashes)
        running: dict[int, Crash] = {}
        poll = select.poll()
        exhausted = False
        while running or not exhausted:
            while len(running) < AT_ONCE and not exhausted:
                if (crash := next(waiting, None)) is None:
                    exhausted = True
                    break
                fd = self._start(crash)
                running[fd] = crash
                poll.register(fd, select.POLLIN)
            first = min((crash.deadline for crash in running.values()), default=0.0)
            seconds = min(due(), max(0.0, first - time.monotonic()))
            ready = {fd for fd, _ in poll.poll(seconds * 1000 + 1)}
            now = time.monotonic()
            for fd, crash in list(running.items()):
                if fd not in ready and now < crash.deadline:
                    continue
                poll.unregister(fd)
                os.close(fd)
                del running[fd]
                self._end(crash, hung=fd not in ready)
                ended(crash)

    def _start(self, crash: Crash) -> int:
        with crash.stderr.open("w") as stderr:
            crash.process = crash.pod.start(
                self._directory / crash.name,
                crash.case.way,
                init=crash.case.init,
                preload=crash.library,
                stderr=stderr,
                STILLFRAME_DEBUG=1,
                **self._variables,
            )
        crash.deadline = time.monotonic() + HANG_SECONDS
        return os.pidfd_open(crash.process.pid)

    def _end(self, crash: Crash, hung: bool) -> None:
        assert crash.process is not None
        if hung:
            crash.process.kill()
            _kill_children(crash)
        status = crash.process.wait()
        assert crash.process.stdout is not None
        crash.process.stdout.close()
        crash.status = None if hung else status
        said = list(_SAID.finditer(crash.stderr.read_text(errors="replace")))
        crash.errors = [match["errno"] for match in said if match["errno"]]
        crash.written = len(said) - len(crash.errors)
        crash.stderr.unlink()
        (self._directory / crash.name).unlink()


def _kill_children(crash: Crash) -> None:
    """What it forked has its name."""
    for pid in (crash.pod.cgroup / "cgroup.procs").read_text().split():
        with suppress(FileNotFoundError, ProcessLookupError):
            if Path(f"/proc/{pid}/comm").read_text().rstrip() == crash.name:
                os.kill(int(pid), signal.SIGKILL)


class Pods:
    """The pods of the node; each takes a number of crashes and goes when they are reported."""

    def __init__(self, node: Node, chance: random.Random) -> None:
        self._node = node
        self._chance = chance
        self._current: list[Pod] = []
        self._left: Counter[str] = Counter()
        self._busy: Counter[str] = Counter()
        self._leaving: list[Pod] = []
        self._marked: set[str] = set()
        self.all: dict[str, Pod] = {}

    def take(self) -> Pod:
        """A pod for one more crash."""
        while len(self._current) < PODS:
            number = len(self.all)
            pod = Pod(self._node, namespace=f"shop-{number % 3}", name=f"cart-{number}").set_up()
            self.all[pod.uid] = pod
            self._left[pod.uid] = CRASHES_OF_POD
            self._current.append(pod)
        pod = self._chance.choice(self._current)
        self._left[pod.uid] -= 1
        self._busy[pod.uid] += 1
        if self._left[pod.uid] == 0:
            self._current.remove(pod)
            self._leaving.append(pod)
        return pod

    def ended(self, pod: Pod) -> None:
        """One of its crashes is over; take down the pods that are done."""
        self._busy[pod.uid] -= 1
        self._leaving = [pod for pod in self._leaving if not self._gone(pod)]

    def _gone(self, pod: Pod) -> bool:
        if pod.uid in self._marked:
            return pod.unmount()
        if self._busy[pod.uid] or pod.names():
            return False
        self._marked.add(pod.uid)
        return pod.tear_down()


def show(faults: Mapping[str, list[str]]) -> None:
    """Print how many there are of each kind, and the first ones."""
    for title, found in faults.items():
        print(f"{len(found)} {title}")
        for line in found[:20]:
            print(f"    {line}")


def command(doc: str, crashes: int, run: Callable[[int, int, Path], bool]) -> int:
    """Parse the command line of a program and ``run`` it: crashes, seed, directory; exit status."""
    parser = argparse.ArgumentParser(description=doc.partition("\n")[0])
    parser.add_argument("--crashes", type=int, default=crashes)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(1 << 32))
    arguments = parser.parse_args()
    print(f"SEED={arguments.seed}", flush=True)
    # The kernel's own cores are no part of it.
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    with tempfile.TemporaryDirectory(prefix="stillframe-soak-") as directory:
        return 0 if run(arguments.crashes, arguments.seed, Path(directory)) else 1
