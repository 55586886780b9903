"""Runs ``stillframe run`` as a user would, with evidence in a directory of the test's own."""

import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import pytest

from tests.integration.capture.crash import CRASHER, LIBRARY, ROOT

SECONDS = 60
SHARED_MEMORY = Path("/dev/shm")


def pytest_collection_modifyitems() -> None:
    for needed in (LIBRARY, CRASHER):
        if not needed.exists():
            pytest.exit(f"{needed} is missing: run `make build`", returncode=2)


@dataclass(frozen=True)
class Local:
    """Local mode, its evidence below ``keep``."""

    keep: Path

    def command(self, *command: str | Path, options: tuple[str, ...] = ()) -> list[str]:
        ours = [sys.executable, "-m", "stillframe.cli", "run", "--keep", str(self.keep)]
        return [*ours, *options, "--", *map(str, command)]

    def environment(self, **variables: str) -> dict[str, str]:
        clean = {k: v for k, v in os.environ.items() if not k.startswith(("STILLFRAME_", "LD_"))}
        return {**clean, "PYTHONPATH": str(ROOT / "src"), **variables}

    def run(
        self,
        *command: str | Path,
        options: tuple[str, ...] = (),
        stdin: bytes = b"",
        **variables: str,
    ) -> "subprocess.CompletedProcess[bytes]":
        return subprocess.run(
            self.command(*command, options=options),
            env=self.environment(**variables),
            input=stdin,
            capture_output=True,
            timeout=SECONDS,
            check=False,
        )

    def start(self, *command: str | Path) -> "subprocess.Popen[bytes]":
        return subprocess.Popen(
            self.command(*command),
            env=self.environment(),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )

    def reports(self) -> list[dict[str, Any]]:
        return [msgspec.json.decode(p.read_bytes()) for p in self.keep.glob("*/report.json")]

    @property
    def report(self) -> dict[str, Any]:
        (only,) = self.reports()
        return only


@pytest.fixture
def local(tmp_path: Path) -> Local:
    return Local(tmp_path / "evidence")


@pytest.fixture
def build(tmp_path: Path) -> Callable[..., Path]:
    """Compiles a C program: ``build(source, *flags)``."""

    def compile_(source: str, *flags: str) -> Path:
        program = tmp_path / "program"
        command = ["gcc", "-g", "-x", "c", "-", "-o", program, *flags]
        subprocess.run(command, input=source.encode(), check=True)
        return program

    return compile_
