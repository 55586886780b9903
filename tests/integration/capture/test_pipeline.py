"""Real crashes, captured: whose they are, what is taken, how the process ends.

Also: other pid namespaces, dead leaders, many threads, processes killed at
each step, and an agent that dies while it holds one.
"""

import fcntl
import hashlib
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from stillframe.capture.handover import (
    Lock,
    SnapshotDirectory,
    SnapshotName,
    Stage,
    list_names,
)
from stillframe.capture.kernel import Resolve, openat2
from stillframe.capture.pipeline import CaptureLimits, capture
from stillframe.corefile import CoreFile
from stillframe.errors import InvalidInputError, TemporaryError
from stillframe.names import LOCK_DONE
from tests.integration.capture.crash import (
    CRASHER,
    LIBRARY,
    MUSL_CRASHER,
    ROOT,
    adversary,
    crash,
    end,
    found,
    wait_for,
)

AS_INIT = ("unshare", "--pid", "--fork", "--kill-child", "--mount-proc")


@pytest.mark.parametrize(
    ("way", "number"),
    [
        ("null_write", signal.SIGSEGV),
        ("abort_call", signal.SIGABRT),
        ("int3", signal.SIGTRAP),
        ("kill_self", signal.SIGSEGV),
        ("overflow_main", signal.SIGSEGV),
        ("thread_segv", signal.SIGSEGV),
        ("with_threads", signal.SIGSEGV),
        ("seccomp_trap", signal.SIGSYS),
    ],
)
def test_a_crash_is_captured_and_dies_its_own_death(
    snapshots: Path, directory: SnapshotDirectory, copy: Path, way: str, number: int
) -> None:
    process = crash(snapshots, CRASHER, way)
    with capture(directory, found(directory), copy) as captured:
        assert captured.holder is not None
        assert captured.holder.pid == process.pid
        assert captured.holder.comm == "crasher"
        assert captured.complete
        assert captured.deleted
        assert captured.soft_errors == ()
        assert captured.held_millis is not None
        assert captured.held_millis < 1000
        core = CoreFile.from_bytes(copy.read_bytes())
        assert captured.sha256 == hashlib.sha256(copy.read_bytes()).hexdigest()
        assert core.signal is not None
        assert core.signal.signal == number
        assert core.note is not None
        assert core.note.fields.pid == process.pid
    assert process.wait() == -number
    assert list_names(directory.fd).names == ()


def test_the_mapped_files_are_open(
    snapshots: Path, directory: SnapshotDirectory, copy: Path
) -> None:
    process = crash(snapshots, CRASHER, "null_write")
    with capture(directory, found(directory), copy) as captured:
        opened = {module.path: os.fstat(module.fd) for module in captured.modules}
    process.wait()
    assert next(iter(opened)) == str(CRASHER)
    for path, status in opened.items():
        assert os.path.samestat(status, Path(path).stat())
    assert str(LIBRARY) in opened
    assert any("libc.so" in path for path in opened)


def test_mounts_elsewhere_do_not_hide_a_mapped_file(tmp_path: Path) -> None:
    """Each disturbs the look-ups that are under way, and the kernel gives those up."""
    busy = 'while :; do mount -t tmpfs busy "$1" && umount "$1"; done'
    mounting = subprocess.Popen(["unshare", "--mount", "sh", "-c", busy, "-", tmp_path])
    root = os.open("/", os.O_PATH | os.O_DIRECTORY)
    path = os.path.realpath("/usr/lib/os-release")
    try:
        for _ in range(300_000):
            os.close(openat2(root, path, os.O_PATH, Resolve.IN_ROOT | Resolve.CACHED))
    finally:
        os.close(root)
        mounting.kill()
        mounting.wait()


def test_a_replaced_program_is_not_opened_in_its_place(
    snapshots: Path, directory: SnapshotDirectory, copy: Path, tmp_path: Path
) -> None:
    program = tmp_path / "program"
    program.write_bytes(CRASHER.read_bytes())
    program.chmod(0o755)
    process = crash(snapshots, program, "null_write")
    name = found(directory)
    program.unlink()
    program.write_bytes(CRASHER.read_bytes())
    with capture(directory, name, copy) as captured:
        assert str(program) not in [module.path for module in captured.modules]
        assert any(str(program) in error for error in captured.soft_errors)
    process.wait()


