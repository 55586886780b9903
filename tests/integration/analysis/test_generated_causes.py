"""Causes of programs made up on the spot: kind, address, size, direction and register.

``SEED=n`` repeats a run; the seed is printed when a test fails.
"""

import os
import random
import re
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.integration.analysis.conftest import compile_c
from tests.integration.analysis.generated import Program, arm_programs, programs, source
from tests.integration.analysis.inprocess import analyze_here
from tests.integration.preload.aarch64 import LIBRARY, emulated

MakeCore = Callable[..., Path]
ACCESSES, ARM_ACCESSES = 60, 24
SECONDS = 30


@pytest.fixture
def seed() -> int:
    return int(os.environ.get("SEED") or random.SystemRandom().randrange(1 << 32))


def test_programs_of_x86_64_are_told_by_what_was_generated(
    snapshot: MakeCore, tmp_path: Path, seed: int
) -> None:
    batch = programs(seed, ACCESSES)
    app = compile_c(source(batch), tmp_path / "app", "-w", "-O1", "-fno-builtin")
    told = [analyze_here(snapshot(app, str(number))).cause for number in range(len(batch))]
    assert not differences(batch, told), f"SEED={seed}"


def test_programs_of_aarch64_are_told_by_what_was_generated(tmp_path: Path, seed: int) -> None:
    batch = arm_programs(seed, ARM_ACCESSES)
    app, text = tmp_path / "app", tmp_path / "app.c"
    text.write_text(source(batch))
    compiler = ["aarch64-linux-gnu-gcc", "-g", "-w", "-O1", "-march=armv8.2-a"]
    subprocess.run([*compiler, "-o", app, text], check=True)
    told = []
    for number in range(len(batch)):
        directory = tmp_path / str(number)
        directory.mkdir()
        command = emulated("aarch64-glibc", app, str(number), library=LIBRARY, init=False)
        subprocess.run(
            command,
            env=os.environ | {"STILLFRAME_DIR": str(directory)},
            timeout=SECONDS,
            check=False,
            capture_output=True,
        )
        (core,) = directory.glob("*.core")
        told.append(analyze_here(core).cause)
    assert not differences(batch, told), f"SEED={seed}"


def differences(batch: list[Program], told: list[str]) -> str:
    """What was not told as expected, with its program."""
    return "\n".join(
        f"{program.body}\n  expected {program.sentence}\n  told     {sentence}"
        for program, sentence in zip(batch, told, strict=True)
        if not is_told(program.sentence, sentence)
    )


def is_told(expected: str, told: str) -> bool:
    """Where an address is not known beforehand the sentence is a pattern, or ends before it."""
    if ".*" in expected:
        return re.fullmatch(expected, told) is not None
    return told == expected or (expected.endswith("at 0x") and told.startswith(expected))
