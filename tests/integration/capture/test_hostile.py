"""What a pod may put into its directory: each thing refused with its reason.

After every refusal a real crash in the same directory is captured: nothing a
pod does stops the next capture.
"""

import hashlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from stillframe.capture import identity
from stillframe.capture.handover import (
    SnapshotDirectory,
    SnapshotName,
    Stage,
    discard,
    open_snapshot,
)
from stillframe.capture.identity import attest
from stillframe.capture.pipeline import CaptureLimits, capture
from stillframe.capture.procfiles import read_small, status_field
from stillframe.capture.refusals import NoHolderError
from stillframe.corefile import CoreFile
from stillframe.errors import InvalidInputError
from tests.integration.capture.crash import CRASHER, adversary, crash, end, found, reborn, wait_for

LIMITS = CaptureLimits(complete_timeout=0.1)


def refusal(snapshots: Path, directory: SnapshotDirectory, copy: Path) -> str:
    """Why the only snapshot is refused; then a real one is captured all the same."""
    name = found(directory)
    with pytest.raises(InvalidInputError) as caught:
        capture(directory, name, copy, limits=LIMITS)
    assert list(copy.parent.iterdir()) == []
    for path in snapshots.iterdir():
        path.rmdir() if path.is_dir() and not path.is_symlink() else path.unlink()
    process = crash(snapshots, CRASHER, "null_write")
    with capture(directory, found(directory), copy) as captured:
        assert captured.attested
    assert process.wait() == -signal.SIGSEGV
    return caught.value.reason


@pytest.mark.parametrize(
    ("mode", "reason"),
    [
        ("symlink", "Symlink"),
        ("fifo", "NotRegular"),
        ("directory", "NotRegular"),
        ("sparse", "TooLarge"),
        ("hold_core", "NotElf"),
        ("abandon", "NotElf"),
        ("abandon_part", "NotElf"),
        ("hold_part", "NeverComplete"),
        ("dead_taker", "ForgedLock"),
        ("living_taker", "ForgedLock"),
        ("ofd_owner", "ForgedLock"),
        ("reused_pid", "ForgedLock"),
        ("deny_claim", "ClaimRefused"),
        ("deny_release", "ClaimRefused"),
    ],
)
def test_an_attack_is_refused_with_its_reason(
    snapshots: Path, directory: SnapshotDirectory, copy: Path, mode: str, reason: str
) -> None:
    process = adversary(snapshots, mode)
    try:
        assert refusal(snapshots, directory, copy) == reason
    finally:
        end(process)


@pytest.mark.parametrize("mode", ["hold_core", "abandon"])
@pytest.mark.parametrize(
    ("kept", "reason"), [(32, "NotElf"), (100, "Truncated"), (-1, "Truncated")]
)
def test_a_truncated_core_is_refused(
    *,
    snapshots: Path,
    directory: SnapshotDirectory,
    copy: Path,
    material: Path,
    tmp_path: Path,
    mode: str,
    kept: int,
    reason: str,
) -> None:
    cut = tmp_path / "cut"
    cut.write_bytes(material.read_bytes()[:kept])
    process = adversary(snapshots, mode, str(cut))
    try:
        assert refusal(snapshots, directory, copy) == reason
    finally:
        end(process)


def capture_while(directory: SnapshotDirectory, copy: Path, happens: Callable[[], object]) -> None:
    """Capture the ``.part``; ``happens`` comes between the claim and the look for ``.core``."""
    part = SnapshotName("5eed" * 8, Stage.PART)

    def clock() -> int:
        happens()
        return 0

    capture(directory, part, copy, limits=LIMITS, clock=clock)


def test_a_claimed_file_replaced_by_another_is_refused(
    snapshots: Path, directory: SnapshotDirectory, copy: Path, material: Path
) -> None:
    process = adversary(snapshots, "replace", str(material))
    part, core = snapshots / f"{'5eed' * 8}.part", snapshots / f"{'5eed' * 8}.core"
    with pytest.raises(InvalidInputError) as caught:
        capture_while(directory, copy, lambda: core.exists() and core.replace(part))
    end(process)
    assert caught.value.reason == "Replaced"


def test_a_claimed_file_taken_back_is_gone(
    snapshots: Path, directory: SnapshotDirectory, copy: Path
) -> None:
    process = adversary(snapshots, "hold_part")
    part = snapshots / f"{'5eed' * 8}.part"
    with pytest.raises(FileNotFoundError):
        capture_while(directory, copy, lambda: part.unlink(missing_ok=True))
    end(process)


