"""One command, run without the library and with it, and what must be the same.

The outputs are equal once addresses and the process's id are out of them: they
differ between any two runs.
"""

import os
import re
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from signal import Signals

import pytest

from tests.integration.preload.conftest import LIBRARY, NO_CORE, ROOT, SECONDS, make, note_dump
from tests.integration.preload.snapshot import Snapshot

__all__ = ["note_dump"]

PROGRAMS = ROOT / "build/crashers/runtimes"
"""What the Makefile of `SOURCES` builds."""
SOURCES = ROOT / "tests/crashers/runtimes"
RIP = 16
"""Index of rip in pr_reg (x86_64)."""
OURS = "libstillframe.so"
"""Stands for the library in `Case.preload`."""
ADDRESS = re.compile(r"\b0x[0-9a-f]{8,16}\b")


@dataclass(frozen=True)
class Case:
    """One way of one program, and what is known of it."""

    name: str
    command: tuple[str | Path, ...]
    status: int
    """How it ends without us, as `subprocess` has it: negative for a signal."""
    reports: int
    signal: Signals | None = None
    """What the report is about."""
    address: int | None = None
    """The fault's, in the report."""
    frame: str | None = None
    """A function that the crashing thread's stack shows: innermost after a fault."""
    variables: dict[str, str] = field(default_factory=dict)
    preload: tuple[str | Path, ...] = (OURS,)
    """`OURS` is left out of the run that ours is compared with."""

    def __str__(self) -> str:
        return self.name


def crash(
    name: str,
    *command: str | Path,
    by: Signals,
    status: int | None = None,
    frame: str | None = None,
    address: int | None = None,
    **options: object,
) -> Case:
    """A case with one report; dies of the reported signal where ``status`` says nothing else."""
    status = -by if status is None else status
    return Case(name, command, status, 1, by, address, frame, **options)  # type: ignore[arg-type]


def no_crash(name: str, *command: str | Path, status: int = 0, **options: object) -> Case:
    """A case without a report."""
    return Case(name, command, status, 0, **options)  # type: ignore[arg-type]


@dataclass(frozen=True)
class Run:
    """One run that has ended."""

    pid: int
    status: int
    stdout: str
    stderr: str
    files: dict[str, str]
    """What it left in its working directory, by name without the pid."""
    snapshots: list[Snapshot]

    @property
    def snapshot(self) -> Snapshot:
        (only,) = self.snapshots
        return only

    @cached_property
    def said(self) -> tuple[str, str, set[str]]:
        return self._plain(self.stdout), self._plain(self.stderr), set(self.files)

    def _plain(self, text: str) -> str:
        """Without addresses and its own ids."""
        text = re.sub(rf"(?<!\d){self.pid}(?!\d)", "PID", text)
        return ADDRESS.sub("ADDRESS", text)


@dataclass(frozen=True)
class Stage:
    """Runs cases below ``root``."""

    root: Path
    note_dump: Path

    def run(self, case: Case, *, library: bool) -> Run:
        work, handover = self.root / "work", self.root / "stillframe"
        shutil.rmtree(work, ignore_errors=True)
        for directory in (work, handover):
            directory.mkdir(exist_ok=True)
        process = subprocess.Popen(
            [*NO_CORE, "env", *self._preload(case, library), *map(str, case.command)],
            env={
                "PATH": os.environ["PATH"],
                "HOME": str(self.root),
                "LC_ALL": "C.UTF-8",
                "STILLFRAME_DIR": str(handover),
                **case.variables,
            },
            cwd=work,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            errors="replace",
        )
        try:
            stdout, stderr = process.communicate(timeout=SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            raise
        assert {path.suffix for path in handover.iterdir()} <= {".core"}
        executable = Path(case.command[0])
        return Run(
            process.pid,
            process.returncode,
            stdout,
            stderr,
            {
                path.name.replace(str(process.pid), "PID"): path.read_text(errors="replace")
                for path in work.iterdir()
            },
            [Snapshot(path, self.note_dump, executable) for path in sorted(handover.iterdir())],
        )

    def _preload(self, case: Case, library: bool) -> list[str]:
        """`env`'s argument: what the command alone is started with."""
        chosen = [LIBRARY if part == OURS else part for part in case.preload]
        paths = [str(part) for part in chosen if library or part != LIBRARY]
        return [f"LD_PRELOAD={':'.join(paths)}"] if paths else []

    def compare(
        self, case: Case, cleaned: Callable[[str], str] = lambda text: text
    ) -> tuple[Run, Run]:
        """Runs the case both ways and checks what every case has; returns both for the rest.

        ``cleaned`` takes out of the output what differs from run to run and is neither
        an address nor the process's id.
        """
        natively = self.run(case, library=False)
        captured = self.run(case, library=True)

        assert natively.status == case.status, natively.stderr
        assert natively.snapshots == []
        assert captured.status == natively.status, captured.stderr
        stdout, stderr, files = captured.said
        assert cleaned(stdout) == cleaned(natively.said[0])
        assert cleaned(stderr) == cleaned(natively.said[1])
        assert files == natively.said[2]
        assert [snapshot.note["pid"] for snapshot in captured.snapshots] == (
            [captured.pid] * case.reports
        )
        for snapshot in captured.snapshots:
            self._check(case, snapshot)
        return natively, captured

    def _check(self, case: Case, snapshot: Snapshot) -> None:
        note = snapshot.note
        assert note["signal"] == case.signal
        if case.address is not None:
            assert note["address"] == case.address
        if case.frame is not None:
            names = functions(snapshot)
            fault = note["code"] > 0
            assert case.frame in (names[:1] if fault else names)


def functions(snapshot: Snapshot) -> list[str]:
    """The crashing thread's, innermost first; of C++ without parameters, of Rust without hash."""
    names = (frame.function for frame in snapshot.eu_stack_frames(64))
    return [re.sub(r"\(.*|::h[0-9a-f]{16}$", "", name) for name in names]


def original_pc(snapshot: Snapshot) -> int:
    """Where the crashing thread was."""
    return snapshot.registers()[0][RIP]


@pytest.fixture(scope="session")
def programs() -> None:
    make(ROOT / "preload")
    make(SOURCES)


@pytest.fixture
def stage(tmp_path: Path, note_dump: Path, programs: None) -> Stage:
    return Stage(tmp_path, note_dump)
