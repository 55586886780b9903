"""Modules: the ELF files a held process has mapped, opened while it lives.

Flows in: a `Holder`.  Flows out: read-only descriptors of its own files, for
the analysis.  The paths come from the kernel's ``maps`` but lead through the
pod's tree, so nothing is trusted until the opened file is the mapped one.
"""

from dataclasses import dataclass

from stillframe.capture.identity import Holder


@dataclass(frozen=True, slots=True)
class OpenModule:
    """A mapped file, open for reading."""

    path: str
    """As the process sees it."""
    fd: int


@dataclass(frozen=True, slots=True)
class OpenModules:
    """What could be opened, and what could not."""

    modules: tuple[OpenModule, ...]
    soft_errors: tuple[str, ...]
    """One line per module that could not be opened, with the reason; bounded."""

    def close(self) -> None:
        """Close every descriptor."""
        raise NotImplementedError


def open_modules(holder: Holder, *, max_modules: int, max_bytes: int) -> OpenModules:
    """Open the files that ``holder`` has mapped as code.

    At most ``max_modules`` files of at most ``max_bytes`` bytes each; files of
    filesystems that a server can stall (FUSE, network) are left out.  Never
    raises for a single file.
    """
    raise NotImplementedError