@pytest.mark.parametrize("mode", ["rewrites", "grows"])
def test_a_file_that_is_written_while_it_is_copied_is_what_was_read_or_refused(
    snapshots: Path, directory: SnapshotDirectory, copy: Path, material: Path, mode: str
) -> None:
    process = adversary(snapshots, mode, str(material))
    limits = CaptureLimits(max_bytes=1 << 20, death_timeout=0)
    reasons = set()
    for _ in range(30):
        try:
            with capture(directory, found(directory), copy, limits=limits) as captured:
                data = copy.read_bytes()
                assert len(data) == captured.bytes <= limits.max_bytes
                assert hashlib.sha256(data).hexdigest() == captured.sha256
                assert CoreFile.from_bytes(data).threads
                break
        except InvalidInputError as error:
            reasons.add(error.reason)
            assert list(copy.parent.iterdir()) == []
    end(process)
    assert reasons <= {"NotElf", "NotCore", "Truncated", "TooLarge"}


REPLACEMENTS = {"its pidfd is opened": "pidfd_open", "its directory is opened": "open"}


@pytest.mark.parametrize("before", REPLACEMENTS)
@pytest.mark.parametrize("heir", ["adopt", "bystander"])
def test_a_process_replaced_by_another_of_its_pid_is_not_taken_for_it(
    *,
    snapshots: Path,
    directory: SnapshotDirectory,
    material: Path,
    monkeypatch: pytest.MonkeyPatch,
    before: str,
    heir: str,
) -> None:
    """The heir takes the lock, too, or has nothing to do with the file."""
    process = adversary(snapshots, "hold_core", str(material))
    call = REPLACEMENTS[before]
    real = getattr(os, call)
    heirs: list[int] = []

    def late(subject: object, *arguments: object, **options: object) -> int:
        ours = subject in (process.pid, f"/proc/{process.pid}")
        if ours and not heirs:
            end(process)
            heirs.append(reborn(process.pid, snapshots, heir))
        return int(real(subject, *arguments, **options))

    name = found(directory)
    with open_snapshot(directory.fd, name, max_bytes=1 << 24) as snapshot:
        born = snapshot.stat.st_mtime
        wait_for(lambda: time.time() > born + 0.1 or None, "file older than the clocks' ticks")
        monkeypatch.setattr(os, call, late)
        with pytest.raises((NoHolderError, InvalidInputError)) as caught:
            attest(snapshot.fd)
        monkeypatch.undo()
        assert heirs == [process.pid]
        refused = isinstance(caught.value, InvalidInputError)
        assert not refused or caught.value.reason == "HolderYoungerThanFile"
    os.kill(process.pid, signal.SIGKILL)
    os.waitpid(process.pid, 0)


def test_a_program_is_no_core(snapshots: Path, directory: SnapshotDirectory, copy: Path) -> None:
    process = adversary(snapshots, "hold_core", str(CRASHER))
    try:
        assert refusal(snapshots, directory, copy) == "NotCore"
    finally:
        end(process)


def test_a_file_mounted_into_the_directory_is_refused(
    snapshots: Path, directory: SnapshotDirectory, copy: Path
) -> None:
    target = snapshots / f"{'5eed' * 8}.core"
    target.touch()
    subprocess.run(["mount", "--bind", "/etc/passwd", target], check=True)
    with pytest.raises(InvalidInputError) as caught:
        capture(directory, found(directory), copy)
    subprocess.run(["umount", target], check=True)
    assert caught.value.reason == "NotRegular"


def test_a_reused_pid_is_refused(
    snapshots: Path, directory: SnapshotDirectory, copy: Path, material: Path
) -> None:
    # A process that is younger than the file it holds is what a reused pid looks like.
    (snapshots / f"{'5eed' * 8}.core").write_bytes(material.read_bytes())
    born = time.clock_gettime_ns(time.CLOCK_BOOTTIME)
    while time.clock_gettime_ns(time.CLOCK_BOOTTIME) - born < 100_000_000:
        time.sleep(0.01)
    process = adversary(snapshots, "adopt")
    try:
        assert refusal(snapshots, directory, copy) == "HolderYoungerThanFile"
    finally:
        end(process)


