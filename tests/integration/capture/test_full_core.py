"""Full cores of real crashes, judged by debuggers.

What is in them and what never is, threads that the snapshot misses, processes
that are refused, cores that are cut, and deaths in the middle.
"""

import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from stillframe.capture.corejob import GRACE_SECONDS, Compression
from stillframe.capture.fullcore import CoreRequest
from stillframe.capture.handover import SnapshotDirectory
from stillframe.capture.pipeline import Capture, capture
from stillframe.capture.standby import Standby
from stillframe.corefile import CoreFile, Flag
from tests.integration.capture.crash import CRASHER, ROOT, SECONDS, crash, end, found, wait_for
from tests.support.oracles import drgn_frames, eu_stack_frames, gdb_frames, lldb_frames
from tests.support.zstdfile import decompress

REQUEST = CoreRequest(hold_seconds=15, max_bytes=1 << 30)
HOLD = {"HOLD_MS": "20000", "CLAIM_MS": "10000"}
HIDDEN = (b"neverdumped", b"thesecretkey", b"onlyinthisprocess")
READERS = {
    "gdb": gdb_frames,
    "eu-stack": eu_stack_frames,
    "drgn": drgn_frames,
    "lldb": lldb_frames,
}
Frames = Callable[[Path, Path], list[str]]


@dataclass(frozen=True)
class Taken:
    status: int
    core: Path | None
    """As debuggers open it."""
    compressed: int
    soft_errors: tuple[str, ...]
    held_millis: int | None

    @property
    def file(self) -> CoreFile:
        assert self.core is not None, self.soft_errors
        return CoreFile.from_bytes(self.core.read_bytes())


@pytest.fixture(scope="module")
def memories(tmp_path_factory: pytest.TempPathFactory) -> Path:
    program = tmp_path_factory.mktemp("program") / "memories"
    source = Path(__file__).with_name("memories.c")
    flags = ["-g", "-O1", "-pthread", "-I", ROOT / "preload/include"]
    subprocess.run(["gcc", *flags, source, "-o", program], check=True)
    return program


@pytest.fixture(name="take")
def take_(tmp_path: Path) -> Callable[..., Taken]:
    """Crashes a command and takes its core; ``meanwhile`` is done to the held process first."""

    def take(
        *command: str | Path,
        request: CoreRequest = REQUEST,
        meanwhile: Callable[[int], AbstractContextManager[object]] = nullcontext,
        before: tuple[str, ...] = (),
    ) -> Taken:
        directory, evidence = tmp_path / "snapshots", tmp_path / "evidence"
        directory.mkdir()
        evidence.mkdir()
        with SnapshotDirectory.open(directory) as snapshots:
            process = crash(directory, *command, before=before, **HOLD)
            name = found(snapshots)
            with meanwhile(process.pid):
                taken = capture(snapshots, name, evidence / "snapshot.core", core=lambda _: request)
            with taken:
                return _taken(process.wait(SECONDS), evidence, taken)

    return take


def _taken(status: int, evidence: Path, taken: Capture) -> Taken:
    kept = {path.name for path in evidence.iterdir()} - {"snapshot.core"}
    assert kept == ({taken.core.name} if taken.core else set())
    if taken.core is None:
        return Taken(status, None, 0, taken.soft_errors, taken.held_millis)
    stored = evidence / taken.core.name
    assert taken.core.bytes == stored.stat().st_size
    core = stored
    if stored.suffix == ".zst":
        core = decompress(stored, stored.with_suffix(""))
    return Taken(status, core, taken.core.bytes, taken.soft_errors, taken.held_millis)


def gdb(program: Path, core: Path, *commands: str) -> str:
    words = [word for command in commands for word in ("-ex", command)]
    done = subprocess.run(
        ["gdb", "-batch", "-nx", "-iex", "set debuginfod enabled off", *words, program, "-c", core],
        capture_output=True,
        text=True,
        check=False,
    )
    return done.stdout


