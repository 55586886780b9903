"""The storms of the other tests are storms: thousands of real SIGSEGVs, by the count of strace."""

import subprocess
from pathlib import Path

import pytest

from tests.integration.runtimes.test_go import CGO
from tests.integration.runtimes.test_java import JAVAS, java
from tests.integration.runtimes.test_node import node

STORMS = {
    **{f"{version}-nulls": (java(version, "nulls"), 20_000) for version in JAVAS},
    **{f"{version}-overflows": (java(version, "overflows"), 40) for version in JAVAS},
    **{f"{version}-safepoints": (java(version, "safepoints"), 20) for version in JAVAS},
    "node": (node("storm"), 10_000),
    "go": ((CGO, "storm"), 4_000),
}


@pytest.mark.parametrize("storm", STORMS)
def test_storm_is_made_of_faults(storm: str, tmp_path: Path, programs: None) -> None:
    command, faults = STORMS[storm]
    trace = tmp_path / "trace"
    strace = ("strace", "-f", "-qq", "-e", "trace=none", "-e", "signal=SEGV", "-o", trace)
    subprocess.run([*strace, *command], check=True, capture_output=True, timeout=60)

    assert trace.read_text().count("--- SIGSEGV") >= faults