def test_an_unlinked_program_swapped_for_a_fifo_blocks_nobody(
    snapshots: Path, directory: SnapshotDirectory, copy: Path, tmp_path: Path
) -> None:
    program = tmp_path / "program"
    program.write_bytes(CRASHER.read_bytes())
    program.chmod(0o755)
    process = crash(snapshots, program, "null_write")
    name = found(directory)
    program.rename(tmp_path / "elsewhere")
    os.mkfifo(program)
    with capture(directory, name, copy) as captured:
        # The kernel's maps follow the rename, so the true file is found.
        assert captured.modules[0].path == str(tmp_path / "elsewhere")
    process.wait()


def test_another_file_mounted_over_a_program_is_not_opened(
    snapshots: Path, directory: SnapshotDirectory, copy: Path, tmp_path: Path
) -> None:
    program, other = tmp_path / "program", tmp_path / "other"
    for path in (program, other):
        path.write_bytes(CRASHER.read_bytes())
        path.chmod(0o755)
    process = crash(snapshots, program, "null_write")
    name = found(directory)
    subprocess.run(["mount", "--bind", other, program], check=True)
    try:
        with capture(directory, name, copy) as captured:
            assert str(program) not in [module.path for module in captured.modules]
            assert captured.soft_errors == (f"{program}: another file than the mapped one",)
    finally:
        process.wait()
        subprocess.run(["umount", program], check=True)


def test_pid_1_of_another_namespace_is_known_by_our_pid(
    snapshots: Path, directory: SnapshotDirectory, copy: Path
) -> None:
    process = crash(snapshots, CRASHER, "null_write", before=AS_INIT)
    with capture(directory, found(directory), copy) as captured:
        holder = captured.holder
        assert holder is not None
        assert (len(holder.pids), holder.pids[-1]) == (2, 1)
        assert holder.pids[0] == holder.pid
        assert holder.pid_ns != Path("/proc/self/ns/pid").stat().st_ino
        assert captured.note is not None
        assert captured.note.fields.pid == 1
        assert captured.soft_errors == ()
        assert captured.modules[0].path == str(CRASHER)
    assert process.wait() in (-signal.SIGSEGV, 128 + signal.SIGSEGV)


def test_files_of_a_program_on_overlayfs_are_open(
    snapshots: Path, directory: SnapshotDirectory, copy: Path, tmp_path: Path
) -> None:
    # The lower layer on another filesystem than the upper: stat and maps then
    # disagree about the device.
    for part in ("upper", "work", "merged"):
        (tmp_path / part).mkdir()
    lower = snapshots.with_name(f"{snapshots.name}-lower")
    lower.mkdir()
    (lower / "crasher").write_bytes(MUSL_CRASHER.read_bytes())
    (lower / "crasher").chmod(0o755)
    layers = f"lowerdir={lower},upperdir={tmp_path}/upper,workdir={tmp_path}/work"
    merged = tmp_path / "merged"
    subprocess.run(["mount", "-t", "overlay", "overlay", "-o", layers, merged], check=True)
    try:
        process = crash(snapshots, merged / "crasher", "null_write")
        with capture(directory, found(directory), copy) as captured:
            assert captured.modules[0].path == str(merged / "crasher")
        process.wait()
    finally:
        subprocess.run(["umount", merged], check=True)
        subprocess.run(["rm", "-r", lower], check=True)


