"""The library on aarch64, built by a cross compiler and run by qemu-user.

Every way to die is in the matrix; here is what needs more than to run it.

- the binary's shape, and pages of any size
- the snapshot: registers as the emulator's own core has them, debuggers agree on the stack,
  through signed return addresses too
- a signal frame that was moved: everything comes back, and every unwinder gets through
- what cannot be tried: each reason that the matrix gives is measured
"""

import json
import os
import re
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from elftools.elf.elffile import ELFFile

from tests.integration.preload.aarch64 import (
    COPIER,
    LIBCS,
    LIBRARY,
    REFUSE_QUEUEING,
    SYSROOTS,
    EmulatedStage,
    emulated,
    emulator,
)
from tests.integration.preload.conftest import NO_CORE, ROOT, Stage, crasher_of
from tests.integration.preload.matrix.not_applicable import (
    AS_INIT,
    KERNEL_CORE,
    NO_ADDRESS_LIMIT,
    NO_EXEC,
    NO_FILTER,
    NO_MAPPINGS,
    NO_NAMESPACE,
    NO_PENDING,
    NO_VFORK,
    PTRACE,
    QUEUED_FAULT,
    REASONS,
)
from tests.integration.preload.snapshot import Snapshot, description_of, notes
from tests.integration.preload.stand_in import StandIn
from tests.integration.preload.test_binary_shape import GOLDEN, MOST_BYTES, dynamic_symbols, readelf
from tests.integration.preload.test_snapshot import TOP_FUNCTION, symbol_range
from tests.support.oracles import drgn_frames, eu_stack_frames

HERE = Path(__file__).parent
RT_SIGSUSPEND = 130
"""Number of the host's system call (x86_64)."""
NT_ARM_TLS = 0x401
LARGEST_PAGE = 65536
CRASHES = [way for way in TOP_FUNCTION if way != "div0"]


@pytest.fixture
def stage(tmp_path: Path, note_dump: Path) -> EmulatedStage:
    directory = tmp_path / "stillframe"
    directory.mkdir()
    return EmulatedStage(directory, note_dump)


# --- the binary's shape -----------------------------------------------------------------


@pytest.mark.usefixtures("note_dump")
def test_dynamic_symbols_are_those_of_x86_64() -> None:
    assert dynamic_symbols(LIBRARY) == GOLDEN


@pytest.mark.usefixtures("note_dump")
def test_library_is_small_and_needs_no_other() -> None:
    dynamic = readelf("-dW", LIBRARY)

    assert not re.search("NEEDED|TEXTREL|VERNEED|VERDEF", dynamic)
    assert LIBRARY.stat().st_size <= MOST_BYTES
    assert "Build ID" in readelf("-nW", LIBRARY)


@pytest.mark.usefixtures("note_dump")
def test_branches_and_relocated_data_are_protected() -> None:
    headers = readelf("-lW", LIBRARY)

    assert "AArch64 feature: BTI, PAC" in readelf("-nW", LIBRARY)
    assert "BTI_PLT" in readelf("-dW", LIBRARY)
    assert "GNU_RELRO" in headers
    assert "GNU_EH_FRAME" in headers
    assert " RWE " not in headers


