"""What an application tells us, at every instruction of telling it.

A crash after any instruction of a call shows what was set before or what is
being set; so does one in a signal handler that made the same call in between;
and a reader never mixes two values that other threads write meanwhile.
"""

import subprocess
from pathlib import Path

import pytest

from tests.integration.preload.conftest import LIBRARY, ROOT

SOURCE = Path(__file__).with_name("interrupted.c")
PARTS = ("places", "annotations", "application", "request", "secrets", "text", "sys")
"""The objects that the library was linked from."""


@pytest.fixture(scope="module")
def program(
    note_dump: Path, tmp_path_factory: pytest.TempPathFactory
) -> Path:  # builds the library
    output = tmp_path_factory.mktemp("interrupted") / "interrupted"
    headers = [f"-I{ROOT / 'preload' / part}" for part in ("src", "include", "arch/x86_64")]
    objects = [LIBRARY.parent / f"obj/src/{part}.o" for part in PARTS]
    command = ["gcc", "-std=gnu11", "-O1", "-g", "-Wall", "-Wextra", "-Werror", "-pthread"]
    subprocess.run([*command, *headers, SOURCE, *objects, "-o", output], check=True)
    return output


def step(program: Path, *arguments: str) -> int:
    """The number of instructions; checked by the program."""
    done = subprocess.run(
        [program, *arguments], capture_output=True, text=True, check=False, timeout=120
    )
    assert done.returncode == 0, done.stderr
    return int(done.stdout)


@pytest.mark.parametrize("call", ["annotate", "replace", "remove", "request", "secret"])
def test_a_crash_at_any_instruction_shows_a_whole_value(program: Path, call: str) -> None:
    assert step(program, call) > 100


@pytest.mark.parametrize(
    ("call", "stride"), [("replace", "211"), ("remove", "211"), ("request", "7"), ("secret", "3")]
)
def test_a_handler_may_call_in_the_middle_of_a_call(program: Path, call: str, stride: str) -> None:
    assert step(program, call, stride) > 100


def test_a_reader_never_mixes_two_values(program: Path) -> None:
    assert step(program, "reader", "1", "200") > 200


def test_a_crash_finds_what_other_threads_are_replacing(program: Path) -> None:
    subprocess.run([program, "race"], check=True, timeout=120)