def test_a_copied_snapshot_is_attributed_to_who_holds_it(
    snapshots: Path, directory: SnapshotDirectory, copy: Path, material: Path
) -> None:
    # Another process's snapshot, note and all: the kernel's word stands, and
    # every contradiction is told.
    process = adversary(snapshots, "hold_core", str(material))
    try:
        limits = CaptureLimits(death_timeout=0)
        with capture(directory, found(directory), copy, limits=limits) as captured:
            assert captured.holder is not None
            assert captured.holder.pid == process.pid
            said = [error for error in captured.soft_errors if error.startswith("the note says")]
            assert len(said) == 2
            assert f"the kernel {process.pid}" in said[0]
    finally:
        end(process)


def test_a_holder_with_too_many_descriptors_is_given_up(
    snapshots: Path, directory: SnapshotDirectory, material: Path
) -> None:
    process = adversary(snapshots, "hold_core", str(material))
    try:
        with (
            open_snapshot(directory.fd, found(directory), max_bytes=1 << 24) as snapshot,
            pytest.raises(InvalidInputError) as caught,
        ):
            attest(snapshot.fd, timeout=0)
        assert caught.value.reason == "HolderTooLarge"
    finally:
        end(process)


LETS_GO = """
import fcntl, pathlib, signal, sys
with pathlib.Path(sys.argv[1]).open("xb") as file:
    fcntl.lockf(file, fcntl.LOCK_EX, 1)
    print(flush=True)
    input()
print(flush=True)
signal.pause()
"""
"""Holds the lock of a new file until a line comes, and lives on."""


def test_what_is_read_of_a_process_that_lets_go_meanwhile_is_not_believed(
    snapshots: Path, directory: SnapshotDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = snapshots / f"{'5eed' * 8}.core"
    process = subprocess.Popen(
        [sys.executable, "-c", LETS_GO, target], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert process.stdin is not None
    assert process.stdout is not None
    assert process.stdout.readline()
    read = identity.read_small

    def read_of_the_ending(directory_fd: int, path: str) -> bytes:
        if path == "cgroup":
            process.stdin.write(b"\n")
            process.stdin.flush()
            assert process.stdout.readline()
        return read(directory_fd, path)

    monkeypatch.setattr(identity, "read_small", read_of_the_ending)
    try:
        with (
            open_snapshot(directory.fd, found(directory), max_bytes=1 << 24) as snapshot,
            pytest.raises(NoHolderError),
        ):
            attest(snapshot.fd)
    finally:
        end(process)


NAMED = """
import ctypes, os, sys
ctypes.CDLL(None).prctl(15, os.fsencode(sys.argv[1]), 0, 0, 0)
print(flush=True)
input()
"""
"""Renames its thread (PR_SET_NAME) and lives until its input ends."""


@pytest.mark.parametrize("end_of_line", ["\r", "\f", "\v", "\x1c", "\x85", "\u2028"])
def test_a_name_begins_no_line_of_what_the_kernel_says(end_of_line: str) -> None:
    def look(name: str) -> tuple[tuple[int, ...], list[bytes]]:
        with subprocess.Popen(
            [sys.executable, "-c", NAMED, name], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        ) as process:
            assert process.stdout is not None
            assert process.stdout.readline()
            pidfd = os.pidfd_open(process.pid)
            proc_fd = os.open(f"/proc/{process.pid}", os.O_RDONLY | os.O_DIRECTORY)
            holder = identity.holder_of(process.pid, process.pid, pidfd, proc_fd)
            uids = status_field(read_small(holder.task_fd, "status"), b"Uid:")
            holder.close()
            assert holder.pids[0] == process.pid
        return holder.pids[1:], uids

    honest = look("app")
    assert look(f"{end_of_line}NStgid:\t1") == honest
    assert look(f"{end_of_line}Uid:\t77") == honest


def test_a_process_that_is_ending_is_not_looked_at() -> None:
    # cgroup v1 shows it in the root already: nobody could say whose it is.
    process = subprocess.Popen(["true"])
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)  # stays a zombie
    pidfd = os.pidfd_open(process.pid)
    proc_fd = os.open(f"/proc/{process.pid}", os.O_RDONLY | os.O_DIRECTORY)
    with pytest.raises(ProcessLookupError):
        identity.holder_of(process.pid, process.pid, pidfd, proc_fd)
    os.close(proc_fd)
    os.close(pidfd)
    process.wait()


def test_a_refused_file_can_be_discarded(snapshots: Path, directory: SnapshotDirectory) -> None:
    process = adversary(snapshots, "fifo")
    assert discard(directory.fd, found(directory))
    end(process)
    assert list(snapshots.iterdir()) == []
