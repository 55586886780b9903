"""Bad places to crash in: a smaller valid snapshot or none, never another exit status.

- a volume that is full, nearly full, read-only, not ours
- a memory limit close by
- a size cap
- no /proc, not dumpable, no descriptors, a seccomp filter that says EPERM
"""

import errno
import os
import re
import signal
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from elftools.elf.elffile import ELFFile

from tests.integration.preload.conftest import LIBRARY, Outcome, Stage
from tests.integration.preload.snapshot import Flag, Snapshot

SEGV = -signal.SIGSEGV
MEMORY = Path("/sys/fs/cgroup/memory")


def in_mount_namespace(script: str, command: list[str]) -> list[str]:
    """Runs ``script`` there; its "$@" is ``command``."""
    return ["unshare", "--mount", "sh", "-c", script, "sh", *command]


def run(stage: Stage, script: str, way: str, *arguments: str, init: bool = True) -> Outcome:
    """Runs a crasher after ``script`` in a mount namespace; "$@" is the crasher."""
    command = stage.command("glibc", way, *arguments, library=True, init=init)
    done = subprocess.run(
        in_mount_namespace(script, command),
        env=stage.environment(),
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    return Outcome(done.returncode, done.stderr, stage.snapshots("glibc"))


def on_tmpfs(stage: Stage, size: str, fill: str, way: str, *arguments: str) -> Outcome:
    """On a tmpfs of that size, of which ``fill`` is used; its files are copied out."""
    kept = stage.directory.parent / "kept"
    kept.mkdir()
    script = f"""
        mount -t tmpfs -o size={size},mode=1777 none "$STILLFRAME_DIR" || exit 90
        head -c {fill} /dev/zero > "$STILLFRAME_DIR/filler" || exit 91
        "$@"; status=$?
        rm "$STILLFRAME_DIR/filler"
        cp -a "$STILLFRAME_DIR/." {kept}
        exit $status
    """
    done = run(stage, script, way, *arguments)
    return Outcome(done.status, done.stderr, replace(stage, directory=kept).snapshots("glibc"))


def kept_names(stage: Stage) -> list[str]:
    return [path.name for path in (stage.directory.parent / "kept").iterdir()]


@pytest.mark.parametrize(
    ("size", "fill", "threads", "least"),
    [
        ("64m", "0", 20, Flag(0)),
        ("1536k", "1m", 20, Flag.TRUNCATED),
        ("640k", "192k", 100, Flag.TRUNCATED | Flag.LOW_MEMORY),
        ("128k", "32k", 20, Flag.TRUNCATED | Flag.LOW_MEMORY | Flag.REGISTERS_ONLY),
    ],
)
def test_snapshot_shrinks_with_the_volume(
    stage: Stage, size: str, fill: str, threads: int, least: Flag
) -> None:
    captured = on_tmpfs(stage, size, fill, "with_threads", str(threads))
    snapshot = captured.snapshot

    assert captured.status == 128 + signal.SIGSEGV
    assert snapshot.flags & ~Flag.INIT_PROCESS == least
    assert snapshot.registers()
    assert opens(snapshot)
    if Flag.REGISTERS_ONLY not in least:
        assert snapshot.gdb_frames()[0].function == "null_read"
        assert snapshot.drgn_frames()[:2] == snapshot.gdb_frames()[:2]


def opens(snapshot: Snapshot) -> bool:
    """A whole ELF file: every segment lies inside it."""
    with snapshot.path.open("rb") as file:
        ends = [s["p_offset"] + s["p_filesz"] for s in ELFFile(file).iter_segments()]
    return max(ends) <= snapshot.path.stat().st_size


@pytest.mark.parametrize(("size", "fill"), [("64k", "64k"), ("64k", "48k")])
def test_full_volume_gives_no_snapshot_and_no_leftover(stage: Stage, size: str, fill: str) -> None:
    captured = on_tmpfs(stage, size, fill, "with_threads", "3")

    assert captured.status == 128 + signal.SIGSEGV
    assert kept_names(stage) == []


@pytest.mark.parametrize("way", ["null_read", "with_threads"])
def test_read_only_volume_gives_no_snapshot(stage: Stage, way: str) -> None:
    script = 'mount -t tmpfs -o ro none "$STILLFRAME_DIR" && "$@"'
    captured = run(stage, script, way)

    assert captured.status == SEGV or captured.status == 128 + signal.SIGSEGV
    assert captured.snapshots == []


def test_directory_of_another_user_gives_no_snapshot(stage: Stage) -> None:
    stage.directory.chmod(0o755)
    captured = run(stage, 'setpriv --reuid 1000 --clear-groups "$@"', "null_read", init=False)

    assert captured.status == 128 + signal.SIGSEGV
    assert list(stage.directory.iterdir()) == []


@pytest.fixture
def memory_cgroup() -> Iterator[Path]:
    """A cgroup with its own memory limit, as a container sees it."""
    group = MEMORY / f"stillframe-test-{os.getpid()}"
    group.mkdir()
    yield group
    group.rmdir()


@pytest.mark.parametrize("left_kib", [64, 128, 192, 256, 320, 640, 2048])
def test_memory_limit_close_by_does_not_change_the_death(
    stage: Stage, memory_cgroup: Path, left_kib: int
) -> None:
    """The crasher takes all memory but that much first: 139 natively must stay 139."""
    limit = 64 << 20
    (memory_cgroup / "memory.limit_in_bytes").write_text(str(limit))
    script = f"""
        mount --bind {memory_cgroup} {MEMORY} || exit 90
        mount -t tmpfs -o mode=1777 none "$STILLFRAME_DIR" || exit 91
        echo $$ > {MEMORY}/cgroup.procs || exit 92
        exec "$@"
    """
    statuses = {
        library: subprocess.run(
            in_mount_namespace(
                script,
                stage.command("glibc", "hog", str(left_kib), library=library, init=False),
            ),
            env=stage.environment(),
            check=False,
            timeout=60,
        ).returncode
        for library in (False, True)
    }

    assert statuses == {False: SEGV, True: SEGV}


def test_size_cap_keeps_the_crashing_thread(stage: Stage) -> None:
    whole = stage.run("glibc", "with_threads", "40").snapshot
    assert whole.path.stat().st_size > 256 << 10
    stage.clear()
    capped = stage.run("glibc", "with_threads", "40", MAX_BYTES=str(200 << 10)).snapshot

    assert capped.path.stat().st_size <= 200 << 10
    assert Flag.TRUNCATED in capped.flags
    assert capped.gdb_frames()[0].function == "null_read"
    assert len(capped.tids()) == 41


def test_process_without_proc_still_has_registers_and_stack(stage: Stage) -> None:
    captured = run(stage, 'mount -t tmpfs none /proc && exec "$@"', "null_read", init=False)

    assert captured.status == SEGV
    assert len(captured.snapshot.registers()) == 1
    assert captured.snapshot.gdb_frames()[0].function == "null_read"
    assert captured.snapshot.gdb_frames()[1].function == "main"


@pytest.mark.parametrize("libc", ["glibc", "musl"])
def test_process_that_is_not_dumpable_is_captured_whole(stage: Stage, libc: str) -> None:
    """An unprivileged one: its /proc files belong to root."""
    for parent in [stage.directory, *stage.directory.parents]:
        if Path("/tmp") in parent.parents:
            parent.chmod(0o777)
    command = stage.command(libc, "not_dumpable", library=True, init=False)
    status = subprocess.run(
        ["setpriv", "--reuid", "1000", "--regid", "1000", "--clear-groups", *command],
        env=stage.environment(),
        check=False,
        timeout=30,
    ).returncode
    (snapshot,) = stage.snapshots(libc)

    assert status == SEGV
    assert [f.function for f in snapshot.gdb_frames()][:2] == ["not_dumpable", "main"]
    assert snapshot.drgn_frames()[0].function == "not_dumpable"


def test_filter_that_forbids_our_calls_changes_nothing(stage: Stage) -> None:
    """EPERM for close_range, process_vm_readv, prctl, tgkill and the signal queue."""
    natively = stage.run("glibc", "forbidding_filter", library=False)
    captured = stage.run("glibc", "forbidding_filter")

    assert captured.status == natively.status == SEGV
    assert Flag.FD_TABLE_SHARED in captured.snapshot.flags
    assert captured.snapshot.gdb_frames()[0].function == "null_read"


HALF_READABLE_FILTER = """
import ctypes, mmap
libc = ctypes.CDLL(None, use_errno=True)
libc.mmap.restype = ctypes.c_void_p
libc.mmap.argtypes = [ctypes.c_void_p, *5 * [ctypes.c_long]]
pages = libc.mmap(None, 3 * 4096, 3, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS, -1, 0)
libc.mprotect(ctypes.c_void_p(pages + 4096), 4096, 0)
program = (ctypes.c_uint64 * 2)(3 * 4096 // 8, pages)
libc.prctl(38, 1, 0, 0, 0)
print(libc.prctl(22, 2, ctypes.byref(program), 0, 0), ctypes.get_errno())
"""
"""A program with a page in its middle that nobody can read."""


def test_filter_that_cannot_be_read_is_the_kernels_to_refuse(stage: Stage) -> None:
    natively, captured = (
        subprocess.run(
            ["env", *preload, "/usr/bin/python3", "-c", HALF_READABLE_FILTER],
            env=stage.environment(),
            capture_output=True,
            text=True,
            check=False,
        )
        for preload in ((), (f"LD_PRELOAD={LIBRARY}",))
    )

    assert natively.stdout == f"-1 {errno.EFAULT}\n"
    assert (captured.returncode, captured.stdout) == (natively.returncode, natively.stdout)


def test_library_makes_no_system_call_in_a_healthy_process(stage: Stage) -> None:
    """One for each thread; at start-up a disposition for each signal, a stack, a page, our pid."""
    natively, captured = (
        stage.system_calls("glibc", "threads_that_end", "50", library=library)
        for library in (False, True)
    )
    extra = captured - natively
    started = captured["clone3"] + captured["clone"]

    assert started >= 50
    assert extra.pop("sigaltstack") == started + 1
    assert extra.pop("rt_sigaction") == 7
    assert extra.pop("getpid") == 1
    for chance in ("futex", "madvise"):  # how often threads wait for each other
        extra.pop(chance, None)
    # Mapping the library.
    assert extra.keys() <= {"openat", "read", "newfstatat", "mmap", "mprotect", "close"}
    assert extra.total() <= 9


def test_default_directory_is_made_in_dev_shm(stage: Stage) -> None:
    script = 'mount -t tmpfs none /dev/shm && unset STILLFRAME_DIR && "$@"; ls /dev/shm/stillframe'
    command = stage.command("glibc", "null_read", library=True, init=True)
    names = subprocess.run(
        in_mount_namespace(script, command),
        env=stage.environment(),
        capture_output=True,
        text=True,
        check=True,
    ).stdout

    assert re.fullmatch(r"[0-9a-f]{32}\.core\n", names)
