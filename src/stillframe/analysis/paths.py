"""System calls that name a path, answered from the files given.

The sandbox opens nothing, and pystack knows its files by path alone.  So the
filter traps such a call instead of refusing it, and the signal's handler
answers: a duplicate of the fd given for that path, or ENOENT.  Every other
path, the host's own files included, does not exist; no privilege, namespace or
Landlock is needed.

The handler runs Python where the system call would have been: SIGSYS is synchronous, and a
library that calls ``open`` holds no lock of ours or of malloc.  `signal.signal` would not do: its
handlers run when the call has long returned.
"""

import ctypes
import errno
import fcntl
import os
import platform
import signal
from collections.abc import Callable, Mapping
from typing import Final, NamedTuple

from .escape import base_name

TRAPPED: Final = (
    *("open", "openat", "stat", "lstat", "access", "faccessat", "faccessat2"),
    *("readlink", "readlinkat"),
)
"""``newfstatat`` too, where it names a path."""
_OF_DIRECTORY: Final = {"openat", "newfstatat", "faccessat", "faccessat2", "readlinkat"}
"""Calls whose path is the second argument."""
_SA_SIGINFO: Final = 4
_SI_SYSCALL: Final = 24
"""Offset of ``si_syscall`` in siginfo_t (include/uapi/asm-generic/siginfo.h)."""
_MAX_PATH: Final = 4096


class _Registers(NamedTuple):
    """Where the handler finds a system call in its ``ucontext_t``: offsets, bytes."""

    first: int
    second: int
    third: int
    result: int


_REGISTERS: Final = {
    # sys/ucontext.h: gregs at 40; RDI, RSI, RDX and RAX are 8, 9, 12 and 13.
    "x86_64": _Registers(40 + 8 * 8, 40 + 9 * 8, 40 + 12 * 8, 40 + 13 * 8),
    # asm/sigcontext.h: regs at 176 + 8.
    "aarch64": _Registers(184, 192, 200, 184),
}
_Handler = ctypes.CFUNCTYPE(None, ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p)


class _Action(ctypes.Structure):
    """glibc's ``struct sigaction``."""

    _fields_ = (
        ("handler", _Handler),
        ("mask", ctypes.c_ulong * 16),
        ("flags", ctypes.c_int),
        ("restorer", ctypes.c_void_p),
    )


def answer_paths(files: Mapping[str, int], syscall_name: Callable[[int], str]) -> None:
    """From now on answer trapped calls of this process; to be called before the sandbox closes.

    ``files`` maps paths to open fds; what is none of these paths is tried by its base name: a
    library may have been mapped through another link.  Raises `OSError` where the kernel refuses.
    """
    given = _Given(files, syscall_name, _REGISTERS[platform.machine()])
    handler = _Handler(given.trapped)
    action = _Action(handler, flags=_SA_SIGINFO)
    if _libc.sigaction(signal.SIGSYS, ctypes.byref(action), None) != 0:
        raise OSError(ctypes.get_errno(), "sigaction")
    _installed.append(handler)


_libc: Final = ctypes.CDLL(None, use_errno=True)
_installed: Final[list[object]] = []
"""What the kernel calls must not be collected."""


class _Given:
    """The files, and how to answer a system call with them."""

    def __init__(
        self, files: Mapping[str, int], syscall_name: Callable[[int], str], registers: _Registers
    ) -> None:
        self._files = {base_name(path): fd for path, fd in files.items()} | dict(files)
        self._syscall_name = syscall_name
        self._registers = registers

    def trapped(self, _number: int, info: int, context: int) -> None:
        """Handle SIGSYS; both addresses are of what the kernel tells a handler."""
        name = self._syscall_name(ctypes.c_int.from_address(info + _SI_SYSCALL).value)
        at = self._registers
        first, second, third = (
            ctypes.c_void_p.from_address(context + offset).value or 0
            for offset in (at.first, at.second, at.third)
        )
        of_directory = name in _OF_DIRECTORY
        path, buffer = (second, third) if of_directory else (first, second)
        try:
            result = self._answer(name, self._file(path), buffer)
        except OSError as error:
            result = -(error.errno or errno.EPERM)
        ctypes.c_long.from_address(context + at.result).value = result

    def _file(self, address: int) -> int:
        path = os.fsdecode(ctypes.string_at(address)[:_MAX_PATH]) if address else ""
        fd = self._files.get(path, self._files.get(base_name(path)))
        if fd is None:
            raise FileNotFoundError(errno.ENOENT, "not given")
        return fd

    def _answer(self, name: str, fd: int, buffer: int) -> int:
        match name:
            case "open" | "openat":
                # It shares its offset with the others of this file; all readers map it.
                os.lseek(fd, 0, os.SEEK_SET)
                return fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, 0)
            case "stat" | "lstat" | "newfstatat":
                if _libc.fstat(fd, ctypes.c_void_p(buffer)) != 0:
                    raise OSError(ctypes.get_errno(), name)
                return 0
            case "access" | "faccessat" | "faccessat2":
                return 0
            case "readlink" | "readlinkat":
                return -errno.EINVAL  # not a symbolic link
            case _:
                return -errno.ENOSYS