@pytest.mark.parametrize("frames", READERS.values(), ids=READERS)
def test_debuggers_find_the_fault_on_top(take: Callable[..., Taken], frames: Frames) -> None:
    taken = take(CRASHER, "with_threads", "50")
    assert taken.status == -signal.SIGSEGV
    assert taken.core is not None, taken.soft_errors
    assert taken.soft_errors == ()
    assert frames(CRASHER, taken.core)[:3] == ["null_read", "with_threads", "main"]
    assert len(taken.file.threads) == 51


def test_memory_of_every_kind(take: Callable[..., Taken], memories: Path) -> None:
    taken = take(memories)
    assert taken.status == -signal.SIGSEGV
    assert taken.core is not None, taken.soft_errors
    assert taken.soft_errors == ()
    texts = {
        "heap": "on the heap",
        "sparse": "first",
        "sparse + (1 << 29)": "middle",
        "sparse + (1 << 30) - 4096": "last",
        "unreadable": "behind PROT_NONE",
        "monitored": "filled by a monitor",
        "shared": "shared with children",
        "private_copy": "changed in a private mapping",
        "secret": "",
    }
    output = gdb(memories, taken.core, *(f"x/s {expression}" for expression in texts))
    assert re.findall(r'^0x[0-9a-f]+.*:\t"(.*)"$', output, re.MULTILINE) == list(texts.values())


def test_what_a_core_must_not_hold_is_nowhere_in_it(
    take: Callable[..., Taken], memories: Path
) -> None:
    taken = take(memories)
    assert taken.core is not None, taken.soft_errors
    content = taken.core.read_bytes()
    assert b"on the heap" in content
    assert not [text for text in HIDDEN if text in content]


def test_untouched_memory_and_unchanged_file_pages_take_no_room(
    take: Callable[..., Taken], memories: Path
) -> None:
    taken = take(memories)
    assert taken.core is not None, taken.soft_errors
    assert taken.core.stat().st_size < 4 << 20
    assert taken.compressed < 1 << 20
    core = taken.file
    output = gdb(memories, taken.core, "p/x (unsigned long)file_page")
    address = _value(output)
    assert core.read(address, 1) == b""


def test_a_core_that_is_not_compressed_opens_as_it_is(
    take: Callable[..., Taken], memories: Path
) -> None:
    plain = CoreRequest(hold_seconds=15, max_bytes=1 << 30, compression=Compression.NONE)
    taken = take(memories, request=plain)
    assert taken.core is not None, taken.soft_errors
    assert taken.core.name == "full.core"
    assert gdb_frames(memories, taken.core)[:2] == ["crash", "main"]
    assert '"on the heap"' in gdb(memories, taken.core, "x/s heap")


def test_nobody_waits_for_a_fuse_server_that_is_silent(
    take: Callable[..., Taken], memories: Path, silent_file: Path
) -> None:
    """Neither the library, nor the core's reader, nor whoever opens the process's modules."""
    taken = take(memories, "file", silent_file)
    assert taken.status == -signal.SIGSEGV
    assert taken.core is not None, taken.soft_errors
    assert taken.soft_errors == ()
    address = _value(gdb(memories, taken.core, "p/x (unsigned long)foreign"))
    assert taken.file.read(address, 1) == b""


@pytest.fixture
def huge_pages() -> Iterator[None]:
    """Two more of hugetlb's pages, for the length of a test."""
    pool = Path("/proc/sys/vm/nr_hugepages")
    before = int(pool.read_text())
    pool.write_text(str(before + 2))
    try:
        assert int(pool.read_text()) == before + 2, "no memory for huge pages"
        yield
    finally:
        pool.write_text(str(before))


@pytest.mark.usefixtures("huge_pages")
def test_pages_of_hugetlb_are_in_the_core(take: Callable[..., Taken], memories: Path) -> None:
    taken = take(memories, "huge")
    assert taken.core is not None, taken.soft_errors
    assert taken.soft_errors == ()
    assert '"on a huge page"' in gdb(memories, taken.core, "x/s huge")


