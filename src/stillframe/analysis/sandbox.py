"""Give up everything but computing: what the analysis child does before it reads a core.

After :func:`lock_down` the process can read the file descriptors it already has,
allocate memory up to its limit, write to standard output and error, and end.  It
can open nothing at all (so imports must be done), nor make a socket, a process,
a thread or executable memory, trace or signal anybody.

The filter allows a list and refuses the rest with EPERM: a refused call is an
error in the parser's report, while a deny list would miss the system calls of
next year's kernel.  A parser that knows its files by path has calls that name
one trapped instead, and answered from its own files (:mod:`.paths`).
"""

import ctypes
import mmap
import os
import resource
from collections.abc import Sequence
from pathlib import Path

from stillframe.corefile.elf import Machine

from .job import Limits
from .paths import TRAPPED

try:
    import pyseccomp
except RuntimeError as error:  # it says so itself when libseccomp.so.2 is not found
    raise ImportError("libseccomp is missing") from error


_ALLOWED = (
    *("read", "readv", "pread64", "preadv", "lseek", "close", "fstat", "dup"),
    *("brk", "munmap", "mremap", "madvise", "futex", "restart_syscall"),
    *("rt_sigreturn", "rt_sigprocmask", "rt_sigaction", "sigaltstack"),
    *("getpid", "gettid", "getrandom", "clock_gettime", "gettimeofday", "getrusage"),
    *("sched_yield", "sched_getaffinity", "exit", "exit_group"),
)
_PR_SET_DUMPABLE = 4
_PR_SET_NO_NEW_PRIVS = 38
_CAPABILITY_VERSION_3 = 0x20080522
_AT_EMPTY_PATH = 0x1000
_AT_SYMLINK_NOFOLLOW = 0x100
_F_GETFD, _F_GETFL, _F_DUPFD_CLOEXEC = 1, 3, 1030


def lock_down(
    limits: Limits, file_bytes: int = 0, *, scratch_fd: int | None = None, trap_paths: bool = False
) -> None:
    """Lock this process down, for good; raises ``OSError`` where the kernel refuses.

    ``file_bytes`` is what the files it will map need of the address space.  The
    file ``scratch_fd`` may be written, up to ``limits.core_bytes``, and mapped
    twice for reading.  ``trap_paths`` is for who has a handler of SIGSYS.
    """
    core_bytes = 0 if scratch_fd is None else limits.core_bytes
    Path("/proc/self/oom_score_adj").write_text("1000")  # a memory bomb ends us, not the agent
    _limit(resource.RLIMIT_AS, limits.memory_bytes + file_bytes + 2 * core_bytes)
    _limit(resource.RLIMIT_DATA, limits.memory_bytes + file_bytes)
    _limit(resource.RLIMIT_CPU, limits.cpu_seconds, limits.cpu_seconds + 1)  # SIGXCPU first
    _limit(resource.RLIMIT_NOFILE, limits.open_files)
    _limit(resource.RLIMIT_FSIZE, core_bytes)
    _limit(resource.RLIMIT_CORE, 0)
    _limit(resource.RLIMIT_NPROC, 0)
    libc = ctypes.CDLL(None, use_errno=True)
    _check(libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), "PR_SET_NO_NEW_PRIVS")
    header = (ctypes.c_uint32 * 2)(_CAPABILITY_VERSION_3, 0)
    _check(libc.capset(header, (ctypes.c_uint32 * 6)()), "capset")
    # Not dumpable: others of our uid cannot attach, and a core pattern gets nothing.
    _check(libc.prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0), "PR_SET_DUMPABLE")
    writable = (1, 2) if scratch_fd is None else (1, 2, scratch_fd)
    _filter(writable, TRAPPED if trap_paths else ()).load()


def syscall_name(machine: Machine, number: int) -> str:
    """The name of a system call of an architecture; empty when unknown."""
    arch = pyseccomp.Arch.X86_64 if machine is Machine.X86_64 else pyseccomp.Arch.AARCH64
    try:
        name: bytes = pyseccomp.resolve_syscall(arch, number)
    except ValueError:
        return ""
    return name.decode()


def _filter(writable: Sequence[int], trapped: Sequence[str]) -> "pyseccomp.SyscallFilter":
    eq, masked = pyseccomp.EQ, pyseccomp.MASKED_EQ
    allow = pyseccomp.SyscallFilter(pyseccomp.ERRNO(1))
    for name in _ALLOWED:
        allow.add_rule(pyseccomp.ALLOW, name)
    for fd in writable:
        allow.add_rule(pyseccomp.ALLOW, "write", pyseccomp.Arg(0, eq, fd))
    for name in ("mmap", "mprotect"):
        allow.add_rule(pyseccomp.ALLOW, name, pyseccomp.Arg(2, masked, mmap.PROT_EXEC, 0))
    for command in (_F_GETFD, _F_GETFL, _F_DUPFD_CLOEXEC):
        allow.add_rule(pyseccomp.ALLOW, "fcntl", pyseccomp.Arg(1, eq, command))
    # glibc spells fstat(fd) as newfstatat(fd, "", AT_EMPTY_PATH).
    allow.add_rule(pyseccomp.ALLOW, "newfstatat", pyseccomp.Arg(3, eq, _AT_EMPTY_PATH))
    for name in trapped:
        allow.add_rule(pyseccomp.TRAP, name)
    if trapped:
        for flags in (0, _AT_SYMLINK_NOFOLLOW):
            allow.add_rule(pyseccomp.TRAP, "newfstatat", pyseccomp.Arg(3, eq, flags))
    return allow


def _limit(what: int, soft: int, hard: int | None = None) -> None:
    _, highest = resource.getrlimit(what)
    allowed = [soft if hard is None else hard, *([highest] if highest >= 0 else [])]
    resource.setrlimit(what, (min(soft, *allowed), min(allowed)))


def _check(result: int, what: str) -> None:
    if result != 0:
        code = ctypes.get_errno()
        raise OSError(code, f"{what}: {os.strerror(code)}")
