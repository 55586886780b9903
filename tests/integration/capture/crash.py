"""Real crashes under the built library, and programs that abuse the hand-over."""

import ctypes
import os
import signal
import struct
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from stillframe.capture.handover import SnapshotDirectory, SnapshotName, Stage, list_names

ROOT = Path(__file__).parents[3]
LIBRARY = ROOT / "build/preload/x86_64/libstillframe.so"
CRASHER = ROOT / "build/crashers/glibc/crasher"
MUSL_CRASHER = ROOT / "build/crashers/musl/crasher"
ADVERSARY = Path(__file__).with_name("adversary.py")
SECONDS = 20.0
"""Longest that anything here may take."""
T = TypeVar("T")
Process = subprocess.Popen[bytes]


def wait_for(condition: Callable[[], T | None], what: str) -> T:
    """Poll until ``condition`` has a value."""
    deadline = time.monotonic() + SECONDS
    while time.monotonic() < deadline:
        value = condition()
        if value:
            return value
        time.sleep(0.0005)
    raise AssertionError(f"no {what} within {SECONDS} s")


def environment(directory: Path, **variables: str) -> dict[str, str]:
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("STILLFRAME_", "LD_"))}
    settings = {f"STILLFRAME_{name}": value for name, value in variables.items()}
    return {**clean, "STILLFRAME_DIR": str(directory), **settings}


def crash(
    directory: Path, *command: str | Path, before: tuple[str, ...] = (), **variables: str
) -> Process:
    """Start ``command`` with the library; ``before`` runs it without."""
    return subprocess.Popen(
        ["prlimit", "--core=0", *before, "env", f"LD_PRELOAD={LIBRARY}", *map(str, command)],
        env=environment(directory, **variables),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )


def adversary(directory: Path, mode: str, *arguments: str) -> Process:
    """Start `adversary.py`; it has done its worst when this returns."""
    process = subprocess.Popen(
        [sys.executable, ADVERSARY, mode, directory, *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == b"ready\n"
    return process


def reborn(pid: int, directory: Path, mode: str) -> int:
    """Another adversary with the pid of one that is dead; it has done its worst, reap it by pid."""
    reading, ready = os.pipe()
    stay = os.eventfd(0)  # nothing ever comes
    number = ctypes.c_int(pid)
    arguments = struct.pack(
        "10Q", 0, 0, 0, 0, signal.SIGCHLD, 0, 0, 0, ctypes.addressof(number), 1
    )  # struct clone_args
    if ctypes.CDLL(None).syscall(435, arguments, len(arguments)) == 0:
        os.dup2(stay, 0)
        os.dup2(ready, 1)
        os.execv(sys.executable, [sys.executable, str(ADVERSARY), mode, str(directory)])
    os.close(ready)
    os.close(stay)
    with os.fdopen(reading) as output:
        assert output.readline() == "ready\n"
    return pid


def end(process: Process) -> None:
    """Kill and reap a process of ours."""
    process.kill()
    process.communicate()


def found(directory: SnapshotDirectory, *stages: Stage) -> SnapshotName:
    """The one snapshot in a directory, once there is one; at one of ``stages`` if any are given."""
    wanted = stages or (Stage.PART, Stage.CORE)

    def look() -> SnapshotName | None:
        names = [n for n in list_names(directory.fd).names if n.stage in wanted]
        return names[0] if names else None

    return wait_for(look, "snapshot")
