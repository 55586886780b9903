"""The snapshot is an ELF core.

- gdb, eu-stack and drgn open it and agree on the top frames, with file:line
- it holds what only the moment knows: registers as in the kernel's own core, signal, threads
- its shape: Linux OSABI, page-aligned and disjoint PT_LOADs, every mapping listed
"""

import re
import struct
import subprocess
import time
from itertools import pairwise
from pathlib import Path

import pytest
from elftools.elf.elffile import ELFFile
from elftools.elf.sections import SymbolTableSection

from tests.integration.preload.conftest import NO_CORE, Stage
from tests.integration.preload.snapshot import Flag, Frame, description_of, notes, registers
from tests.integration.preload.stand_in import StandIn

LIBCS = ("glibc", "glibc-nopie", "musl")
CORE_PATTERN = Path("/proc/sys/kernel/core_pattern")
SOURCES = Path(__file__).parents[2] / "crashers"

TOP_FUNCTION = {
    "null_read": "null_read",
    "null_write": "null_write",
    "wild": "wild",
    "non_canonical": "non_canonical",
    "ro_write": "ro_write",
    "bus": "bus",
    "ill": "ill",
    "div0": "div0",
    "overflow_main": "recurse",
    "overflow_thread": "recurse",
    "overflow_supplied_stack": "recurse",
    "thread_segv": "null_read",
    "with_threads": "null_read",
}
FROM_LIBC = ("abort_call", "assert_false", "kill_self", "seccomp_trap")
"""Die inside libc: unwinding needs its CFI, which musl has not."""


def is_in(frame: Frame, function: str) -> bool:
    """Whether a frame is on a line of a function, which is defined at the left margin."""
    lines = (SOURCES / frame.file).read_text().splitlines()
    start = next(n for n, line in enumerate(lines, 1) if re.match(rf"\S.*\b{function}\(", line))
    return frame.line in range(start, lines.index("}", start) + 2)


def ours(frames: list[Frame]) -> list[Frame]:
    """Frames in the crasher's sources, innermost first."""
    sources = {path.name for path in SOURCES.glob("*.c")}
    return [frame for frame in frames if frame.file in sources]


@pytest.mark.parametrize("libc", LIBCS)
@pytest.mark.parametrize("way", TOP_FUNCTION)
def test_debuggers_agree_on_the_top_frames(stage: Stage, libc: str, way: str) -> None:
    snapshot = stage.run(libc, way).snapshot
    gdb, eu_stack, drgn = (
        snapshot.gdb_frames(),
        snapshot.eu_stack_frames(),
        snapshot.drgn_frames(),
    )

    assert gdb[0].function == TOP_FUNCTION[way]
    assert is_in(gdb[0], TOP_FUNCTION[way])
    assert len(ours(gdb)) >= 2
    assert ours(gdb) == ours(eu_stack) == ours(drgn)


@pytest.mark.parametrize("libc", ["glibc", "glibc-nopie"])
@pytest.mark.parametrize("way", FROM_LIBC)
def test_debuggers_unwind_through_libc(stage: Stage, libc: str, way: str) -> None:
    snapshot = stage.run(libc, way).snapshot
    gdb = ours(snapshot.gdb_frames())

    assert [frame.function for frame in gdb] == [way, "main"]
    assert gdb == ours(snapshot.eu_stack_frames()) == ours(snapshot.drgn_frames())


def test_call_of_null_shows_its_caller(stage: Stage) -> None:
    """pc is 0, so there is no CFI: gdb alone knows to take the return address."""
    frames = stage.run("glibc", "call_null").snapshot.gdb_frames()

    assert "call_null" in [frame.function for frame in frames]


@pytest.mark.parametrize("libc", LIBCS)
def test_registers_and_siginfo_equal_the_kernels_core(
    stage: Stage, libc: str, tmp_path: Path
) -> None:
    pattern = CORE_PATTERN.read_text().strip()
    assert pattern[0] not in "|@/", f"needs kernel.core_pattern=core, it is {pattern!r}"
    crasher = stage.command(libc, "with_threads", library=True, init=False)
    subprocess.run(
        ["prlimit", "--core=unlimited", *crasher[len(NO_CORE) :]],
        env=stage.environment(),
        cwd=tmp_path,
        check=False,
        timeout=30,
    )
    (snapshot,) = stage.snapshots(libc)
    (kernel_core,) = tmp_path.glob("core*")

    ours, theirs = registers(snapshot.path), registers(kernel_core)
    assert len(ours) == 5
    assert without_orig_rax(ours[0]) == without_orig_rax(theirs[0])
    assert signals(snapshot.path) == signals(kernel_core)
    assert description_of(snapshot.path, "NT_SIGINFO") == description_of(kernel_core, "NT_SIGINFO")
    assert auxv(snapshot.path) == auxv(kernel_core)


