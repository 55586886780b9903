"""What the library would have written, had the process crashed: of a process that lives.

Flows in: a stopped process and its threads' registers.  Flows out: the notes of
its core, and a `CoreFile` in memory with the pages that are nobody's data but
that debuggers ask for: the vDSO, the first page of each mapped file (its build
ID), and the page under each stack pointer, which makes stacks come first.
"""

import os
import platform
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from stillframe.capture.coreplan import Source
from stillframe.capture.corewriter import Load, encode_headers, encode_note
from stillframe.capture.pages import PAGE, Kind, Mapping
from stillframe.capture.procfiles import read_small, status_field
from stillframe.capture.threadnotes import Registers, prstatus, regset_notes
from stillframe.corefile import CoreFile
from stillframe.corefile.elf import PF_R, PF_X, Machine, NoteRecord
from stillframe.corefile.notes import (
    NT_AUXV,
    NT_FILE,
    NT_PRPSINFO,
    NT_PRSTATUS,
    REGISTERS,
    STACK_POINTER,
)
from stillframe.errors import InvalidInputError

MAX_FILES: Final = 32768
"""Mappings in ``NT_FILE``, and first pages; half of what the kernel allows by default."""
_MACHINES: Final = {"x86_64": Machine.X86_64, "aarch64": Machine.AARCH64}
_PSINFO: Final = struct.Struct("<4x4x8xIIiiii16s80s")
"""``struct elf_prpsinfo`` (include/linux/elfcore.h)."""
_VDSO: Final = "[vdso]"


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """Who the process is."""

    pid: int
    """In its own pid namespace, as ``ppid`` is not: that is ours."""
    ppid: int
    uid: int
    gid: int
    comm: bytes
    arguments: bytes
    auxv: bytes
    machine: Machine


def read_facts(task_fd: int) -> Facts:
    """From ``/proc/PID/task/TID``; raises `OSError` and `InvalidInputError`."""
    status = read_small(task_fd, "status")
    return Facts(
        pid=int(status_field(status, b"NStgid:")[-1]),
        ppid=int(status_field(status, b"PPid:")[0]),
        uid=int(status_field(status, b"Uid:")[0]),
        gid=int(status_field(status, b"Gid:")[0]),
        comm=read_small(task_fd, "comm").rstrip(b"\n"),
        arguments=read_small(task_fd, "cmdline").replace(b"\0", b" "),
        auxv=read_small(task_fd, "auxv"),
        machine=_MACHINES[platform.machine()],
    )


def live_notes(facts: Facts, registers: Sequence[Registers], mappings: Sequence[Mapping]) -> bytes:
    """All notes, with the main thread first; no ``NT_SIGINFO``, for there was no signal.

    Raises `InvalidInputError` when no thread stopped, and for a 32-bit process.
    """
    if not registers:
        raise InvalidInputError("NoThread", "no thread of it stopped in time")
    wanted = 8 * len(REGISTERS[facts.machine])
    if any(len(thread.sets[NT_PRSTATUS]) != wanted for thread in registers):
        raise InvalidInputError("UnsupportedElf", "it is a 32-bit process")
    main, *others = sorted(registers, key=lambda thread: thread.tid != facts.pid)
    process = (
        NoteRecord(b"CORE", NT_PRPSINFO, _psinfo(facts)),
        NoteRecord(b"CORE", NT_AUXV, facts.auxv),
        NoteRecord(b"CORE", NT_FILE, _files(mappings)),
    )
    records = [_status(main), *process, *regset_notes(main, facts.machine)]
    for thread in others:
        records += [_status(thread), *regset_notes(thread, facts.machine)]
    return b"".join(encode_note(record) for record in records)


def live_snapshot(
    facts: Facts,
    registers: Sequence[Registers],
    mappings: Sequence[Mapping],
    notes: bytes,
    source: Source,
) -> CoreFile:
    """A core of the notes and the pages named above."""
    pages = dict(_pages(facts, registers, mappings, source))
    loads = [Load(address, len(data), len(data), PF_R | PF_X) for address, data in pages.items()]
    return CoreFile.from_bytes(
        encode_headers(facts.machine, notes, loads) + b"".join(pages.values())
    )


def _pages(
    facts: Facts, registers: Sequence[Registers], mappings: Sequence[Mapping], source: Source
) -> Iterator[tuple[int, bytes]]:
    """Pages by address; only of memory that nobody has to be asked for."""
    sp = REGISTERS[facts.machine].index(STACK_POINTER[facts.machine])
    for thread in registers:
        (pointer,) = struct.unpack_from("<Q", thread.sets[NT_PRSTATUS], 8 * sp)
        yield from _present(source, pointer // PAGE * PAGE)
    for mapping in mappings:
        if mapping.path == _VDSO:
            size = mapping.end - mapping.start
            yield mapping.start, os.pread(source.mem_fd, size, mapping.start)
    for mapping in _of_files(mappings):
        if mapping.offset == 0 and mapping.readable_plainly:
            yield from _present(source, mapping.start)


def _present(source: Source, address: int) -> Iterator[tuple[int, bytes]]:
    """One page, if it is in memory, a file's or not."""
    for first, last in source.tables.saved(address, address + PAGE, Kind.SHARED):
        yield first, os.pread(source.mem_fd, last - first, first)


def _status(thread: Registers) -> NoteRecord:
    return NoteRecord(b"CORE", NT_PRSTATUS, prstatus(thread.tid, thread.sets[NT_PRSTATUS]))


def _psinfo(facts: Facts) -> bytes:
    return _PSINFO.pack(
        facts.uid, facts.gid, facts.pid, facts.ppid, 0, 0, facts.comm[:15], facts.arguments[:79]
    )


def _files(mappings: Sequence[Mapping]) -> bytes:
    """``NT_FILE`` (fs/binfmt_elf.c, ``fill_files_note``)."""
    files = _of_files(mappings)
    head = struct.pack("<QQ", len(files), PAGE)
    ranges = [struct.pack("<QQQ", m.start, m.end, m.offset // PAGE) for m in files]
    names = [os.fsencode(m.path.replace("\\012", "\n")) + b"\0" for m in files]
    return b"".join((head, *ranges, *names))


def _of_files(mappings: Sequence[Mapping]) -> list[Mapping]:
    return [mapping for mapping in mappings if mapping.path.startswith("/")][:MAX_FILES]
