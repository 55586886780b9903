"""What the agent finds out about its node before the first crash."""

import json
import subprocess
import sys

import pytest
from stillframe_agent.selftest import missing_capabilities, run


@pytest.mark.parametrize(
    ("mask", "missing"),
    [
        ("0000000000080004", []),
        ("000001ffffffffff", []),
        ("0000000000000004", ["SYS_PTRACE"]),
        ("0000000000080000", ["DAC_READ_SEARCH"]),
        ("0000000000000000", ["SYS_PTRACE", "DAC_READ_SEARCH"]),
    ],
)
def test_missing_capabilities_are_named(mask: str, missing: list[str]) -> None:
    conditions = missing_capabilities(f"Name:\tx\nCapEff:\t{mask}\n")
    assert list(conditions) == (["CapabilityMissing"] if missing else [])
    assert all(name in conditions["CapabilityMissing"] for name in missing)


def test_a_node_that_allows_ptrace_has_no_such_condition() -> None:
    assert "PtraceDenied" not in run()


def test_a_node_that_forbids_ptrace_is_noticed() -> None:
    script = """
import errno, json, pyseccomp
forbid = pyseccomp.SyscallFilter(pyseccomp.ALLOW)
forbid.add_rule(pyseccomp.ERRNO(errno.EPERM), "ptrace")
forbid.load()
from stillframe_agent.selftest import run
print(json.dumps(run()))
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, check=True)
    assert "appArmorProfile" in json.loads(done.stdout)["PtraceDenied"]