def signals(core: Path) -> list[bytes]:
    """si_signo, si_code, si_errno and pr_cursig of each thread; gdb believes the last."""
    return [d[:14] for owner, kind, d in notes(core) if (owner, kind) == ("CORE", "NT_PRSTATUS")]


def without_orig_rax(values: tuple[int, ...]) -> tuple[int, ...]:
    """The kernel's entry code leaves a vector number or -1 there."""
    return values[:15] + values[16:]


def auxv(core: Path) -> dict[int, int]:
    description = description_of(core, "NT_AUXV")
    pairs = struct.iter_unpack("<QQ", description)
    return {kind: value for kind, value in pairs if kind}


@pytest.mark.parametrize("libc", LIBCS)
def test_other_threads_are_where_they_were(stage: Stage, libc: str) -> None:
    snapshot = stage.run(libc, "with_spinning", "7").snapshot
    backtraces = snapshot.gdb("thread apply all bt 6")

    assert snapshot.tids()[0] == snapshot.note["tid"]
    assert len(set(snapshot.tids())) == 8
    assert (snapshot.note["threads"], snapshot.note["threads_captured"]) == (8, 8)
    assert len(re.findall(r"^#\d+ .*\bspin_in_thread \(", backtraces, re.MULTILINE)) == 7
    assert snapshot.flags == Flag(0)


def test_threads_in_system_calls_are_where_they_were(stage: Stage) -> None:
    backtraces = stage.run("glibc", "with_threads", "7").snapshot.gdb("thread apply all bt")

    assert len(re.findall(r" in wait_here \(", backtraces)) == 7
    assert len(re.findall(r" in start_thread \(", backtraces)) == 7


def test_thread_stack_shows_where_the_thread_began(stage: Stage) -> None:
    """The alternate stack lies in between, and is left out."""
    snapshot = stage.run("glibc", "thread_segv").snapshot
    functions = [frame.function for frame in snapshot.gdb_frames()]

    assert functions[:2] == ["null_read", "crash_in_thread"]
    assert "start_thread" in functions
    assert snapshot.path.stat().st_size < 200_000


def test_threads_that_block_all_signals_are_reported_missed(stage: Stage) -> None:
    snapshot = stage.run("glibc", "with_masked", "3").snapshot
    n = snapshot.note

    assert Flag.THREADS_MISSED in snapshot.flags
    assert (n["threads"], n["threads_captured"]) == (4, 1)
    assert n["snapshot_monotonic_ns"] - n["crash_monotonic_ns"] < 100e6, "no full time-out"


@pytest.mark.parametrize("way", ["overflow_main", "overflow_thread", "overflow_small_thread"])
@pytest.mark.parametrize("libc", LIBCS)
def test_overflow_keeps_both_ends_of_the_stack(stage: Stage, libc: str, way: str) -> None:
    snapshot = stage.run(libc, way).snapshot
    assert Flag.STACK_OVERFLOW in snapshot.flags

    sp = snapshot.registers()[0][19]
    stack = [s for s in snapshot.segments() if s.file_bytes and 0 < s.end - sp < 9 << 20]
    text = b"".join(read_segment(snapshot.path, segment.start) for segment in stack)
    starter = way if way == "overflow_main" else "recurse_in_thread"
    first_call = symbol_range(snapshot.executable, starter)
    bias = load_bias(snapshot.path, snapshot.executable)
    words = [word for (word,) in struct.iter_unpack("<Q", text)]
    assert any(word - bias in first_call for word in words), "the frame the overflow came from"


def read_segment(core: Path, start: int) -> bytes:
    with core.open("rb") as file:
        (segment,) = (s for s in ELFFile(file).iter_segments("PT_LOAD") if s["p_vaddr"] == start)
        return bytes(segment.data())


def symbol_range(executable: Path, name: str) -> range:
    with executable.open("rb") as file:
        table = ELFFile(file).get_section_by_name(".symtab")
        assert isinstance(table, SymbolTableSection)
        (symbol,) = table.get_symbol_by_name(name) or []
        return range(symbol["st_value"], symbol["st_value"] + symbol["st_size"])


