"""Runs one case without the library and with it, and says in one line what happened.

In: a machine, a case, a libc, whether it is pid 1 of a pid namespace. Out: a `Cell`: how the two
runs differ (nothing, where we are never in the way), and what was seen, in words that do not vary
from run to run. Kernel cores are read where ``core_pattern`` is a plain file name; it is never
changed here.
"""

import os
import signal
import struct
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from elftools.elf.elffile import ELFFile
from elftools.elf.sections import SymbolTableSection

from tests.integration.preload.conftest import CRASHERS, ROOT
from tests.integration.preload.matrix import not_applicable
from tests.integration.preload.matrix.cases import Case
from tests.integration.preload.matrix.machines import Machine
from tests.integration.preload.snapshot import (
    ENVIRONMENT,
    Flag,
    Snapshot,
    description_of,
    notes,
    registers,
)

SECONDS = 60
"""Longest a crasher may run; all need less than 5 on an idle machine."""
SOURCES = {path.name for path in (ROOT / "tests/crashers").iterdir()}
ORIG_RAX = 15
"""Index in pr_reg; the kernel's entry code leaves a vector number or -1 there. As `PC`, of x86_64:
on no other machine is there a kernel's core to read."""
PC = 16
TOLD = Flag.RERAISED | Flag.STACK_OVERFLOW | Flag.REGISTERS_ONLY
"""Flags that do not depend on the machine's load."""
CODES = {
    "SIGSEGV": {1: "SEGV_MAPERR", 2: "SEGV_ACCERR"},
    "SIGBUS": {1: "BUS_ADRALN", 2: "BUS_ADRERR"},
    "SIGILL": {1: "ILL_ILLOPC", 2: "ILL_ILLOPN"},
    "SIGFPE": {1: "FPE_INTDIV"},
    "SIGTRAP": {1: "TRAP_BRKPT"},
    "SIGSYS": {1: "SYS_SECCOMP"},
}
ANY_SIGNAL = {128: "SI_KERNEL", 0: "SI_USER", -1: "SI_QUEUE", -6: "SI_TKILL"}
"""``si_code`` by name, as <asm-generic/siginfo.h> has them."""
LOW = 1 << 16
"""Addresses below are told as they are: no mapping can be there."""


@dataclass(frozen=True)
class Cell:
    differences: tuple[str, ...]
    """What the library changed; empty where it was not in the way."""
    seen: str
    """Exit status, reports, and how the kernel's core compares with them."""
    status: str


@dataclass(frozen=True)
class Core:
    """The kernel's own core file, as far as two runs of one case can be compared."""

    path: Path

    @property
    def siginfo(self) -> bytes:
        return description_of(self.path, "NT_SIGINFO")

    @property
    def death(self) -> str:
        number, _, code = struct.unpack_from("<3i", self.siginfo)
        address = struct.unpack_from("<Q", self.siginfo, 16)[0]
        program_counter = registers(self.path)[0][PC]
        where = place(self.path, program_counter)
        return f"{told(number, code, place(self.path, address) if code > 0 else '')}, pc in {where}"

    def thread(self, tid: int) -> tuple[int, ...]:
        return dict(zip(tids(self.path), registers(self.path), strict=True))[tid]


@dataclass(frozen=True)
class Run:
    status: str
    stdout: bytes
    stderr: bytes
    core: Core | None


def run_cell(machine: Machine, case: Case, libc: str, init: bool, note_dump: Path) -> Cell:
    if reason := _not_applicable(machine, case, libc, init):
        return Cell((), f"n/a: {reason}", "n/a")
    program = machine.crasher(case, libc)
    # Not below pytest's own directory, which a user without privileges cannot enter.
    with tempfile.TemporaryDirectory(prefix="matrix-") as base:
        Path(base).chmod(0o755)
        native = _run(machine, case, libc, init, Path(base, "native"), library=False)
        ours = _run(machine, case, libc, init, Path(base, "ours"), library=True)
        handed_over = Path(base, "ours/stillframe")
        snapshots = [
            Snapshot(path, note_dump, program) for path in sorted(handed_over.glob("*.core"))
        ]
        differences = list(_differences(native, ours))
        leftovers = [p.name for p in handed_over.glob("*") if p.suffix != ".core"]
        if leftovers and case.way != "replaced_handover":
            differences.append(f"left behind: {len(leftovers)} files that are no snapshot")
        reports = sorted(describe(snapshot) for snapshot in snapshots)
        core = _core_words(ours.core, snapshots) if machine.kernel_core else "kernel core n/a"
        parts = [native.status, *(reports or ["no report"]), core]
        return Cell(tuple(differences), "; ".join(parts), native.status)


def _not_applicable(machine: Machine, case: Case, libc: str, init: bool) -> str:
    """Why a cell cannot be run, empty where it can."""
    if init and not machine.init_dies and not machine.not_applicable(case):
        with tempfile.TemporaryDirectory(prefix="matrix-") as base:
            ordinary = _run(machine, case, libc, False, Path(base, "ordinary"), library=False)
        return not_applicable.AS_INIT if ordinary.status.startswith("SIG") else ""
    return machine.not_applicable(case)


