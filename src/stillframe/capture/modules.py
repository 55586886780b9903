"""Modules: the ELF files a held process has mapped, opened while it lives.

Flows in: a `Holder`.  Flows out: read-only descriptors of its own files, for
the analysis.  The paths come from the kernel's ``maps`` but lead through the
pod's tree, so nothing is trusted until the opened file is the mapped one.
"""

import ctypes
import errno
import mmap
import os
from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from stillframe.capture.harmless import filesystems_of, open_harmless
from stillframe.capture.identity import Holder
from stillframe.capture.kernel import Resolve

MAPS_LIMIT: Final = 16 << 20
"""Bytes read of ``maps``: about 150,000 mappings, more than the kernel's default allows."""
_RESOLVE: Final = (
    # CACHED: the mapping pins its dentries, so a lookup that would have to ask
    # a server or a disk leads elsewhere.  NO_SYMLINKS: paths in maps have none.
    Resolve.IN_ROOT | Resolve.NO_MAGICLINKS | Resolve.NO_SYMLINKS | Resolve.CACHED
)
_EXPLANATIONS: Final = {
    errno.EAGAIN: "not at the path it was mapped from",
    errno.ENOENT: "not at the path it was mapped from",
    errno.EINVAL: "this kernel has no openat2(RESOLVE_CACHED), Linux 5.12",
    errno.ENOSYS: "this kernel has no openat2, Linux 5.6",
}


@dataclass(frozen=True, slots=True)
class Mapping:
    """One line of a ``maps`` file that is backed by a file."""

    start: int
    """Address."""
    executable: bool
    inode: str
    """Device and inode number as printed: ``fe:00 326269``."""
    path: str


@dataclass(frozen=True, slots=True)
class OpenModule:
    """A mapped file, open for reading."""

    path: str
    """As the process sees it."""
    fd: int


class OpenModules:
    """The files at the paths of a process's modules; owns their descriptors."""

    def __init__(
        self, opened: Iterable[tuple[Mapping, int]] = (), soft_errors: Iterable[str] = ()
    ) -> None:
        self._opened = list(opened)
        self._soft_errors = list(soft_errors)

    def checked(self) -> tuple[tuple[OpenModule, ...], tuple[str, ...]]:
        """Those that are the mapped files; a line for each other one, with the reason.

        Needs no process, which need not wait for it.
        """
        modules = []
        inodes = _inodes_as_mapped([fd for _, fd in self._opened])
        for (mapping, fd), inode in zip(self._opened, inodes, strict=True):
            if inode == mapping.inode:
                modules.append(OpenModule(mapping.path, fd))
            else:
                self._soft_errors.append(f"{_printable(mapping)}: another file than the mapped one")
        return tuple(modules), tuple(self._soft_errors)

    def close(self) -> None:
        """Close every descriptor."""
        for _mapping, fd in self._opened:
            os.close(fd)


def open_modules(holder: Holder, *, max_modules: int, max_bytes: int) -> OpenModules:
    """Open the files that ``holder`` has mapped as code.

    At most ``max_modules`` files of at most ``max_bytes`` bytes each; files of
    filesystems that a server can stall (FUSE, network) are left out.  Never
    raises for a single file; `OSError` when the process cannot be read.
    """
    mapped = _code_files(parse_maps(_read_all(holder.task_fd, "maps")))
    soft_errors = []
    if len(mapped) > max_modules:
        soft_errors.append(f"{len(mapped)} modules, only {max_modules} opened")
    filesystems = filesystems_of(holder)
    root_fd = os.open("root", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=holder.task_fd)
    opened: list[tuple[Mapping, int]] = []
    try:
        for mapping in mapped[:max_modules]:
            try:
                fd = open_harmless(
                    root_fd, mapping.path, _RESOLVE, filesystems, max_bytes=max_bytes
                )
            except OSError as error:
                why = _EXPLANATIONS.get(error.errno or 0, error.strerror)
                soft_errors.append(f"{_printable(mapping)}: {why}")
            else:
                opened.append((mapping, fd))
    finally:
        os.close(root_fd)
    return OpenModules(opened, soft_errors)


def _printable(mapping: Mapping) -> str:
    """Its name may be no UTF-8, and no manifest could keep it as it is."""
    return ascii(mapping.path)[1:-1]


def parse_maps(text: str) -> list[Mapping]:
    r"""The file-backed mappings in a ``/proc/PID/maps``.

    >>> parse_maps("7f00-8f00 r-xp 00001000 fe:00 42     /lib/a\\012b\n8f00-9f00 rw-p 0 00:00 0\n")
    [Mapping(start=32512, executable=True, inode='fe:00 42', path='/lib/a\nb')]
    """
    mappings = []
    for line in text.split("\n"):
        fields = line.split(maxsplit=5)
        if len(fields) == 6 and fields[5].startswith("/"):
            addresses, permissions, _offset, device, inode, path = fields
            # The kernel escapes only the newline in these paths (fs/proc/task_mmu.c).
            mappings.append(
                Mapping(
                    start=int(addresses.partition("-")[0], 16),
                    executable="x" in permissions,
                    inode=f"{device} {inode}",
                    path=path.replace("\\012", "\n"),
                )
            )
    return mappings


def _code_files(mappings: list[Mapping]) -> list[Mapping]:
    """One mapping of each file that is mapped executable, in address order."""
    return list({m.inode: m for m in reversed(mappings) if m.executable}.values())[::-1]


def _inodes_as_mapped(fds: Sequence[int]) -> list[str]:
    """The device and inode that ``maps`` shows for a mapping of each; empty where it has none.

    Measured with the same ruler because ``st_dev`` is another one: on
    overlayfs over another filesystem, ``stat`` says 00:29 where ``maps`` says
    00:27 (seen on Linux 6.18), and kernels differ.  All at once, because our own
    ``maps`` takes a millisecond.
    """
    with ExitStack() as mapped:
        addresses = [_mapped_at(fd, mapped) for fd in fds]
        ours = parse_maps(os.fsdecode(Path("/proc/self/maps").read_bytes()))
    inodes = {mapping.start: mapping.inode for mapping in ours}
    return [inodes.get(address, "") for address in addresses]


def _mapped_at(fd: int, until: ExitStack) -> int:
    """The address of the first page of a file; 0 where it cannot be mapped."""
    try:
        # A private writable mapping, because ctypes gives addresses of writable buffers only.
        mapped = until.enter_context(mmap.mmap(fd, 1, access=mmap.ACCESS_COPY))
    except OSError:
        return 0
    return ctypes.addressof(ctypes.c_char.from_buffer(mapped))


def _read_all(directory_fd: int, path: str) -> str:
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC, dir_fd=directory_fd)
    with os.fdopen(fd, "rb") as file:
        return os.fsdecode(file.read(MAPS_LIMIT))
