"""The notes of a full core: the snapshot's own, and those of threads it could not have.

Computes only, no I/O.  The library saw each thread where the crash found it,
with the floating-point state that its signal frame keeps; stopped from outside
now, the same threads are in the library's handlers, and the kernel has reset
their vector registers.  So the snapshot's notes are copied as they are, and
what ptrace(2) says is used for the threads that the snapshot misses.
"""

import struct
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from stillframe.capture.corewriter import encode_note
from stillframe.corefile import Flag
from stillframe.corefile.elf import Machine, NoteRecord
from stillframe.corefile.notes import NT_PRSTATUS
from stillframe.corefile.vendor import is_crash_note

NT_PRFPREG: Final = 2
NT_X86_XSTATE: Final = 0x202
NT_ARM_TLS: Final = 0x401
REGSETS: Final = {
    Machine.X86_64: ((b"CORE", NT_PRFPREG), (b"LINUX", NT_X86_XSTATE)),
    Machine.AARCH64: ((b"CORE", NT_PRFPREG), (b"LINUX", NT_ARM_TLS)),
}
"""Owner and type of what is taken beside `NT_PRSTATUS`, in the kernel's order."""
_PRSTATUS_HEAD: Final = struct.Struct("<iiihxxQQiiii64x")
"""``struct elf_prstatus`` (include/linux/elfcore.h) before ``pr_reg``."""
_FLAGS: Final = struct.Struct("<12xI")
"""``sf_note.flags``."""


@dataclass(frozen=True, slots=True)
class Registers:
    """One thread as ptrace(2) found it."""

    tid: int
    """In the process's own pid namespace, as in the snapshot."""
    sets: dict[int, bytes]
    """By note type; `NT_PRSTATUS` holds the general ones alone."""


def prstatus(tid: int, general: bytes) -> bytes:
    """``struct elf_prstatus`` of a thread that has no signal; ``pr_fpvalid`` is 1."""
    head = _PRSTATUS_HEAD.pack(0, 0, 0, 0, 0, 0, tid, 0, 0, 0)
    return head + general + struct.pack("<i4x", 1)


def core_notes(
    records: Iterable[NoteRecord],
    others: Iterable[Registers],
    machine: Machine,
    threads_missed: bool,
    truncated: bool,
) -> bytes:
    """All notes; the two flags go into the vendor note and change no size."""
    parts = [
        encode_note(
            _flagged(record, truncated, threads_missed) if is_crash_note(record) else record
        )
        for record in records
    ]
    for thread in others:
        general = thread.sets[NT_PRSTATUS]
        parts.append(encode_note(NoteRecord(b"CORE", NT_PRSTATUS, prstatus(thread.tid, general))))
        parts += (encode_note(record) for record in regset_notes(thread, machine))
    return b"".join(parts)


def regset_notes(thread: Registers, machine: Machine) -> list[NoteRecord]:
    """What of a thread is not in its `NT_PRSTATUS`."""
    return [
        NoteRecord(owner, kind, thread.sets[kind])
        for owner, kind in REGSETS[machine]
        if kind in thread.sets
    ]


def _flagged(record: NoteRecord, truncated: bool, threads_missed: bool) -> NoteRecord:
    """The vendor note, saying of this core what was true of the snapshot."""
    desc = bytearray(record.desc)
    if len(desc) < _FLAGS.size:
        return record  # nothing that a library of ours wrote
    (flags,) = _FLAGS.unpack_from(desc)
    flags &= ~(Flag.TRUNCATED | Flag.THREADS_MISSED)
    flags |= Flag.TRUNCATED if truncated else 0
    flags |= Flag.THREADS_MISSED if threads_missed else 0
    desc[12:16] = struct.pack("<I", flags)
    return record._replace(desc=bytes(desc))