def test_files_of_a_container_are_opened_in_its_root(
    snapshots: Path, directory: SnapshotDirectory, copy: Path, tmp_path: Path
) -> None:
    root = tmp_path / "root"
    for inside, source in {
        "program": MUSL_CRASHER,
        "library.so": LIBRARY,
        str(musl_loader(MUSL_CRASHER)): musl_loader(MUSL_CRASHER),
    }.items():
        target = root / inside.lstrip("/")
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(source.read_bytes())
        target.chmod(0o755)
    for mount_point in ("old", "proc", "snapshots"):
        (root / mount_point).mkdir()
    enter = (
        f"mount --bind {root} {root} && mount --bind {snapshots} {root}/snapshots && "
        f"mount -t proc proc {root}/proc && cd {root} && pivot_root . old && "
        "LD_PRELOAD=/library.so STILLFRAME_DIR=/snapshots exec /program null_write"
    )
    process = subprocess.Popen(["unshare", "--mount", "--pid", "--fork", "sh", "-c", enter])
    with capture(directory, found(directory), copy) as captured:
        opened = {module.path: os.fstat(module.fd) for module in captured.modules}
        assert captured.soft_errors == ()
    process.wait()
    assert set(opened) == {"/program", "/library.so", str(musl_loader(MUSL_CRASHER))}
    assert os.path.samestat(opened["/program"], (root / "program").stat())


def musl_loader(program: Path) -> Path:
    text = subprocess.run(["readelf", "-l", program], capture_output=True, text=True, check=True)
    return Path(text.stdout.partition("interpreter: ")[2].partition("]")[0])


def test_a_thread_that_outlives_its_leader_is_captured(
    snapshots: Path, directory: SnapshotDirectory, copy: Path, orphan_thread: Path
) -> None:
    process = crash(snapshots, orphan_thread)
    with capture(directory, found(directory), copy) as captured:
        assert captured.holder is not None
        assert captured.holder.pid == process.pid
        assert captured.holder.tid != process.pid
        assert captured.holder.cgroup
        assert captured.modules[0].path == str(orphan_thread)
    assert process.wait() == -signal.SIGSEGV


def test_no_lock_outlives_a_capture(
    snapshots: Path, directory: SnapshotDirectory, copy: Path
) -> None:
    before = {path.name for path in Path("/proc/self/fd").iterdir()}
    process = crash(snapshots, CRASHER, "null_write")
    with capture(directory, found(directory), copy):
        pass
    process.wait()
    # Fewer when garbage of an earlier test was collected meanwhile.
    assert {path.name for path in Path("/proc/self/fd").iterdir()} <= before


def test_byte_2_is_kept_until_the_process_is_dead(
    snapshots: Path, directory: SnapshotDirectory, copy: Path, material: Path
) -> None:
    process = adversary(snapshots, "hold_core", str(material))
    name = found(directory)
    with (snapshots / name.file).open("r+b") as theirs:
        closing = threading.Thread(target=capture(directory, name, copy).close)
        closing.start()
        closing.join(0.2)  # time enough to let go too early
        question = Lock(fcntl.F_WRLCK, LOCK_DONE).pack()
        answer = fcntl.fcntl(theirs, fcntl.F_OFD_GETLK, question)
        assert Lock.unpack(answer).type == fcntl.F_RDLCK
        assert closing.is_alive()
        end(process)
        closing.join()


def test_a_process_that_does_not_die_is_not_waited_for_for_ever(
    snapshots: Path, directory: SnapshotDirectory, copy: Path, material: Path
) -> None:
    process = adversary(snapshots, "hold_core", str(material))
    with capture(directory, found(directory), copy, limits=CaptureLimits(death_timeout=0.1)):
        pass
    assert process.poll() is None
    end(process)


def test_a_stale_name_finds_the_complete_file(
    snapshots: Path, directory: SnapshotDirectory, copy: Path
) -> None:
    process = crash(snapshots, CRASHER, "null_write")
    name = wait_for(lambda: next(snapshots.glob("*.core"), None), "core").stem
    with capture(directory, SnapshotName(name, Stage.PART), copy) as captured:
        assert captured.complete
    process.wait()


def test_a_snapshot_that_was_taken_already_is_gone(
    directory: SnapshotDirectory, copy: Path
) -> None:
    with pytest.raises(FileNotFoundError):
        capture(directory, SnapshotName("0" * 32, Stage.PART), copy)


