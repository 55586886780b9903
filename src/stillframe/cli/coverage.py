"""What a preload library cannot see, told before the program starts.

Looks at the executable file only; says why in words, and lets it run.
"""

import mmap
import os
import stat
from pathlib import Path
from typing import Final

from stillframe.corefile.elf import parse_header
from stillframe.errors import InvalidInputError

PT_INTERP: Final = 3
SHEBANG_LIMIT: Final = 256
"""Bytes of a ``#!`` line that the kernel reads (BINPRM_BUF_SIZE)."""


def why_uncovered(program: Path) -> str | None:
    """Why crashes of ``program`` cannot be captured; None when nothing speaks against it.

    A script is judged by its interpreter.
    """
    try:
        with program.open("rb") as file:
            head = file.read(SHEBANG_LIMIT)
            if head.startswith(b"#!"):
                interpreter = head[2:].split(b"\n")[0].split()
                return why_uncovered(Path(os.fsdecode(interpreter[0]))) if interpreter else None
            status = os.fstat(file.fileno())
            if _raises_privileges(status, file.fileno()):
                return "it is setuid, setgid or has file capabilities: LD_PRELOAD is ignored"
            with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as image:
                segments = parse_header(image).segments
    except (OSError, ValueError):
        return None  # whether it can be run is for exec to say
    except InvalidInputError as error:
        return f"it is no ELF file of this kind of machine ({error})"
    if all(segment.type != PT_INTERP for segment in segments):
        return "it is statically linked: nothing can be preloaded"
    return None


def _raises_privileges(status: os.stat_result, fd: int) -> bool:
    """Whether exec gives the process more than we have (``AT_SECURE``)."""
    if status.st_mode & stat.S_ISUID and status.st_uid != os.geteuid():
        return True
    if status.st_mode & stat.S_ISGID and status.st_gid != os.getegid():
        return True
    return os.geteuid() != 0 and "security.capability" in os.listxattr(fd)
