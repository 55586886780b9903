""":class:`CoreFile`: one pass over the headers and notes, then random reads."""

from bisect import bisect_right
from collections.abc import Iterator
from typing import NamedTuple, Self

from stillframe.errors import InvalidInputError

from .elf import (
    ET_CORE,
    MAX_NOTE_BYTES,
    PT_LOAD,
    PT_NOTE,
    Buffer,
    Machine,
    NoteRecord,
    Segment,
    iter_notes,
    parse_header,
)
from .notes import (
    NT_ARM_PAC_MASK,
    NT_AUXV,
    NT_FILE,
    NT_PRPSINFO,
    NT_PRSTATUS,
    NT_SIGINFO,
    PROGRAM_COUNTER,
    STACK_POINTER,
    MappedFile,
    ProcessInfo,
    SignalInfo,
    decode_auxv,
    decode_files,
    decode_pac_mask,
    decode_prpsinfo,
    decode_prstatus,
    decode_siginfo,
)
from .vendor import CrashNote, decode_note, is_crash_note

MAX_THREADS = 32768
"""Arbitrary; the default of kernel.pid_max."""
MAX_PROBLEMS = 16


class Thread(NamedTuple):
    """One thread: its registers as the core has them."""

    tid: int
    signal: int
    registers: dict[str, int]
    pc: int
    sp: int
    name: str | None
    """Its comm, where the core has a ``NT_PRPSINFO`` for it, else ``None``."""


class CoreFile:
    """A core file in memory.

    ``threads`` has the crashing thread first, as the kernel and our library
    write it; ``files`` is in order of address.  ``problems`` lists in words what
    was broken and left out.
    """

    def __init__(self, data: Buffer) -> None:
        header = parse_header(data)
        if header.type != ET_CORE:
            raise InvalidInputError("NotCore", f"an ELF file of type {header.type}, not a core")
        self._data = data
        self.machine: Machine = header.machine
        self.segments: tuple[Segment, ...] = tuple(
            sorted(
                (s for s in header.segments if s.type == PT_LOAD and s.memsz),
                key=lambda s: s.vaddr,
            )
        )
        self._starts = [segment.vaddr for segment in self.segments]
        self.threads: tuple[Thread, ...] = ()
        self.process: ProcessInfo | None = None
        self.signal: SignalInfo | None = None
        self.auxv: dict[int, int] = {}
        self.files: tuple[MappedFile, ...] = ()
        self.note: CrashNote | None = None
        self.signature_mask: int = 0
        """Bits of a return address that aarch64 may have signed it with."""
        self.problems: list[str] = []
        self._note_segments = tuple(s for s in header.segments if s.type == PT_NOTE)
        needed = max((s.offset + s.filesz for s in header.segments), default=0)
        self.truncated: bool = needed > len(data)
        if self.truncated:
            self._problem(f"the core is truncated: {len(data)} of {needed} bytes")
        self._read_notes()

    @classmethod
    def from_bytes(cls, data: Buffer) -> Self:
        """Parse a core held in ``bytes`` or an ``mmap``.

        Raises :class:`InvalidInputError`: reasons ``NotElf``, ``NotCore``,
        ``UnsupportedElf``, ``TruncatedHeaders``, ``TooManySegments``.
        """
        return cls(data)

    def read(self, address: int, size: int) -> bytes:
        """Up to ``size`` bytes of memory from ``address`` on.

        Shorter, or empty, where the core does not hold the rest; crosses
        adjacent segments.
        """
        parts: list[bytes] = []
        while size > 0 and (segment := self.segment_at(address)):
            start = address - segment.vaddr
            count = min(size, segment.filesz - start)
            if count <= 0:
                break
            part = self._data[segment.offset + start : segment.offset + start + count]
            parts.append(part)
            if len(part) < count:
                break
            address += count
            size -= count
        return b"".join(parts)

    def segment_at(self, address: int) -> Segment | None:
        """The ``PT_LOAD`` that maps ``address``, with or without saved bytes."""
        index = bisect_right(self._starts, address) - 1
        if index >= 0 and address < self.segments[index].end:
            return self.segments[index]
        return None

    def file_at(self, address: int) -> MappedFile | None:
        """The file mapping that ``address`` falls in."""
        index = bisect_right(self.files, address, key=lambda file: file.start) - 1
        if index >= 0 and address < self.files[index].end:
            return self.files[index]
        return None

    def records(self) -> Iterator[NoteRecord]:
        """The notes as they are stored, in order, up to a bound."""
        budget = MAX_NOTE_BYTES
        for segment in self._note_segments:
            if budget > 0:
                size = min(segment.filesz, budget)
                budget -= size
                yield from iter_notes(self._data[segment.offset : segment.offset + size])

    def _read_notes(self) -> None:
        threads: list[Thread] = []
        for record in self.records():
            try:
                self._read_note(record, threads)
            except ValueError as error:
                self._problem(str(error))
        self.threads = tuple(threads)
        if not threads:
            self._problem("the core has no thread")

    def _read_note(self, record: NoteRecord, threads: list[Thread]) -> None:
        if is_crash_note(record):
            self.note = self.note or decode_note(record.desc)
        elif (record.name, record.type) == (b"LINUX", NT_ARM_PAC_MASK):
            self.signature_mask = decode_pac_mask(record.desc)
        elif record.name != b"CORE":
            return
        elif record.type == NT_PRSTATUS:
            if len(threads) < MAX_THREADS:
                threads.append(self._thread(record.desc))
        elif record.type == NT_PRPSINFO:
            info = decode_prpsinfo(record.desc)
            self.process = self.process or info
            if threads and threads[-1].tid == info.pid:
                threads[-1] = threads[-1]._replace(name=info.comm)
        elif record.type == NT_SIGINFO:  # gcore writes one per thread, the first is the crash
            self.signal = self.signal or decode_siginfo(record.desc)
        elif record.type == NT_AUXV:
            self.auxv = self.auxv or decode_auxv(record.desc)
        elif record.type == NT_FILE:
            self.files = self.files or tuple(sorted(decode_files(record.desc)))

    def _thread(self, desc: bytes) -> Thread:
        status = decode_prstatus(desc, self.machine)
        pc = status.registers[PROGRAM_COUNTER[self.machine]]
        sp = status.registers[STACK_POINTER[self.machine]]
        return Thread(status.tid, status.signal, status.registers, pc, sp, None)

    def _problem(self, message: str) -> None:
        if len(self.problems) < MAX_PROBLEMS:
            self.problems.append(message)