def test_a_crash_before_any_agent_is_captured_without_attestation(
    snapshots: Path, copy: Path
) -> None:
    crash(snapshots, CRASHER, "null_write").wait()
    with SnapshotDirectory.open(snapshots) as directory:
        with capture(directory, found(directory), copy) as captured:
            assert not captured.attested
            assert captured.complete
            assert captured.held_millis is None
            assert captured.modules == ()
        assert list_names(directory.fd).names == ()


def test_a_process_killed_while_it_writes_leaves_what_can_be_read(
    snapshots: Path, directory: SnapshotDirectory, copy: Path, material: Path, tmp_path: Path
) -> None:
    beginning = tmp_path / "beginning"
    beginning.write_bytes(material.read_bytes()[:-4096])
    process = adversary(snapshots, "hold_part", str(beginning))
    name = found(directory)
    end(process)
    with capture(directory, name, copy) as captured:
        assert not captured.complete
        assert not captured.attested
        assert captured.bytes == material.stat().st_size - 4096
    assert list_names(directory.fd).names == ()


def test_a_process_killed_after_the_claim_is_still_known(
    snapshots: Path, directory: SnapshotDirectory, copy: Path, material: Path
) -> None:
    process = adversary(snapshots, "hold_part", str(material))
    ticks = iter(range(0, 1 << 40, 1000))

    def kill_in_time() -> int:
        end(process) if process.poll() is None else None
        return next(ticks)

    with capture(directory, found(directory), copy, clock=kill_in_time) as captured:
        assert captured.holder is not None
        assert captured.holder.pid == process.pid
        assert not captured.complete


def test_an_agent_killed_while_it_holds_sets_the_process_free(snapshots: Path) -> None:
    agent = subprocess.Popen(
        [sys.executable, "-m", "tests.integration.capture.holding_agent", snapshots],
        stdout=subprocess.PIPE,
        cwd=ROOT,
    )
    assert agent.stdout is not None
    assert agent.stdout.readline() == b"watching\n"
    process = crash(snapshots, CRASHER, "null_write", HOLD_MS="20000")
    assert agent.stdout.readline() == b"holding\n"
    assert process.poll() is None
    killed = time.monotonic()
    agent.kill()
    assert process.wait() == -signal.SIGSEGV
    agent.communicate()
    (path,) = snapshots.iterdir()
    note = CoreFile.from_bytes(path.read_bytes()).note
    assert note is not None
    assert note.fields.release_monotonic_ns / 1e9 - killed < 0.05


def test_a_full_disk_of_ours_is_temporary_and_keeps_the_original(
    snapshots: Path, directory: SnapshotDirectory, tmp_path: Path
) -> None:
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=16k", "tmpfs", tmp_path], check=True)
    try:
        process = crash(snapshots, CRASHER, "null_write")
        name = found(directory)
        with pytest.raises(TemporaryError, match="No space left"):
            capture(directory, name, tmp_path / "snapshot.core")
        assert list(tmp_path.iterdir()) == []
    finally:
        subprocess.run(["umount", tmp_path], check=True)
    assert process.wait() == -signal.SIGSEGV
    assert [found.id for found in list_names(directory.fd).names] == [name.id]


def test_twenty_crashes_at_once_are_twenty_captures(
    snapshots: Path, directory: SnapshotDirectory, copy: Path
) -> None:
    processes = {crash(snapshots, CRASHER, "null_write") for _ in range(20)}
    pids = set()
    while len(pids) < 20:
        name = found(directory)
        with capture(directory, name, copy.with_name(name.id)) as captured:
            assert captured.note is not None
            pids.add(captured.note.fields.pid)
    assert {process.wait() for process in processes} == {-signal.SIGSEGV}
    assert pids == {process.pid for process in processes}


def test_the_limit_holds_for_a_snapshot_that_is_honest(
    snapshots: Path, directory: SnapshotDirectory, copy: Path
) -> None:
    process = crash(snapshots, CRASHER, "null_write")
    with pytest.raises(InvalidInputError) as caught:
        capture(directory, found(directory), copy, limits=CaptureLimits(max_bytes=4096))
    assert caught.value.reason == "TooLarge"
    assert process.wait() == -signal.SIGSEGV
