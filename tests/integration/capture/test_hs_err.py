"""The log that a JVM writes about its own death, taken with its snapshot.

- a real JVM's, whole
- from the working directory, and from /tmp where that has none
- not one that was there before the process, nor anything that is no regular file of a decent size
"""

import hashlib
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from stillframe.capture.handover import SnapshotDirectory
from stillframe.capture.identity import START_SLACK_NS
from stillframe.capture.pipeline import Capture, CaptureLimits, capture
from stillframe.names import ARTIFACT_HS_ERR
from tests.integration.capture.crash import ROOT, Process, crash, found, wait_for

Dies = Callable[..., Process]


@pytest.fixture
def work(tmp_path: Path) -> Path:
    directory = tmp_path / "work"
    directory.mkdir()
    return directory


@pytest.fixture
def dies(snapshots: Path, work: Path) -> Iterator[Dies]:
    """Runs a shell script in ``work`` that then dies of SIGSEGV; ends the process."""
    started = []

    def start(script: str) -> Process:
        process = crash(
            snapshots, "sh", "-c", f"{script}; kill -SEGV $$", before=("env", "-C", str(work))
        )
        started.append(process)
        return process

    yield start
    for process in started:
        process.wait()


def log_of(captured: Capture) -> str | None:
    """What the copy says, checked against what is said of it."""
    kept = captured.path.with_name(ARTIFACT_HS_ERR)
    if captured.hs_err is None:
        assert not kept.exists()
        return None
    data = kept.read_bytes()
    assert captured.hs_err.bytes == len(data)
    assert captured.hs_err.sha256 == hashlib.sha256(data).hexdigest()
    return data.decode()


def test_log_in_the_working_directory(dies: Dies, directory: SnapshotDirectory, copy: Path) -> None:
    dies("echo mine > hs_err_pid$$.log")
    with capture(directory, found(directory), copy) as captured:
        assert log_of(captured) == "mine\n"
        assert captured.soft_errors == ()


def test_log_in_tmp(dies: Dies, directory: SnapshotDirectory, copy: Path) -> None:
    process = dies("echo elsewhere > /tmp/hs_err_pid$$.log")
    try:
        with capture(directory, found(directory), copy) as captured:
            assert log_of(captured) == "elsewhere\n"
    finally:
        Path(f"/tmp/hs_err_pid{process.pid}.log").unlink()


def test_process_without_a_log(dies: Dies, directory: SnapshotDirectory, copy: Path) -> None:
    dies("echo other > hs_err_pid1.log")
    with capture(directory, found(directory), copy) as captured:
        assert log_of(captured) is None
        assert captured.soft_errors == ()


def test_log_of_an_earlier_process_of_that_pid(
    dies: Dies, directory: SnapshotDirectory, copy: Path, work: Path
) -> None:
    """As after a restart: the volume stays, and pid 1 is pid 1 again."""
    old = work / "old"
    old.write_text("of an earlier life")
    too_old = old.stat().st_mtime_ns + 2 * START_SLACK_NS
    wait_for(lambda: time.time_ns() > too_old, "time for a life")
    dies("mv old hs_err_pid$$.log")
    with capture(directory, found(directory), copy) as captured:
        assert log_of(captured) is None
        assert captured.soft_errors == ()


@pytest.mark.parametrize(
    ("script", "why"),
    [
        ("ln -s /etc/passwd hs_err_pid$$.log", "not a regular file"),
        ("mkfifo hs_err_pid$$.log", "not a regular file"),
        ("mkdir hs_err_pid$$.log", "not a regular file"),
        ("head -c 5000 /dev/zero > hs_err_pid$$.log", "5000 bytes, at most 4096"),
    ],
    ids=["symlink", "fifo", "directory", "large"],
)
def test_what_only_looks_like_a_log_is_named_and_left(
    dies: Dies, directory: SnapshotDirectory, copy: Path, script: str, why: str
) -> None:
    process = dies(script)
    limits = CaptureLimits(max_hs_err_bytes=4096)
    with capture(directory, found(directory), copy, limits=limits) as captured:
        assert log_of(captured) is None
        assert captured.soft_errors == (f"hs_err_pid{process.pid}.log: {why}",)


def test_log_of_a_jvm(
    snapshots: Path, directory: SnapshotDirectory, copy: Path, work: Path, tmp_path: Path
) -> None:
    program = tmp_path / "Crash.class"
    make = ("make", "-s", "-C", ROOT / "tests/crashers/runtimes")
    subprocess.run([*make, f"BUILD={tmp_path}", program], check=True)
    java = ("java", "-Xmx64m", "-cp", str(tmp_path), "Crash", "unsafe")
    process = crash(snapshots, *java, before=("env", "-C", str(work)))
    with capture(directory, found(directory), copy) as captured:
        log = log_of(captured)
        assert log is not None
        assert "Unsafe_PutLong" in log
        assert log.endswith("END.\n")
        assert captured.soft_errors == ()
    assert process.wait() == -signal.SIGABRT
    assert (work / f"hs_err_pid{process.pid}.log").read_text() == log