@pytest.mark.usefixtures("note_dump")
@pytest.mark.parametrize("file", [LIBRARY, COPIER], ids=["library", "copier"])
def test_kernels_with_large_pages_can_map_it(file: Path) -> None:
    """Each page of the file goes to one place, whatever a page is."""
    with file.open("rb") as opened:
        loads = list(ELFFile(opened).iter_segments("PT_LOAD"))

    for load in loads:
        assert load["p_align"] % LARGEST_PAGE == 0
        assert (load["p_vaddr"] - load["p_offset"]) % LARGEST_PAGE == 0
    ends = [(load["p_vaddr"], load["p_vaddr"] + load["p_memsz"]) for load in loads]
    pages = [range(a // LARGEST_PAGE, -(-b // LARGEST_PAGE)) for a, b in ends]
    assert len({page for span in pages for page in span}) == sum(map(len, pages))


@pytest.mark.usefixtures("note_dump")
def test_copier_needs_nothing_but_the_kernel(tmp_path: Path) -> None:
    headers = readelf("-lW", COPIER)
    subprocess.run(["qemu-aarch64", COPIER, LIBRARY, tmp_path], check=True, timeout=30)

    assert "INTERP" not in headers
    assert "DYNAMIC" not in headers
    assert (tmp_path / LIBRARY.name).read_bytes() == LIBRARY.read_bytes()


# --- the snapshot -----------------------------------------------------------------


def test_registers_equal_the_emulators_own_core(stage: EmulatedStage, tmp_path: Path) -> None:
    """The emulator writes a core of the guest where the kernel would."""
    command = stage.command("aarch64-glibc", "with_threads", library=True, init=False)
    subprocess.run(
        ["prlimit", "--core=4096", *command[len(NO_CORE) :]],
        env=stage.environment(),
        cwd=tmp_path,
        check=False,
        capture_output=True,
        timeout=60,
    )
    (snapshot,) = stage.snapshots("aarch64-glibc")
    (core,) = tmp_path.glob("qemu_*.core")

    assert prstatus(snapshot.path)[0] == prstatus(core)[0]
    assert len(prstatus(snapshot.path)) == 5
    assert auxv(snapshot.path) == auxv(core)


def test_vector_registers_and_tls_are_kept(stage: EmulatedStage) -> None:
    """528 bytes of struct user_fpsimd_state for each thread, and the register tpidr_el0."""
    snapshot = stage.run("aarch64-glibc", "with_threads").snapshot
    kept = [(kind, len(d)) for owner, kind, d in notes(snapshot.path) if owner in ("CORE", "LINUX")]
    bases = [d for owner, kind, d in notes(snapshot.path) if (owner, kind) == ("LINUX", NT_ARM_TLS)]

    assert kept.count(("NT_FPREGSET", 528)) == 5
    assert len(set(bases)) == 5
    assert f"{int.from_bytes(bases[0], 'little'):#x}" in gdb(snapshot, "p $tpidr")


@pytest.mark.parametrize("libc", LIBCS)
@pytest.mark.parametrize("way", CRASHES)
def test_debuggers_unwind_through_signed_return_addresses(
    stage: EmulatedStage, libc: str, way: str
) -> None:
    """The crasher signs them, as the processor can; NT_ARM_PAC_MASK says which bits to strip."""
    snapshot = stage.run(libc, way).snapshot
    ours = drgn_frames(crasher_of(libc), snapshot.path)[:4]

    assert ours[0] == TOP_FUNCTION[way]
    assert gdb_functions(snapshot)[:2] == ours[:2]
    assert len(set(ours)) > 1 or "overflow" in way


def test_threads_are_where_they_were(stage: EmulatedStage) -> None:
    snapshot = stage.run("aarch64-glibc", "with_threads", "7").snapshot
    backtraces = gdb(snapshot, "thread apply all bt 3")

    assert snapshot.note["threads_captured"] == 8
    assert snapshot.note["threads"] == 9, "qemu has one of its own"
    assert len(re.findall(r" in wait_here \(", backtraces)) == 7


def test_unsigned_processor_writes_no_mask(tmp_path: Path, note_dump: Path) -> None:
    """eu-stack of elfutils 0.188 knows no signatures: it gets through without them."""
    stage = EmulatedStage(tmp_path, note_dump, cpu="cortex-a72")
    snapshot = stage.run("aarch64-glibc", "null_read").snapshot
    kinds = [kind for owner, kind, _ in notes(snapshot.path) if owner == "LINUX"]

    assert kinds == [NT_ARM_TLS]
    assert eu_stack_frames(snapshot.executable, snapshot.path)[:2] == ["null_read", "main"]


def prstatus(core: Path) -> list[tuple[int, ...]]:
    """x0..x30, sp, pc, pstate of each thread."""
    return [
        tuple(int.from_bytes(d[at : at + 8], "little") for at in range(112, 112 + 34 * 8, 8))
        for owner, kind, d in notes(core)
        if (owner, kind) == ("CORE", "NT_PRSTATUS")
    ]


def auxv(core: Path) -> dict[int, int]:
    words = memoryview(description_of(core, "NT_AUXV")).cast("Q").tolist()
    return {kind: value for kind, value in zip(words[::2], words[1::2], strict=True) if kind}


def gdb(snapshot: Snapshot, command: str) -> str:
    sysroot = SYSROOTS.get(snapshot.executable.parent.name, SYSROOTS["aarch64-glibc"])
    return subprocess.run(
        [
            *("gdb-multiarch", "-batch", "-nx", "-iex", "set debuginfod enabled off"),
            *("-iex", f"set sysroot {sysroot}", "-ex", command),
            *(snapshot.executable, snapshot.path),
        ],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    ).stdout


def gdb_functions(snapshot: Snapshot) -> list[str]:
    backtrace = gdb(snapshot, "bt 6").rpartition("\n#0 ")[2]
    return re.findall(r"(?:^|\n#\d) +(?:0x[0-9a-f]+ )?(?:\[PAC\] )?(?:in )?(\w+) \(", backtrace)


# --- a moved signal frame -----------------------------------------------------------------


@pytest.fixture(scope="session")
def frame(note_dump: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The test program, linked with the library's own objects."""
    program = tmp_path_factory.mktemp("frame") / "frame"
    objects = LIBRARY.parent / "obj"
    flags = [
        "-g",
        "-O1",
        "-fno-omit-frame-pointer",
        "-Wall",
        "-Wextra",
        "-Werror",
        "-no-pie",
        "-Wl,--gc-sections",
    ]
    includes = [
        "-I",
        ROOT / "preload/arch/aarch64",
        "-I",
        ROOT / "preload/src",
        "-I",
        ROOT / "preload/include",
    ]
    sources = [HERE / "frame_aarch64.c", HERE / "frame_aarch64.S"]
    subprocess.run(
        [
            *("aarch64-linux-gnu-gcc", *flags, *includes, "-o", program, *sources),
            *(
                objects / name
                for name in ("arch/aarch64/arch.o", "arch/aarch64/restore.o", "src/sys.o")
            ),
        ],
        check=True,
    )
    return program


@pytest.mark.parametrize(
    ("cpu", "sve", "extra"),
    [("cortex-a72", 0, 0), ("max", 1, 0), ("max,sve-default-vector-length=256", 1, 1)],
)
def test_moved_signal_frame_gives_everything_back(
    frame: Path, cpu: str, sve: int, extra: int
) -> None:
    """The longest vectors do not fit into the frame's fixed part, and follow it."""
    run = subprocess.run(
        [*emulator("aarch64-glibc", None, cpu), frame],
        capture_output=True,
        text=True,
        check=True,
        timeout=30,
    )
    seen = json.loads(run.stdout)
    pcs = [int(pc, 16) for pc in seen.pop("pcs")]

    assert (seen.pop("sve"), seen.pop("extra")) == (sve, extra)
    assert set(seen.values()) == {1}, seen
    names = ("handler", "sf_frame_handle", None, "interrupted", "main")
    for pc, name in zip(pcs, names, strict=False):
        assert name is None or pc in symbol_range(frame, name)


@pytest.fixture
def crash_on_moved_frame(frame: Path, tmp_path: Path, note_dump: Path) -> Snapshot:
    """The handler crashes on it.  gdb 13 does not come back from qemu's record of SVE registers,
    hence the processor."""
    words = ("aarch64-glibc", frame, "crash")
    subprocess.run(
        emulated(*words, library=LIBRARY, init=False, cpu="cortex-a72"),
        env=EmulatedStage(tmp_path, note_dump).environment(),
        capture_output=True,
        check=False,
        timeout=30,
    )
    (core,) = tmp_path.glob("*.core")
    return Snapshot(core, note_dump, frame)


def test_debuggers_unwind_through_a_moved_signal_frame(crash_on_moved_frame: Snapshot) -> None:
    frame, core = crash_on_moved_frame.executable, crash_on_moved_frame.path
    expected = ["handler", "sf_frame_handle", "interrupted", "main"]

    for frames in (drgn_frames, eu_stack_frames):
        assert [name for name in frames(frame, core) if name in expected] == expected
    assert gdb_functions(crash_on_moved_frame) == expected


def test_vector_registers_are_in_the_order_of_the_note(crash_on_moved_frame: Snapshot) -> None:
    """Callee-saved ones, as they were set where the first fault was; see frame_aarch64.c."""
    vectors = description_of(crash_on_moved_frame.path, "NT_FPREGSET")
    set_before = bytes((at * 37 + 11) % 256 for at in range(32 * 16))

    for register in range(8, 16):
        low = slice(register * 16, register * 16 + 8)  # the callee saves no more of it
        assert vectors[low] == set_before[low]


# --- what cannot be tried -----------------------------------------------------------------

MEASURED: set[str] = set()
Test = Callable[..., None]


def measures(reason: str) -> Callable[[Test], Test]:
    """Marks the test that fails when a reason no longer holds."""
    MEASURED.add(reason)
    return lambda test: test


def test_every_reason_of_the_matrix_is_measured() -> None:
    assert MEASURED == REASONS


@measures(NO_FILTER)
def test_no_filter_can_be_installed(stage: EmulatedStage) -> None:
    """The filter of this crasher would kill it."""
    assert stage.run("aarch64-glibc", "seccomp_trap", library=False).status == 99
    assert not host_calls(stage, "seccomp_trap", "prctl,seccomp", "SECCOMP")


@measures(NO_EXEC)
def test_kernel_does_not_execute_another_machines_program(stage: EmulatedStage) -> None:
    assert "= -1 ENOEXEC" in host_calls(stage, "after_exec", "execve", "crasher")


@measures(NO_VFORK)
def test_vfork_child_has_its_own_memory(stage: EmulatedStage) -> None:
    child = host_calls(stage, "vforked_child", "vfork,clone,clone3", "SIGCHLD")

    assert child
    assert "CLONE_VM" not in child


@measures(NO_PENDING)
def test_blocked_signal_that_waits_is_not_told(stage: EmulatedStage) -> None:
    assert "[]" in host_calls(stage, "blocked_raise", "rt_sigpending")
    assert stage.run("aarch64-glibc", "blocked_raise", library=False).status == 1


@measures(NO_NAMESPACE)
def test_user_namespace_is_refused(stage: EmulatedStage) -> None:
    """As to any process of several threads, unshare(2)."""
    assert "= -1 EINVAL" in host_calls(stage, "user_namespace", "unshare", "CLONE_NEWUSER")


@measures(NO_ADDRESS_LIMIT)
def test_limit_of_addresses_is_not_set(stage: EmulatedStage) -> None:
    limit = host_calls(stage, "no_address_space", "prlimit64,setrlimit", "RLIMIT_AS")

    assert limit
    assert all("RLIMIT_AS, NULL" in line for line in limit.splitlines())


@measures(NO_MAPPINGS)
def test_emulator_maps_memory_for_threads_that_ended(stage: EmulatedStage) -> None:
    natively = Stage(stage.directory, stage.note_dump)

    assert natively.run("glibc", "threads_that_end", "100", library=False).status == 0
    assert stage.run("aarch64-glibc", "threads_that_end", "100", library=False).status == 1


def host_calls(stage: EmulatedStage, way: str, calls: str, having: str = "") -> str:
    """What the emulator asks of the kernel for a crasher without the library, as strace has it."""
    command = stage.command("aarch64-glibc", way, library=False, init=False)
    trace = subprocess.run(
        ["strace", "-f", "-qq", "-e", f"trace={calls}", *command[len(NO_CORE) :]],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    ).stderr
    return "\n".join(line for line in trace.splitlines() if having in line)


@measures(AS_INIT)
def test_emulator_as_init_never_dies(stage: EmulatedStage) -> None:
    """It has put back the default action, has sent itself the signal, and waits for its end."""
    process = stage.start("aarch64-glibc", "null_read", library=False, init=True)
    emulator = wait_for(lambda: emulator_of(process.pid))
    try:
        wait_for(lambda: system_call_of(emulator) == RT_SIGSUSPEND)
        status = Path(f"/proc/{emulator}/status").read_text()
        fields = dict(line.split(":\t") for line in status.splitlines())
    finally:
        os.kill(emulator, signal.SIGKILL)
        process.communicate(timeout=30)

    of_interest = 1 << signal.SIGSEGV - 1
    for name in ("SigCgt", "SigIgn", "SigBlk", "SigPnd", "ShdPnd"):
        assert not int(fields[name], 16) & of_interest, name


@measures(QUEUED_FAULT)
def test_queued_fault_kills_the_emulator(stage: EmulatedStage) -> None:
    command = stage.command("aarch64-glibc", "null_read", library=True, init=False)
    command.remove(str(REFUSE_QUEUEING))
    done = subprocess.run(
        command, env=stage.environment(), capture_output=True, check=False, timeout=30
    )

    assert done.returncode == 127
    assert b"assertion failed" in done.stderr
    assert len(stage.snapshots("aarch64-glibc")) == 1


@measures(KERNEL_CORE)
def test_kernel_core_is_the_emulators(stage: EmulatedStage, tmp_path: Path) -> None:
    command = stage.command("aarch64-glibc", "null_read", library=False, init=False)
    subprocess.run(
        ["prlimit", "--core=1048576", *command[len(NO_CORE) :]],
        cwd=tmp_path,
        capture_output=True,
        check=False,
        timeout=60,
    )
    (core,) = tmp_path.glob("core*")
    with core.open("rb") as file:
        assert ELFFile(file).header["e_machine"] == "EM_X86_64"


@measures(PTRACE)
def test_attached_debugger_sees_the_emulator(stage: EmulatedStage) -> None:
    with StandIn(stage.directory) as agent:
        process = stage.start("aarch64-glibc", "null_read")
        claim = agent.claim(agent.wait_for(".core"))
        executable = Path(f"/proc/{process.pid}/exe").readlink().name
        stack = subprocess.run(
            ["eu-stack", "-p", str(process.pid)],
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        ).stdout
        agent.finish(claim)
        captured = stage.finish(process, "aarch64-glibc")

    assert executable == "qemu-aarch64"
    assert "TID" in stack
    assert "null_read" not in stack
    assert captured.snapshot.release == "DONE"


def emulator_of(ancestor: int) -> int:
    """The host's pid of the emulator below a process, 0 while there is none."""
    for pid in children(ancestor):
        if Path(f"/proc/{pid}/exe").readlink().name == "qemu-aarch64":
            return pid
        if found := emulator_of(pid):
            return found
    return 0


def children(pid: int) -> Iterator[int]:
    try:
        text = Path(f"/proc/{pid}/task/{pid}/children").read_text()
    except FileNotFoundError:
        return
    yield from map(int, text.split())


def system_call_of(pid: int) -> int:
    """Number of the system call its first thread is in, -1 while it is in none."""
    first = Path(f"/proc/{pid}/syscall").read_text().split()[0]
    return -1 if first == "running" else int(first)


def wait_for(condition: Callable[[], int], seconds: float = 20) -> int:
    """The first value that is true."""
    end = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < end
        time.sleep(0.01)
    return value