def load_bias(core: Path, executable: Path) -> int:
    with executable.open("rb") as file:
        elf = ELFFile(file)
        if elf["e_type"] == "ET_EXEC":
            return 0
        return auxv(core)[9] - int(elf["e_entry"])  # AT_ENTRY


def test_shallow_stack_is_no_overflow(stage: Stage) -> None:
    assert stage.run("glibc", "null_read").snapshot.flags == Flag(0)


@pytest.mark.parametrize("libc", LIBCS)
def test_segments_are_aligned_disjoint_and_sorted(stage: Stage, libc: str) -> None:
    snapshot = stage.run(libc, "with_threads").snapshot
    segments = snapshot.segments()
    header = snapshot.path.read_bytes()[:16]

    assert header[7] == 3, "EI_OSABI is Linux, or lldb refuses musl's"
    assert all(s.start % 4096 == s.end % 4096 == 0 for s in segments)
    assert all(s.file_bytes in (0, s.end - s.start) for s in segments)
    assert all(a.end <= b.start for a, b in pairwise(segments))


def test_core_lists_every_mapping_of_the_held_process(stage: Stage) -> None:
    """So that a reader knows what was read-only, executable or not there at all."""
    with StandIn(stage.directory) as agent:
        process = stage.start("glibc", "null_read")
        claim = agent.claim(agent.wait_for(".core"))
        maps = Path(f"/proc/{process.pid}/maps").read_text().splitlines()
        agent.finish(claim)
        segments = stage.finish(process).snapshot.segments()

    expected = []
    for line in maps:
        span, mode = line.split()[:2]
        start, end = (int(part, 16) for part in span.split("-"))
        flags = sum(bit for bit, letter in ((4, "r"), (2, "w"), (1, "x")) if letter in mode)
        expected.append((start, end, flags))
    listed = merge([(s.start, s.end, s.flags) for s in segments])
    assert listed == merge([e for e in expected if e[0] < 1 << 63])


def merge(spans: list[tuple[int, int, int]]) -> list[tuple[int, int, int]]:
    """Joins neighbours of equal flags."""
    merged: list[tuple[int, int, int]] = []
    for start, end, flags in spans:
        if merged and merged[-1][1] == start and merged[-1][2] == flags:
            merged[-1] = (merged[-1][0], end, flags)
        else:
            merged.append((start, end, flags))
    return merged


def test_note_says_who_and_when(stage: Stage) -> None:
    before = time.time_ns()
    process = stage.start("glibc", "kill_self")
    snapshot = stage.finish(process).snapshot
    n = snapshot.note

    assert (n["size"], n["format"], n["library"]) == (160, 1, 0x000100)
    assert (n["pid"], n["tid"], n["uid"], n["gid"]) == (process.pid, process.pid, 0, 0)
    assert (n["signal"], n["code"], n["sender_pid"]) == (11, 0, process.pid)
    for space in ("pid", "mnt", "user"):
        assert n[f"{space}_ns"] == Path(f"/proc/self/ns/{space}").stat().st_ino
    assert before < n["crash_realtime_ns"] < time.time_ns()
    assert n["crash_monotonic_ns"] < n["snapshot_monotonic_ns"] < n["release_monotonic_ns"]
    ticks = time.monotonic() * 100
    assert ticks - 6000 < n["start_ticks"] <= ticks


def test_note_of_an_init_process_says_so(stage: Stage) -> None:
    snapshot = stage.run("glibc", "null_write", init=True).snapshot

    assert snapshot.flags == Flag.INIT_PROCESS
    assert (snapshot.note["pid"], snapshot.note["address"]) == (1, 0)


def test_held_process_unwinds_from_outside_through_our_handler(stage: Stage) -> None:
    """The signal trampoline carries CFI: a debugger attached during the hold sees the fault."""
    with StandIn(stage.directory) as agent:
        process = stage.start("glibc", "null_read")
        claim = agent.claim(agent.wait_for(".core"))
        gdb = subprocess.run(
            ["gdb", "-batch", "-nx", "-ex", "bt", "-p", str(process.pid)],
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        ).stdout
        eu_stack = subprocess.run(
            ["eu-stack", "-p", str(process.pid)],
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        ).stdout
        agent.finish(claim)
        stage.finish(process)

    assert re.search(r"<signal handler called>\n#\d+ .* null_read .*\n#\d+ .* main ", gdb)
    assert re.search(r"null_read\n#\d+ .* main\n", eu_stack)
