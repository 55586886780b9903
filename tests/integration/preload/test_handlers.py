"""Applications with handlers of their own: what a recovered fault costs.

What their faults, masks and actions do, and what is reported, is in the matrix.
"""

import re
import subprocess

import pytest

from tests.integration.preload.conftest import Stage
from tests.integration.preload.test_same_death import LIBCS


@pytest.mark.parametrize("libc", LIBCS)
@pytest.mark.parametrize("way", ["recovered_by_mapping", "recovered_on_stack"])
def test_recovered_fault_costs_no_system_call(stage: Stage, libc: str, way: str) -> None:
    natively, captured = (_system_calls(stage, libc, way, library) for library in (False, True))

    for call in sorted(natively | captured):
        # Start-up and installing the handler cost a few; a thousand faults none.
        assert captured.get(call, 0) - natively.get(call, 0) < 30, call


def _system_calls(stage: Stage, libc: str, way: str, library: bool) -> dict[str, int]:
    """How often each system call is made, by name."""
    environment = stage.environment() if library else None
    command = stage.command(libc, way, library=library, init=False)
    trace = subprocess.run(
        ["strace", "-f", "-c", "-U", "name,calls", *command],
        env=environment,
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    ).stderr
    return {name: int(calls) for name, calls in re.findall(r"^(\w+) +(\d+)$", trace, re.MULTILINE)}
