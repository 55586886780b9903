"""Snapshots of aarch64 processes, run by qemu-user: what went wrong, and where.

The crashers sign their return addresses, as the emulated processor can.
"""

from itertools import groupby
from pathlib import Path

import pytest

from tests.integration.analysis.inprocess import analyze_here
from tests.integration.preload.aarch64 import LIBCS, EmulatedStage

CRASHES = {
    "null_read": ("null pointer: read of 4 bytes at 0x0, x0 is null", ["null_read", "main"]),
    "wild": ("wild pointer: read of 4 bytes at 0x123456789abc", ["wild", "main"]),
    "ro_write": ("write to read-only memory: write of 1 byte at 0x", ["ro_write", "main"]),
    "call_null": ("null function pointer: call of 0x0", ["call_null", "main"]),
    "bus": ("bus error: read of 1 byte past the end of memfd:crasher", ["bus", "main"]),
    "abort_call": ("abort() was called", ["abort", "abort_call", "main"]),
    "assert_false": ("assertion failed", ["__assert_fail", "assert_false", "main"]),
    "overflow_main": ("stack overflow at ", ["recurse"]),
    "overflow_thread": ("stack overflow at ", ["recurse"]),
    "ill": ("trap instruction (udf)", ["ill", "main"]),
    "int3": ("trap instruction (brk)", ["int3", "main"]),
    "misaligned": ("bus error: misaligned read of 8 bytes at 0x", ["misaligned", "main"]),
}
"""How the cause begins, and the functions that must be there in this order, libc's left out: those
differ. A snapshot holds both ends of an overflown stack, and unwinding does not cross the gap."""


@pytest.mark.parametrize("libc", LIBCS)
@pytest.mark.parametrize("way", CRASHES)
def test_cause_and_stack_of_an_aarch64_snapshot(tmp_path: Path, libc: str, way: str) -> None:
    snapshot = EmulatedStage(tmp_path, Path()).run(libc, way).snapshot
    result = analyze_here(snapshot.path)
    crashed = result.threads[0]
    cause, functions = CRASHES[way]
    names = [frame.function for frame in crashed.frames]
    if way.startswith("overflow"):
        names = [name for name, _ in groupby(names)]

    assert result.cause.startswith(cause)
    if way == "assert_false" and "glibc" in libc:
        assert result.cause.endswith("Assertion `zero == 1' failed.")
    assert [name for name in names if name in functions] == functions
    assert len(crashed.registers) == 34
