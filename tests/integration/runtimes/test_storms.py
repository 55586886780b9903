"""The storms of the other tests, as strace counts them.

- they are storms: thousands of real faults, each with its return from a signal handler
- a recovered fault costs no system call
"""

import subprocess
from pathlib import Path

import pytest

from tests.integration.runtimes.conftest import LIBRARY
from tests.integration.runtimes.test_go import CGO
from tests.integration.runtimes.test_java import JAVAS, java
from tests.integration.runtimes.test_node import node

STORMS = {
    **{f"{version}-nulls": (java(version, "nulls"), 20_000) for version in JAVAS},
    "node": (node("storm"), 10_000),
    "go": ((CGO, "storm"), 4_000),
}
SMALL_STORMS = {
    **{f"{version}-overflows": (java(version, "overflows"), 40) for version in JAVAS},
    **{f"{version}-safepoints": (java(version, "safepoints"), 20) for version in JAVAS},
}


def calls(command: tuple[str | Path, ...], trace: Path, *options: str) -> dict[str, int]:
    """How often each system call was made, and how often a signal handler returned."""
    strace = ("strace", "-f", "-c", "-U", "name,calls", "-o", trace, *options)
    subprocess.run([*strace, *command], check=True, capture_output=True, timeout=60)
    lines = (line.split() for line in trace.read_text().splitlines())
    return {fields[0]: int(fields[1]) for fields in lines if fields[-1].isdigit()}


@pytest.mark.parametrize("storm", STORMS)
def test_recovered_fault_costs_no_system_call(storm: str, tmp_path: Path, programs: None) -> None:
    command, faults = STORMS[storm]
    natively = calls(command, tmp_path / "trace")
    captured = calls(command, tmp_path / "trace", "-E", f"LD_PRELOAD={LIBRARY}")

    assert natively["rt_sigreturn"] >= faults
    assert captured["rt_sigreturn"] >= faults
    # Some hundreds are start-up, and threads that wait for each other.
    assert captured["total"] - natively["total"] < faults / 4


@pytest.mark.parametrize("storm", SMALL_STORMS)
def test_storm_is_made_of_faults(storm: str, tmp_path: Path, programs: None) -> None:
    command, faults = SMALL_STORMS[storm]

    assert calls(command, tmp_path / "trace")["rt_sigreturn"] >= faults
