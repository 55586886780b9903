"""Writes small ELF cores and images for tests.  Shares no code with the reader.

Layouts by elf(5), ``struct elf_prstatus`` and friends of Linux 6; x86-64.
"""

import struct
from dataclasses import dataclass, field

R, W, X = 4, 2, 1
REGISTERS = (
    "r15 r14 r13 r12 rbp rbx r11 r10 r9 r8 rax rcx rdx rsi rdi orig_rax rip cs eflags rsp ss "
    "fs_base gs_base ds es fs gs"
)


def note(name: bytes, kind: int, desc: bytes) -> bytes:
    """One note, padded to four bytes."""
    name += b"\0"
    head = struct.pack("<III", len(name), len(desc), kind)
    return head + name + bytes(-len(name) % 4) + desc + bytes(-len(desc) % 4)


def prstatus(tid: int, signal: int = 0, **registers: int) -> bytes:
    values = [registers.get(name, 0) for name in REGISTERS.split()]
    head = struct.pack("<iiihxxQQiiii", signal, 0, 0, signal, 0, 0, tid, 1, tid, tid)
    return head + bytes(64) + struct.pack("<27Q", *values) + bytes(8)


def prpsinfo(pid: int, comm: bytes, arguments: bytes = b"") -> bytes:
    return struct.pack(
        "<bbbbxxxxQIIiiii16s80s", 0, 82, 0, 0, 0, 1000, 1000, pid, 1, pid, pid, comm, arguments
    )


def siginfo(signal: int, code: int, payload: bytes = b"") -> bytes:
    return struct.pack("<iiixxxx", signal, 0, code) + payload.ljust(112, b"\0")


def sent_by(pid: int, uid: int = 0) -> bytes:
    return struct.pack("<iI", pid, uid)


def at(address: int) -> bytes:
    return struct.pack("<Q", address)


def nt_file(files: list[tuple[int, int, int, bytes]]) -> bytes:
    """``files``: start, end, offset in bytes, path."""
    ranges = b"".join(struct.pack("<QQQ", s, e, o // 4096) for s, e, o, _ in files)
    names = b"".join(path + b"\0" for *_, path in files)
    return struct.pack("<QQ", len(files), 4096) + ranges + names


def elf(kind: int, segments: list[tuple[int, int, int, bytes, int]], machine: int = 62) -> bytes:
    """An ELF file; ``segments``: type, flags, address, content, size in memory."""
    offset = 64 + 56 * len(segments)
    headers, content = b"", b""
    for p_type, flags, address, data, memsz in segments:
        where = offset + len(content)
        headers += struct.pack("<IIQQQQQQ", p_type, flags, where, address, 0, len(data), memsz, 1)
        content += data
    ident = b"\x7fELF\x02\x01\x01\x03".ljust(16, b"\0")
    head = struct.pack(
        "<HHIQQQIHHHHHH", kind, machine, 1, 0, 64, 0, 0, 64, 56, len(segments), 0, 0, 0
    )
    return ident + head + headers + content


def image(build_id: bytes = b"", kind: int = 3, vaddr: int = 0) -> bytes:
    """A mapped file's first page: an executable (2) or a shared object (3)."""
    notes = note(b"GNU", 3, build_id) if build_id else b""
    return elf(kind, [(4, R, 0, notes, len(notes)), (1, R, vaddr, b"", 4096)]).ljust(4096, b"\0")


@dataclass
class Core:
    """A core under construction."""

    notes: bytes = b""
    memory: list[tuple[int, int, bytes, int]] = field(default_factory=list)

    def add(self, kind: int, desc: bytes, name: bytes = b"CORE") -> "Core":
        self.notes += note(name, kind, desc)
        return self

    def thread(self, tid: int, signal: int = 0, **registers: int) -> "Core":
        return self.add(1, prstatus(tid, signal, **registers))

    def process(self, pid: int, comm: bytes = b"app") -> "Core":
        return self.add(3, prpsinfo(pid, comm))

    def signal(self, signal: int, code: int, payload: bytes = b"") -> "Core":
        return self.add(0x53494749, siginfo(signal, code, payload))

    def files(self, *files: tuple[int, int, int, bytes]) -> "Core":
        return self.add(0x46494C45, nt_file(list(files)))

    def map(self, address: int, content: bytes, flags: int, size: int | None = None) -> "Core":
        self.memory.append((address, flags, content, len(content) if size is None else size))
        return self

    def build(self) -> bytes:
        loads = [(1, flags, address, data, size) for address, flags, data, size in self.memory]
        return elf(4, [(4, 0, 0, self.notes, 0), *loads])
