"""The library and the crashers, built once; a fresh hand-over directory for each test."""

import os
import re
import signal
import subprocess
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.integration.preload.snapshot import Snapshot

ROOT = Path(__file__).parents[3]
LIBRARY = ROOT / "build/preload/x86_64/libstillframe.so"
COPIER = ROOT / "build/preload/x86_64/stillframe-copy"
CRASHERS = ROOT / "build/crashers"
SECONDS = 30
"""Longest a crasher may run."""

NO_CORE = ("prlimit", "--core=0")
AS_INIT = ("unshare", "--pid", "--fork", "--kill-child", "--mount-proc")
"""Makes the command pid 1 of a pid namespace, as in a container; relays its death."""


@dataclass(frozen=True)
class Outcome:
    status: int
    """As `subprocess`: negative for a signal."""
    stderr: str
    snapshots: list[Snapshot] = field(default_factory=list)

    @property
    def snapshot(self) -> Snapshot:
        (only,) = self.snapshots
        return only


@dataclass(frozen=True)
class Stage:
    """Runs crashers whose snapshots land in ``directory``."""

    directory: Path
    note_dump: Path
    library: Path = LIBRARY

    def environment(self, **variables: str) -> dict[str, str]:
        return {
            **{k: v for k, v in os.environ.items() if not k.startswith("STILLFRAME_")},
            "STILLFRAME_DIR": str(self.directory),
            **{f"STILLFRAME_{name}": value for name, value in variables.items()},
        }

    def command(self, libc: str, way: str, *arguments: str, library: bool, init: bool) -> list[str]:
        """`env` right before the crasher: only the crasher is preloaded."""
        preload = [f"LD_PRELOAD={self.library}"] if library else []
        crasher = [str(crasher_of(libc)), way, *arguments]
        return [*NO_CORE, *(AS_INIT if init else ()), "env", *preload, *crasher]

    def start(
        self,
        libc: str,
        way: str,
        *arguments: str,
        library: bool = True,
        init: bool = False,
        **variables: str,
    ) -> subprocess.Popen[str]:
        return subprocess.Popen(
            self.command(libc, way, *arguments, library=library, init=init),
            env=self.environment(**variables),
            stderr=subprocess.PIPE,
            text=True,
        )

    def finish(self, process: subprocess.Popen[str], libc: str = "glibc") -> Outcome:
        try:
            _, stderr = process.communicate(timeout=SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            raise
        return Outcome(process.returncode, stderr, self.snapshots(libc))

    def run(self, libc: str, way: str, *arguments: str, **options: object) -> Outcome:
        return self.finish(self.start(libc, way, *arguments, **options), libc)  # type: ignore[arg-type]

    def system_calls(self, libc: str, way: str, *arguments: str, library: bool) -> Counter[str]:
        """How often each system call is made, by name, in a run that survives."""
        trace = subprocess.run(
            [
                *("strace", "-f", "-c", "-U", "name,calls"),
                *self.command(libc, way, *arguments, library=library, init=False),
            ],
            env=self.environment(),
            capture_output=True,
            text=True,
            check=True,
            timeout=60,
        ).stderr
        lines = re.findall(r"^(\w+) +(\d+)$", trace, re.MULTILINE)
        return Counter({name: int(calls) for name, calls in lines if name != "total"})

    def snapshots(self, libc: str) -> list[Snapshot]:
        return [
            Snapshot(path, self.note_dump, crasher_of(libc))
            for path in sorted(self.directory.glob("*.core"))
        ]

    def leftovers(self) -> list[str]:
        """Names that are no complete snapshot."""
        return [path.name for path in self.directory.glob("*") if path.suffix != ".core"]

    def clear(self) -> None:
        for path in self.directory.glob("*"):
            path.unlink()


def crasher_of(libc: str) -> Path:
    return CRASHERS / libc / "crasher"


def make(directory: Path, *variables: str) -> None:
    command = ["make", "-s", "-C", directory, *variables]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)


@pytest.fixture(scope="session")
def note_dump(tmp_path_factory: pytest.TempPathFactory) -> Path:
    make(ROOT / "preload", "ARCH=x86_64")
    make(ROOT / "preload", "ARCH=aarch64")
    make(ROOT / "tests/crashers")
    program = tmp_path_factory.mktemp("note") / "note_dump"
    source = Path(__file__).with_name("note_dump.c")
    subprocess.run(["gcc", "-I", ROOT / "preload/src", "-o", program, source], check=True)
    return program


@pytest.fixture
def stage(tmp_path: Path, note_dump: Path) -> Stage:
    directory = tmp_path / "stillframe"
    directory.mkdir()
    return Stage(directory, note_dump)


@pytest.fixture
def spawn() -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Starts helper processes that end with the test."""
    started: list[subprocess.Popen[str]] = []

    def start(*command: object) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [str(part) for part in command],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        started.append(process)
        return process

    yield start
    for process in started:
        process.send_signal(signal.SIGKILL)
        process.communicate()