def test_page_frames_that_the_kernel_lends_are_not_in_the_core(
    take: Callable[..., Taken], memories: Path
) -> None:
    """``[vvar]`` is such a mapping (``VM_PFNMAP``): a read of a device's may never end."""
    found: list[int] = []

    @contextmanager
    def look(pid: int) -> Iterator[None]:
        lines = Path(f"/proc/{pid}/maps").read_text().splitlines()
        found.extend(int(line.split("-")[0], 16) for line in lines if "[vvar" in line)
        yield

    taken = take(memories, meanwhile=look)
    assert found
    assert [taken.file.segment_at(address) for address in found] == [None] * len(found)


def test_the_processes_coredump_filter_is_obeyed(
    take: Callable[..., Taken], memories: Path
) -> None:
    script = 'echo 0x31 > /proc/self/coredump_filter; exec "$@"'
    taken = take(memories, before=("sh", "-c", script, "sh"))
    assert taken.core is not None, taken.soft_errors
    content = taken.core.read_bytes()
    assert b"on the heap" in content
    assert b"shared with children" not in content


def test_pystack_shows_the_python_functions(take: Callable[..., Taken]) -> None:
    program = "import ctypes\ndef reads_null():\n    ctypes.string_at(0)\nreads_null()"
    taken = take(sys.executable, "-c", program)
    assert taken.status == -signal.SIGSEGV
    assert taken.core is not None, taken.soft_errors
    python = Path(sys.executable).resolve()
    pystack = [Path(sys.executable).with_name("pystack"), "core", taken.core, python]
    done = subprocess.run(pystack, capture_output=True, text=True, check=False)
    assert "in reads_null" in done.stdout, done.stderr


def _value(output: str) -> int:
    return int(output.split("$1 = ")[1].split(maxsplit=1)[0], 16)


def test_a_thread_that_the_library_could_not_park_is_in_the_core(
    take: Callable[..., Taken], memories: Path
) -> None:
    taken = take(memories, "masked")
    assert taken.core is not None, taken.soft_errors
    assert len(taken.file.threads) == 2
    assert not Flag(taken.file.note.fields.flags) & Flag.THREADS_MISSED  # type: ignore[union-attr]
    output = gdb(memories, taken.core, "thread apply all bt", "thread 2", "p $ymm0")
    assert "wait_masked" in output
    assert "v8_float" in output  # the vector registers are there


def test_a_thread_inside_vfork_is_listed(take: Callable[..., Taken], memories: Path) -> None:
    taken = take(memories, "vfork")
    assert taken.status == -signal.SIGSEGV
    assert taken.core is not None, taken.soft_errors
    assert any("1 threads did not stop in time" in line for line in taken.soft_errors)
    assert Flag(taken.file.note.fields.flags) & Flag.THREADS_MISSED  # type: ignore[union-attr]
    assert gdb_frames(memories, taken.core)[:2] == ["crash", "main"]


def test_a_process_whose_first_thread_has_ended(take: Callable[..., Taken], memories: Path) -> None:
    taken = take(memories, "leaderless")
    assert taken.status == -signal.SIGSEGV
    assert taken.core is not None, taken.soft_errors
    assert gdb_frames(memories, taken.core)[:2] == ["crash", "crash_without_leader"]
    assert '"on the heap"' in gdb(memories, taken.core, "x/s heap")


def test_a_core_that_is_cut_is_valid_and_says_so(
    take: Callable[..., Taken], memories: Path
) -> None:
    taken = take(memories, "large", "64", request=CoreRequest(hold_seconds=15, max_bytes=8 << 20))
    assert taken.status == -signal.SIGSEGV
    assert taken.core is not None, taken.soft_errors
    assert taken.compressed < 12 << 20
    assert any("truncated" in line for line in taken.soft_errors)
    assert Flag(taken.file.note.fields.flags) & Flag.TRUNCATED  # type: ignore[union-attr]
    assert not taken.file.truncated
    for reader, frames in READERS.items():
        assert frames(memories, taken.core)[:2] == ["crash", "main"], reader


