"""What the library is, before it runs: the contract a linker and a loader see."""

import subprocess
from pathlib import Path

import pytest

from tests.integration.preload.conftest import LIBRARY

EXPORTED = Path(__file__).resolve().parents[2] / "golden/exported-symbols"
GOLDEN = {
    "T": set(EXPORTED.read_text().split()),
    "w": {"__abort_msg", "__environ", "environ", "getauxval"},
}
"""Dynamic symbols by kind: exported functions, and weak undefined ones.

A strong undefined symbol (U) that some libc lacks would keep every process of a
pod from starting.
"""
MOST_BYTES = 64 * 1024

pytestmark = pytest.mark.usefixtures("note_dump")  # builds everything


def readelf(option: str, path: Path = LIBRARY) -> str:
    return subprocess.run(
        ["readelf", option, path], capture_output=True, text=True, check=True
    ).stdout


def dynamic_symbols(path: Path = LIBRARY) -> dict[str, set[str]]:
    """Names by kind, as nm says it."""
    lines = subprocess.run(
        ["nm", "--dynamic", path], capture_output=True, text=True, check=True
    ).stdout.splitlines()
    kinds: dict[str, set[str]] = {}
    for line in lines:
        *_, kind, name = line.split()
        kinds.setdefault(kind, set()).add(name)
    return kinds


def test_dynamic_symbols_are_the_golden_ones() -> None:
    assert dynamic_symbols() == GOLDEN


def test_library_needs_no_other() -> None:
    dynamic = readelf("-dW")

    assert "NEEDED" not in dynamic
    assert "TEXTREL" not in dynamic
    assert "VERNEED" not in dynamic
    assert "VERDEF" not in dynamic, "a versioned definition satisfies no versioned reference"


def test_library_is_small_and_its_debug_info_apart() -> None:
    assert LIBRARY.stat().st_size <= MOST_BYTES
    assert ".debug_info" not in readelf("-SW")
    assert ".debug_info" in readelf("-SW", LIBRARY.with_name("libstillframe.so.debug"))


def test_library_has_a_build_id_and_keeps_shadow_stacks_on() -> None:
    notes = readelf("-nW")

    assert "Build ID" in notes
    assert "IBT, SHSTK" in notes


def test_stack_and_relocated_data_are_protected() -> None:
    headers = readelf("-lW")
    stack = next(line for line in headers.splitlines() if "GNU_STACK" in line)

    assert " RW " in stack
    assert "GNU_RELRO" in headers
    assert not any(" RWE " in line for line in headers.splitlines())


def test_unwinders_get_past_every_function() -> None:
    """pthread_exit and cancellation unwind through our frame below each thread."""
    assert "GNU_EH_FRAME" in readelf("-lW")


OTHER = """
#include <unistd.h>
int sigignore(int sig) { return write(1, "other ", 6) == 6 ? 40 + sig : -1; }
"""
ASKS = """
#define _GNU_SOURCE
#include <signal.h>
int main(void) { return sigignore(SIGUSR1); }
"""


@pytest.mark.parametrize("style", ["sysv", "gnu", "both"])
def test_next_definition_is_found_by_either_hash_table(tmp_path: Path, style: str) -> None:
    """A library behind ours, linked for a loader of before 2006 (``DT_HASH`` only), or later."""
    other, asks = tmp_path / "other.so", tmp_path / "asks"
    compile_ = ("gcc", "-x", "c", "-", "-Wno-deprecated-declarations", "-o")
    shared = ("-shared", "-fPIC", f"-Wl,--hash-style={style}")
    subprocess.run([*compile_, other, *shared], input=OTHER, text=True, check=True)
    subprocess.run([*compile_, asks], input=ASKS, text=True, check=True)
    assert ("(GNU_HASH)" in readelf("-dW", other)) is (style != "sysv")

    preload = {"LD_PRELOAD": f"{LIBRARY}:{other}", "STILLFRAME_DIR": str(tmp_path)}
    done = subprocess.run([asks], env=preload, stdout=subprocess.PIPE, text=True, check=False)

    assert (done.returncode, done.stdout) == (40 + 10, "other ")
