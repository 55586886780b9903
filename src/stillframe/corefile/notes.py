"""The standard notes of a core: descriptors in, plain values out.

Layouts of 64-bit Linux: ``include/linux/elfcore.h`` (``elf_prstatus``,
``elf_prpsinfo``), ``asm-generic/siginfo.h``, ``fs/binfmt_elf.c:fill_files_note``.
Each decoder raises ``ValueError`` with the reason when the descriptor is not
what its type says; :mod:`.core` turns that into a problem of the core, because
one bad note must not cost the others.
"""

import struct
from typing import NamedTuple

from .elf import Machine

NT_PRSTATUS = 1
NT_PRPSINFO = 3
NT_AUXV = 6
NT_SIGINFO = 0x53494749
NT_FILE = 0x46494C45
NT_ARM_PAC_MASK = 0x406
"""Owner ``LINUX``; ``struct user_pac_mask`` of ``arch/arm64/include/uapi/asm/ptrace.h``."""

_PRSTATUS_PID = struct.Struct("<32xi")
_PRSTATUS_SIGNAL = struct.Struct("<12xh")
_PRSTATUS_REGISTERS = 112
_PRPSINFO = struct.Struct("<4x4x8xIIiiii16s80s")
_SIGINFO = struct.Struct("<iii4xQ")
_SIGINFO_SENDER = struct.Struct("<16xiI")
_SIGINFO_SYSCALL = struct.Struct("<16xQiI")

REGISTERS: dict[Machine, tuple[str, ...]] = {
    Machine.X86_64: (
        *("r15", "r14", "r13", "r12", "rbp", "rbx", "r11", "r10", "r9", "r8", "rax", "rcx", "rdx"),
        *("rsi", "rdi", "orig_rax", "rip", "cs", "eflags", "rsp", "ss", "fs_base", "gs_base"),
        *("ds", "es", "fs", "gs"),
    ),
    Machine.AARCH64: (*(f"x{n}" for n in range(31)), "sp", "pc", "pstate"),
}
"""``elf_gregset_t`` of each machine, in order; eight bytes each."""
PROGRAM_COUNTER = {Machine.X86_64: "rip", Machine.AARCH64: "pc"}
STACK_POINTER = {Machine.X86_64: "rsp", Machine.AARCH64: "sp"}


class ThreadStatus(NamedTuple):
    """``NT_PRSTATUS``."""

    tid: int
    signal: int
    """``pr_cursig``: the signal being delivered, 0 for none."""
    registers: dict[str, int]


class ProcessInfo(NamedTuple):
    """``NT_PRPSINFO``; ids as the process saw them."""

    uid: int
    gid: int
    pid: int
    ppid: int
    comm: str
    arguments: str
    """First 79 bytes of the command line.  May hold secrets."""


class SignalInfo(NamedTuple):
    """``NT_SIGINFO``, the parts that some signal uses.

    Which of ``address``, ``sender_*`` and ``syscall`` mean anything depends on
    ``signal`` and ``code``: see sigaction(2).
    """

    signal: int
    code: int
    address: int
    sender_pid: int
    sender_uid: int
    syscall: int


class MappedFile(NamedTuple):
    """One line of ``NT_FILE``: ``[start, end)`` maps ``path`` from byte ``offset`` on."""

    start: int
    end: int
    offset: int
    path: str


def decode_prstatus(desc: bytes, machine: Machine) -> ThreadStatus:
    """Registers and ids of one thread.

    >>> decode_prstatus(bytes(336), Machine.X86_64).registers["rip"]
    0
    """
    names = REGISTERS[machine]
    layout = struct.Struct(f"<{len(names)}Q")
    if len(desc) < _PRSTATUS_REGISTERS + layout.size:
        raise ValueError(f"NT_PRSTATUS of {len(desc)} bytes")
    registers = layout.unpack_from(desc, _PRSTATUS_REGISTERS)
    (tid,) = _PRSTATUS_PID.unpack_from(desc)
    (signal,) = _PRSTATUS_SIGNAL.unpack_from(desc)
    return ThreadStatus(tid, signal, dict(zip(names, registers, strict=True)))


def decode_prpsinfo(desc: bytes) -> ProcessInfo:
    """Who the process was."""
    if len(desc) < _PRPSINFO.size:
        raise ValueError(f"NT_PRPSINFO of {len(desc)} bytes")
    uid, gid, pid, ppid, _, _, comm, arguments = _PRPSINFO.unpack_from(desc)
    return ProcessInfo(uid, gid, pid, ppid, text(comm), text(arguments).rstrip())


def decode_siginfo(desc: bytes) -> SignalInfo:
    """Why the process died, as the kernel told it."""
    if len(desc) < 32:
        raise ValueError(f"NT_SIGINFO of {len(desc)} bytes")
    signal, _, code, address = _SIGINFO.unpack_from(desc)
    sender_pid, sender_uid = _SIGINFO_SENDER.unpack_from(desc)
    _, syscall, _ = _SIGINFO_SYSCALL.unpack_from(desc)
    return SignalInfo(signal, code, address, sender_pid, sender_uid, syscall)


def decode_auxv(desc: bytes) -> dict[int, int]:
    """The auxiliary vector by type, up to ``AT_NULL``; see getauxval(3)."""
    entries: dict[int, int] = {}
    for key, value in struct.iter_unpack("<QQ", desc[: len(desc) // 16 * 16]):
        if key == 0:
            break
        entries.setdefault(key, value)
    return entries


def decode_pac_mask(desc: bytes) -> int:
    """The bits of a signed return address that hold its signature."""
    if len(desc) < 16:
        raise ValueError(f"NT_ARM_PAC_MASK of {len(desc)} bytes")
    _data, instructions = struct.unpack_from("<QQ", desc)
    return int(instructions)


def decode_files(desc: bytes) -> tuple[MappedFile, ...]:
    """The file mappings, in the order of the note (by address, in real cores)."""
    if len(desc) < 16:
        raise ValueError(f"NT_FILE of {len(desc)} bytes")
    count, page_size = struct.unpack_from("<QQ", desc)
    names_at = 16 + 24 * count
    if names_at > len(desc):
        raise ValueError(f"NT_FILE of {len(desc)} bytes claims {count} files")
    names = desc[names_at:].split(b"\0", count)
    if len(names) <= count:
        raise ValueError(f"NT_FILE has {len(names) - 1} names for {count} files")
    ranges = struct.iter_unpack("<QQQ", desc[16:names_at])
    return tuple(
        MappedFile(start, end, page * page_size, text(name))
        for (start, end, page), name in zip(ranges, names, strict=False)
    )


def text(raw: bytes) -> str:
    r"""C string to text; bytes that are not UTF-8 survive as ``\xNN``.

    >>> text(b"app\xff\0junk")
    'app\\xff'
    """
    return raw.partition(b"\0")[0].decode("utf-8", "backslashreplace")
