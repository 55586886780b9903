"""A snapshot as the tests see it: pyelftools for ELF, note.h itself for our note.

Shares no code with the product's reader, so that the two check each other.
"""

import json
import os
import re
import struct
import subprocess
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from enum import IntFlag
from functools import cached_property
from pathlib import Path
from typing import Any

import drgn
from elftools.elf.elffile import ELFFile
from elftools.elf.segments import NoteSegment

ENVIRONMENT = dict(os.environ)
"""For processes started by threads.  pytest sets a variable for each test, which moves the array of
the process's own environment: an exec that reads it meanwhile fails with EFAULT."""
PRSTATUS = "NT_PRSTATUS"
REGISTERS_AT = 112
"""Offset of pr_reg in NT_PRSTATUS (x86_64), bytes."""
REGISTERS = struct.Struct("<27Q")


class Flag(IntFlag):
    """``enum sf_flag``."""

    TRUNCATED = 1
    THREADS_MISSED = 2
    RERAISED = 4
    LOW_MEMORY = 8
    STACK_OVERFLOW = 16
    INIT_PROCESS = 32
    FD_TABLE_SHARED = 64
    REGISTERS_ONLY = 128


RELEASES = ("PENDING", "DONE", "NO_AGENT", "UNCLAIMED", "AGENT_DIED", "TIMEOUT", "DISABLED")
"""``enum sf_release``, by value."""


@dataclass(frozen=True)
class Frame:
    """One line of a backtrace; ``file`` is a bare name, both empty without DWARF."""

    function: str
    file: str = ""
    line: int = 0


@dataclass(frozen=True)
class Segment:
    start: int
    end: int
    file_bytes: int
    flags: int


@dataclass(frozen=True)
class Snapshot:
    path: Path
    note_dump: Path
    executable: Path

    @property
    def id(self) -> str:
        return self.path.stem

    @cached_property
    def note(self) -> dict[str, Any]:
        """The vendor note."""
        (description,) = (d for owner, _, d in notes(self.path) if owner == "STILLFRAME")
        dump = subprocess.run(
            [self.note_dump], input=description, env=ENVIRONMENT, capture_output=True, check=True
        )
        fields: dict[str, Any] = json.loads(dump.stdout)
        return fields

    @cached_property
    def annotations(self) -> dict[str, bytes]:
        """What the application said; each key once."""
        *parts, rest = bytes.fromhex(self.note["text"]).split(b"\0")
        keys = [key.decode() for key in parts[::2]]
        assert rest == b""
        assert len(set(keys)) == len(keys) == len(parts) / 2
        return dict(zip(keys, parts[1::2], strict=True))

    def memory(self, address: int, size: int) -> bytes:
        """Bytes of the crashed process, which one segment has to hold."""
        with self.path.open("rb") as file:
            for s in ELFFile(file).iter_segments("PT_LOAD"):
                if s["p_vaddr"] <= address and address + size <= s["p_vaddr"] + s["p_filesz"]:
                    file.seek(s["p_offset"] + address - s["p_vaddr"])
                    return file.read(size)
        raise AssertionError(f"{size} bytes at 0x{address:x} are not in {self.path.name}")

    @property
    def flags(self) -> Flag:
        return Flag(self.note["flags"])

    @property
    def release(self) -> str:
        return RELEASES[self.note["release"]]

    @property
    def held_ms(self) -> float:
        n = self.note
        return float(n["release_monotonic_ns"] - n["snapshot_monotonic_ns"]) / 1e6

    def registers(self) -> list[tuple[int, ...]]:
        """pr_reg of each thread."""
        return registers(self.path)

    def tids(self) -> list[int]:
        """pr_pid of each thread."""
        return [
            struct.unpack_from("<i", description, 32)[0]
            for owner, kind, description in notes(self.path)
            if (owner, kind) == ("CORE", PRSTATUS)
        ]

    def segments(self) -> list[Segment]:
        with self.path.open("rb") as file:
            return [
                Segment(s["p_vaddr"], s["p_vaddr"] + s["p_memsz"], s["p_filesz"], s["p_flags"])
                for s in ELFFile(file).iter_segments("PT_LOAD")
            ]

    def gdb(self, command: str) -> str:
        """What gdb answers, without what it says when it opens a core."""
        files = [self.executable, self.path]
        output = subprocess.run(
            ["gdb", "-batch", "-nx", "-ex", "echo ANSWER\\n", "-ex", command, *files],
            env=ENVIRONMENT,
            capture_output=True,
            text=True,
            check=True,
            timeout=60,
        ).stdout
        return output.partition("ANSWER\n")[2]

    def gdb_frames(self) -> list[Frame]:
        return list(_gdb_frames(self.gdb("bt 12")))

    def eu_stack_frames(self, most: int = 12) -> list[Frame]:
        """The crashing thread; eu-stack exits 1 where a stack ends without CFI (musl)."""
        output = subprocess.run(
            ["eu-stack", "-s", "-n", str(most), "--core", self.path],
            env=ENVIRONMENT,
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        ).stdout
        threads = output.split("\nTID ")
        return list(_eu_stack_frames(threads[1]))

    def drgn_frames(self) -> list[Frame]:
        program = drgn.Program()
        program.set_enabled_debug_info_finders(["standard"])
        program.set_core_dump(self.path)
        with suppress(drgn.MissingDebugInfoError):  # of libc; ours is checked by the frames
            program.load_default_debug_info()
        trace = program.crashed_thread().stack_trace()
        return [_drgn_frame(frame) for frame in trace][:12]


def notes(core: Path) -> Iterator[tuple[str, str | int, bytes]]:
    """Owner, type and description of each note of any core file."""
    with core.open("rb") as file:
        for segment in ELFFile(file).iter_segments("PT_NOTE"):
            assert isinstance(segment, NoteSegment)
            for note in segment.iter_notes():
                file.seek(note["n_offset"] + 12 + (note["n_namesz"] + 3) // 4 * 4)
                yield note["n_name"], note["n_type"], file.read(note["n_descsz"])


def registers(core: Path) -> list[tuple[int, ...]]:
    """pr_reg of each thread of any core file."""
    return [
        REGISTERS.unpack_from(description, REGISTERS_AT)
        for owner, kind, description in notes(core)
        if (owner, kind) == ("CORE", PRSTATUS)
    ]


def description_of(core: Path, kind: str) -> bytes:
    """The first note of a kind in any core file."""
    return next(d for owner, k, d in notes(core) if (owner, k) == ("CORE", kind))


def _gdb_frames(output: str) -> Iterator[Frame]:
    pattern = r"^#\d+ +(?:0x[0-9a-f]+ in )?(\S+) \(.*?\)(?: at (\S+):(\d+))?"
    for match in re.finditer(pattern, output, re.MULTILINE):
        function, file, line = match.groups()
        yield Frame(function, Path(file).name if file else "", int(line or 0))


def _eu_stack_frames(output: str) -> Iterator[Frame]:
    pattern = r"^#\d+ +0x[0-9a-f]+(?: - \d)?(?: (\S+))?(?:\n +(\S+):(\d+):\d+)?"
    for match in re.finditer(pattern, output, re.MULTILINE):
        function, file, line = match.groups()
        yield Frame(function or "??", Path(file).name if file else "", int(line or 0))


def _drgn_frame(frame: Any) -> Frame:
    try:
        file, line, _column = frame.source()
    except LookupError:
        file, line = "", 0
    return Frame(frame.name, Path(file).name if file else "", line)
