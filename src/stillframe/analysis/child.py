"""What the sandboxed children have in common."""

import mmap
import os
import sys
from collections.abc import Sequence

from .job import JobModule, Limits


def affordable(modules: Sequence[JobModule], limits: Limits) -> tuple[list[JobModule], list[str]]:
    """The modules that fit the limit, and a sentence for each that does not."""
    left, kept, problems = limits.module_bytes, [], []
    for module in modules:
        bytes_ = size(module.fd)
        if bytes_ <= left:
            left -= bytes_
            kept.append(module)
        else:
            problems.append(f"{module.path}: left out, {bytes_} bytes are too many")
    return kept, problems


def size(fd: int) -> int:
    """Of a file, bytes."""
    return os.fstat(fd).st_size


def map_file(fd: int) -> bytes | mmap.mmap:
    """The whole file; an empty one cannot be mapped."""
    return mmap.mmap(fd, size(fd), prot=mmap.PROT_READ) if size(fd) else b""


def fail(status: int, message: str) -> int:
    """Say why on standard error; returns ``status``."""
    print(message, file=sys.stderr)
    return status
