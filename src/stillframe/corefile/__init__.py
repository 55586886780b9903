"""Read ELF cores: ours, the kernel's and gcore's. Computes only, no I/O.

Bytes (or an ``mmap``) flow in, frozen values flow out; :class:`CoreFile` is the
way in.  A core comes from a pod and is hostile: whatever it holds, reading ends
with a value or with :class:`~stillframe.errors.InvalidInputError`, in time and
memory linear in the size of the file.  Unwinding and symbols are deliberately
absent: see :mod:`stillframe.analysis`.
"""

from ._note import REQUEST_KEY, Flag, Involvement, Note, Release
from .core import CoreFile, Thread
from .notes import MappedFile, ProcessInfo, SignalInfo
from .vendor import CrashNote

__all__ = [
    "REQUEST_KEY",
    "CoreFile",
    "CrashNote",
    "Flag",
    "Involvement",
    "MappedFile",
    "Note",
    "ProcessInfo",
    "Release",
    "SignalInfo",
    "Thread",
]