def test_a_core_that_is_late_is_cut_valid_and_the_hold_is_over(
    take: Callable[..., Taken], memories: Path
) -> None:
    """One processor cannot compress a GiB of noise in three quarters of a second."""
    standby = Standby()
    processors = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(processors)})
    try:
        standby.prepare()  # on that processor
        request = CoreRequest(hold_seconds=1, max_bytes=4 << 30, standby=standby)
        taken = take(
            memories, "large", "1024", request=request, before=("taskset", "-c", _all(processors))
        )
    finally:
        os.sched_setaffinity(0, processors)
    assert taken.status == -signal.SIGSEGV
    assert taken.core is not None, taken.soft_errors
    assert any("time to hold the process was over" in line for line in taken.soft_errors)
    assert Flag(taken.file.note.fields.flags) & Flag.TRUNCATED  # type: ignore[union-attr]
    assert not taken.file.truncated
    assert gdb_frames(memories, taken.core)[:2] == ["crash", "main"]
    assert taken.held_millis is not None
    assert taken.held_millis <= (request.hold_seconds + GRACE_SECONDS) * 1000


def _all(processors: set[int]) -> str:
    return ",".join(map(str, processors))


def test_a_process_without_time_to_wait_has_its_snapshot_only(
    take: Callable[..., Taken], memories: Path
) -> None:
    taken = take(memories, request=CoreRequest(hold_seconds=0, max_bytes=1 << 30))
    assert taken.status == -signal.SIGSEGV
    assert taken.core is None
    assert any("time to hold the process was over" in line for line in taken.soft_errors)