def _run(machine: Machine, case: Case, libc: str, init: bool, home: Path, *, library: bool) -> Run:
    directory = home / "stillframe"
    for path in (home, directory):
        path.mkdir()
        path.chmod(0o777)
    environment = {k: v for k, v in ENVIRONMENT.items() if not k.startswith("STILLFRAME_")}
    done = subprocess.run(
        machine.command(case, libc, library=library, init=init),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        check=False,
        timeout=SECONDS,
        cwd=home,
        env={**environment, "STILLFRAME_DIR": str(directory)},
    )
    cores = list(home.glob("core*")) if machine.kernel_core else []
    return Run(
        status_words(done.returncode),
        done.stdout,
        machine.said(done.stderr),
        Core(cores[0]) if cores and cores[0].stat().st_size else None,
    )


def status_words(status: int) -> str:
    return signal.Signals(-status).name if status < 0 else f"exit {status}"


def _differences(native: Run, ours: Run) -> Iterator[str]:
    for name in ("status", "stdout", "stderr"):
        before, after = getattr(native, name), getattr(ours, name)
        if before != after:
            yield f"{name}: {before} without the library, {after} with it"
    deaths = [run.core.death if run.core else "none" for run in (native, ours)]
    if deaths[0] != deaths[1]:
        yield f"kernel's core: {deaths[0]} without the library, {deaths[1]} with it"


def _core_words(core: Core | None, snapshots: list[Snapshot]) -> str:
    """How the kernel's core compares with the report of the same thread."""
    if core is None:
        return "no kernel core"
    mine = [s for s in snapshots if s.note["tid"] == tids(core.path)[0]]
    if not mine:
        return "kernel core as natively"
    if description_of(mine[0].path, "NT_SIGINFO") != core.siginfo:
        return "kernel core is of a later signal"
    theirs, reported = core.thread(mine[0].note["tid"]), mine[0].registers()[0]
    if _without_orig_rax(theirs) == _without_orig_rax(reported):
        return "kernel core has its registers and siginfo"
    return "kernel core has its siginfo, other registers"


def _without_orig_rax(values: tuple[int, ...]) -> tuple[int, ...]:
    return values[:ORIG_RAX] + values[ORIG_RAX + 1 :]


def describe(snapshot: Snapshot) -> str:
    """``reported SIGSEGV SEGV_MAPERR at 0x0 in null_read (faults.c)``."""
    note = snapshot.note
    at = place(snapshot.path, note["address"]) if note["code"] > 0 else ""
    flags = [(flag.name or "").lower() for flag in TOLD if flag in snapshot.flags]
    words = [told(note["signal"], note["code"], at), f"in {_top_frame(snapshot)}", *flags]
    return " ".join(["reported", *words])


def told(number: int, code: int, address: str) -> str:
    name = signal.Signals(number).name
    meaning = CODES.get(name, {}).get(code) or ANY_SIGNAL.get(code) or f"code {code}"
    return f"{name} {meaning}" + (f" at {address}" if address else "")


def _top_frame(snapshot: Snapshot) -> str:
    """The innermost function of the crasher's sources, by eu-stack."""
    frames = [frame for frame in snapshot.eu_stack_frames() if frame.file in SOURCES]
    return f"{frames[0].function} ({frames[0].file})" if frames else "no frame of the program"


def tids(core: Path) -> list[int]:
    return [
        struct.unpack_from("<i", description, 32)[0]
        for owner, kind, description in notes(core)
        if (owner, kind) == ("CORE", "NT_PRSTATUS")
    ]


def place(core: Path, address: int) -> str:
    """What is at an address: itself when low, a function of the crasher, a file, or memory."""
    if address < LOW:
        return hex(address)
    for start, end, offset, name in files(core):
        if start <= address < end:
            path = Path(name)
            if not path.is_relative_to(CRASHERS):
                return path.name
            return function(path, offset + address - start) or "the program's data"
    return "memory"


def files(core: Path) -> Iterator[tuple[int, int, int, str]]:
    """Start, end, file offset in bytes and path of each mapped file, from NT_FILE."""
    try:
        description = description_of(core, "NT_FILE")
    except StopIteration:
        return
    count, page = struct.unpack_from("<2Q", description)
    names = description[16 + 24 * count :].split(b"\0")
    for i in range(count):
        start, end, offset = struct.unpack_from("<3Q", description, 16 + 24 * i)
        yield start, end, offset * page, os.fsdecode(names[i])


@cache
def symbols(program: Path) -> list[tuple[range, str]]:
    """File offsets of each function of a crasher."""
    with program.open("rb") as file:
        elf = ELFFile(file)
        loads = list(elf.iter_segments("PT_LOAD"))
        table = elf.get_section_by_name(".symtab")
        assert isinstance(table, SymbolTableSection)
        found = []
        for symbol in table.iter_symbols():
            if symbol["st_info"]["type"] != "STT_FUNC" or not symbol["st_size"]:
                continue
            for load in loads:
                if 0 <= symbol["st_value"] - load["p_vaddr"] < load["p_filesz"]:
                    start = symbol["st_value"] - load["p_vaddr"] + load["p_offset"]
                    found.append((range(start, start + symbol["st_size"]), symbol.name))
        return found


def function(program: Path, offset: int) -> str:
    return next((name for span, name in symbols(program) if offset in span), "")
