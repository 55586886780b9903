"""Snapshots of aarch64 processes, run by qemu-user: what went wrong, and where.

The crashers sign their return addresses, as the emulated processor can.
"""

from itertools import groupby
from pathlib import Path

import pytest

from tests.integration.analysis.conftest import analyze_file
from tests.integration.preload.aarch64 import LIBCS, EmulatedStage

CRASHES = {
    "null_read": ("null pointer: read at 0x0, x0 is null", ["null_read", "main"]),
    "wild": ("wild pointer: read at 0x123456789abc", ["wild", "main"]),
    "ro_write": ("write to read-only memory: write at ", ["ro_write", "main"]),
    "call_null": ("null function pointer: call of 0x0", ["call_null", "main"]),
    "bus": ("bus error: read past the end of memfd:crasher", ["bus", "main"]),
    "abort_call": ("abort() was called", ["abort", "abort_call", "main"]),
    "assert_false": ("assertion failed", ["__assert_fail", "assert_false", "main"]),
    "overflow_main": ("stack overflow at ", ["recurse"]),
    "overflow_thread": ("stack overflow at ", ["recurse"]),
}
"""How the cause begins, and the functions that must be there in this order, libc's left out: those
differ. A snapshot holds both ends of an overflown stack, and unwinding does not cross the gap."""


@pytest.mark.parametrize("libc", LIBCS)
@pytest.mark.parametrize("way", CRASHES)
def test_cause_and_stack_of_an_aarch64_snapshot(tmp_path: Path, libc: str, way: str) -> None:
    snapshot = EmulatedStage(tmp_path, Path()).run(libc, way).snapshot
    result = analyze_file(snapshot.path)
    crashed = result.threads[0]
    cause, functions = CRASHES[way]
    names = [frame.function for frame in crashed.frames]
    if way.startswith("overflow"):
        names = [name for name, _ in groupby(names)]

    assert result.cause.startswith(cause)
    assert [name for name in names if name in functions] == functions
    assert len(crashed.registers) == 34