@contextmanager
def traced(pid: int) -> Iterator[None]:
    script = Path(__file__).with_name("seize.py")
    tracer = subprocess.Popen(
        [sys.executable, script, str(pid)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    try:
        assert tracer.stdout is not None
        assert tracer.stdout.readline() == b"ready\n"
        yield
    finally:
        end(tracer)


def test_a_process_with_a_tracer_has_its_snapshot_only(
    take: Callable[..., Taken], memories: Path
) -> None:
    taken = take(memories, meanwhile=traced)
    assert taken.status == -signal.SIGSEGV
    assert taken.core is None
    assert any("traces it already" in line for line in taken.soft_errors)


def test_a_process_that_is_not_dumpable_has_its_snapshot_only(
    tmp_path: Path, memories: Path
) -> None:
    evidence = tmp_path / "evidence"
    evidence.mkdir()
    with TemporaryDirectory(dir="/dev/shm") as public:
        Path(public).chmod(0o777)
        program = shutil.copy(memories, public)
        user = ("setpriv", "--reuid", "1000", "--regid", "1000", "--clear-groups")
        with SnapshotDirectory.open(Path(public)) as snapshots:
            process = crash(Path(public), program, "undumpable", before=user, **HOLD)
            name = found(snapshots)
            with capture(
                snapshots, name, evidence / "snapshot.core", core=lambda _: REQUEST
            ) as taken:
                assert process.wait(SECONDS) == -signal.SIGSEGV
    assert taken.attested
    assert taken.core is None
    assert any("not dumpable" in line for line in taken.soft_errors)


def tracers() -> list[int]:
    """Tracers and readers that run now."""
    pids = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                line = (entry / "cmdline").read_bytes()
            except OSError:
                continue
            if b"stillframe.capture.tracer" in line:
                pids.append(int(entry.name))
    return pids


def mine(parent: int) -> Iterator[int]:
    for pid in tracers():
        try:
            stat = Path(f"/proc/{pid}/stat").read_text()
        except OSError:
            continue
        if int(stat.rpartition(")")[2].split()[1]) == parent:
            yield pid


class Agent:
    """An agent in a process of its own that takes the core of a large process."""

    def __init__(self, place: Path, memories: Path, hold: str) -> None:
        directory, self.evidence = place / "snapshots", place / "evidence"
        directory.mkdir()
        self.evidence.mkdir()
        script = Path(__file__).with_name("core_agent.py")
        self.process = subprocess.Popen(
            [sys.executable, script, directory, self.evidence, hold],
            stdout=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(path or "." for path in sys.path)},
            cwd=ROOT,
        )
        assert self.process.stdout is not None
        assert self.process.stdout.readline() == b"ready\n"
        self.victim = crash(directory, memories, "large", "512", **HOLD)
        self.tracer = wait_for(lambda: next(mine(self.process.pid), None), "tracer")
        self.reader = wait_for(lambda: next(mine(self.tracer), None), "reader")
        # From its first bytes on it is bound to its tracer.
        core = self.evidence / ".full.core.zst.tmp"
        wait_for(lambda: core.stat().st_size, "beginning of the core")

    def finish(self) -> str:
        """What the agent said, once all have ended and the process has died its death."""
        assert self.victim.wait(timeout=10) == -signal.SIGSEGV
        words = self.process.communicate()[0].decode()
        wait_for(lambda: not {self.tracer, self.reader} & set(tracers()), "end of both")
        return words


@pytest.mark.parametrize("dead", ["agent", "tracer", "reader"])
def test_a_death_in_the_middle_leaves_the_process_to_finish_dying(
    tmp_path: Path, memories: Path, dead: str
) -> None:
    agent = Agent(tmp_path, memories, hold="20")
    pids = {"agent": agent.process.pid, "tracer": agent.tracer, "reader": agent.reader}
    if dead != "reader":
        os.kill(agent.reader, signal.SIGSTOP)  # it never ends by itself
    os.kill(pids[dead], signal.SIGKILL)
    words = agent.finish()
    if dead != "agent":
        assert "no full core" in words
        assert [path.name for path in agent.evidence.iterdir()] == ["snapshot.core"]


def test_a_reader_that_hangs_is_left_behind(tmp_path: Path, memories: Path) -> None:
    agent = Agent(tmp_path, memories, hold="2")
    os.kill(agent.reader, signal.SIGSTOP)
    assert "no full core: reading the memory hung" in agent.finish()
    assert [path.name for path in agent.evidence.iterdir()] == ["snapshot.core"]


def test_only_a_process_that_maps_our_library_is_read(tmp_path: Path) -> None:
    """A snapshot's lock survives exec: who holds it may be another program by now."""
    directory, evidence = tmp_path / "snapshots", tmp_path / "evidence"
    directory.mkdir()
    evidence.mkdir()
    snapshot = take_snapshot(tmp_path)
    name = directory / ("a" * 32 + ".core")
    script = (
        "import fcntl, os, sys\n"
        "fd = os.open(sys.argv[1], os.O_RDWR)\n"
        "fcntl.lockf(fd, fcntl.LOCK_EX, 1, 0)\n"
        "os.set_inheritable(fd, True)\n"
        "print('ready', flush=True)\n"
        "sys.stdin.read()\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", _COPY + script, name, snapshot],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"ready\n"
        with SnapshotDirectory.open(directory) as snapshots:
            taken = capture(
                snapshots, found(snapshots), evidence / "snapshot.core", core=lambda _: REQUEST
            )
            end(holder)
            taken.close()
    assert taken.core is None
    assert any("has not mapped our library" in line for line in taken.soft_errors)


_COPY = "import shutil, sys; shutil.copyfile(sys.argv[2], sys.argv[1])\n"


def take_snapshot(place: Path) -> Path:
    directory = place / "other"
    directory.mkdir()
    crash(directory, CRASHER, "null_read").wait()
    (snapshot,) = directory.glob("*.core")
    return snapshot
