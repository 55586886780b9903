"""Pages: which memory of a stopped process belongs into its core.

Flows in: the lines of ``smaps`` and the page tables.  Flows out: mappings that
are wanted, and in each the ranges that can be read without waiting for
anybody: pages that are in memory or in swap, and that no file, no FUSE server
and no userfaultfd monitor would have to be asked for (a reader of such a page
hangs, beyond SIGKILL even).  Private copies of a file's pages are anonymous.
"""

import array
import ctypes
import errno
import fcntl
import mmap
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import Enum, IntFlag
from typing import Final

PAGE: Final = mmap.PAGESIZE
PAGEMAP_SCAN: Final = 0xC0606610
"""``_IOWR('f', 16, struct pm_scan_arg)``, include/uapi/linux/fs.h; Linux 6.7."""
DEFAULT_FILTER: Final = 0x33
"""``coredump_filter`` (core(5)) where it cannot be read."""
_REGIONS: Final = 1024
"""Ranges asked for at once: 24 KiB, however large the process is."""
_ENTRIES: Final = 8192
"""Entries of ``pagemap`` read at once: 64 KiB, for 32 MiB of memory."""
_NEVER: Final = frozenset({"dd", "io", "pf"})
"""``VmFlags``: MADV_DONTDUMP, device memory, raw page frames."""
_ORDINARY: Final = ("[heap]", "[stack", "[anon")
"""Names in brackets of what is the process's own; others, such as ``[vdso]``, are the kernel's."""


class Filter(IntFlag):
    """Bits of ``/proc/PID/coredump_filter`` that select what we can take."""

    ANONYMOUS_PRIVATE = 1 << 0
    ANONYMOUS_SHARED = 1 << 1
    HUGETLB_PRIVATE = 1 << 5


class Category(IntFlag):
    """``PAGE_IS_*`` of PAGEMAP_SCAN."""

    FILE = 1 << 2
    PRESENT = 1 << 3
    SWAPPED = 1 << 4
    PFNZERO = 1 << 5


class Kind(Enum):
    """What a mapping holds where nothing is saved."""

    ZEROS = "zeros"
    """Anonymous and private: an untouched page reads as zeros."""
    FILE = "file"
    """Private and of a file: only the copied pages are the process's own."""
    SHARED = "shared"
    """Shared anonymous memory: others may have touched what this process did not."""


@dataclass(frozen=True, slots=True)
class Mapping:
    """One entry of ``smaps``."""

    start: int
    end: int
    permissions: str
    """Such as ``rw-p``."""
    device: int
    """As ``st_dev``; 0 for anonymous memory."""
    path: str
    flags: frozenset[str] = frozenset()
    """``VmFlags``."""
    offset: int = 0
    """In the file, bytes."""

    @property
    def readable_plainly(self) -> bool:
        """Whether its pages are ordinary memory that may be read."""
        return not self.flags & _NEVER

    def kind(self, filter_: int, shared_memory: int) -> Kind | None:
        """What of it is wanted; None for nothing.

        ``shared_memory`` is the device of the kernel's own tmpfs, on which
        shared anonymous memory lies: a pod can name a file as it likes.
        """
        if not self.readable_plainly:
            return None
        if self.path.startswith("[") and not self.path.startswith(_ORDINARY):
            return None
        if self.permissions.endswith("s"):
            wanted = filter_ & Filter.ANONYMOUS_SHARED and self.device == shared_memory
            return Kind.SHARED if wanted else None
        if "ht" in self.flags:
            return Kind.FILE if filter_ & Filter.HUGETLB_PRIVATE else None
        if not filter_ & Filter.ANONYMOUS_PRIVATE:
            return None
        return Kind.FILE if self.device else Kind.ZEROS


def parse_smaps(lines: Iterable[bytes]) -> Iterator[Mapping]:
    r"""The mappings of an ``smaps``, one at a time.

    >>> lines = [b"7f00-8f00 rw-p 00000000 00:00 0\n", b"VmFlags: rd wr dd \n"]
    >>> [(m.start, sorted(m.flags)) for m in parse_smaps(lines)]
    [(32512, ['dd', 'rd', 'wr'])]
    """
    mapping, offset = None, 0
    for line in lines:
        fields = line.split(maxsplit=5)
        if fields[0] == b"VmFlags:" and mapping is not None:
            flags = frozenset(line.decode().split()[1:])
            yield Mapping(*mapping, flags=flags, offset=offset)
            mapping = None
        elif not fields[0].endswith(b":"):
            start, _, end = fields[0].partition(b"-")
            major, _, minor = fields[3].partition(b":")
            offset = int(fields[2], 16)
            path = os.fsdecode(fields[5].rstrip(b"\n")) if len(fields) > 5 else ""
            mapping = (
                int(start, 16),
                int(end, 16),
                fields[1].decode(),
                os.makedev(int(major, 16), int(minor, 16)),
                path,
            )


class _ScanArguments(ctypes.Structure):
    """``struct pm_scan_arg`` (include/uapi/linux/fs.h)."""

    _fields_ = tuple(
        (name, ctypes.c_uint64)
        for name in (
            "size", "flags", "start", "end", "walk_end", "vec", "vec_len", "max_pages",
            "category_inverted", "category_mask", "category_anyof_mask", "return_mask",
        )
    )  # fmt: skip


class PageTables:
    """The pages of one process, through an open ``pagemap``."""

    def __init__(self, pagemap_fd: int, *, scan: bool = True) -> None:
        """``scan=False`` does what kernels before 6.7 make us do."""
        self._fd = pagemap_fd
        self._scan = scan

    def saved(self, start: int, end: int, kind: Kind) -> Iterator[tuple[int, int]]:
        """The ranges between two addresses that hold something of the process's own."""
        if self._scan:
            try:
                yield from self._scanned(start, end, kind)
            except OSError as error:
                if error.errno not in (errno.ENOTTY, errno.EINVAL, errno.ENOSYS):
                    raise
                self._scan = False
        if not self._scan:
            yield from self._walked(start, end, kind)

    def _scanned(self, start: int, end: int, kind: Kind) -> Iterator[tuple[int, int]]:
        regions = (ctypes.c_uint64 * (3 * _REGIONS))()
        never = Category.PFNZERO | (Category(0) if kind is Kind.SHARED else Category.FILE)
        while start < end:
            arguments = _ScanArguments(
                size=ctypes.sizeof(_ScanArguments),
                start=start,
                end=end,
                vec=ctypes.addressof(regions),
                vec_len=_REGIONS,
                category_inverted=never,
                category_mask=never,
                category_anyof_mask=Category.PRESENT | Category.SWAPPED,
                # Nothing to return: neighbours differ in nothing and come as one range.
                return_mask=0,
            )
            count = fcntl.ioctl(self._fd, PAGEMAP_SCAN, arguments)
            for index in range(count):
                yield regions[3 * index], regions[3 * index + 1]
            start = arguments.walk_end

    def _walked(self, start: int, end: int, kind: Kind) -> Iterator[tuple[int, int]]:
        run = None
        for page in range(start, end, _ENTRIES * PAGE):
            size = min(_ENTRIES, (end - page) // PAGE) * 8
            data = os.pread(self._fd, size, page // PAGE * 8)
            # Of a large reservation most is untouched: look at it faster than entry by entry.
            entries = array.array("Q", data) if data.strip(b"\0") else ()
            if not entries and run is not None:
                yield run, page
                run = None
            for index, entry in enumerate(entries):
                file = entry >> 61 & 1 and kind is not Kind.SHARED
                if entry >> 62 and not file:
                    run = page + index * PAGE if run is None else run
                elif run is not None:
                    yield run, page + index * PAGE
                    run = None
        if run is not None:
            yield run, end


def shared_memory_device() -> int:
    """The device of shared anonymous memory, as a file of our own shows it."""
    fd = os.memfd_create("stillframe")
    try:
        return os.fstat(fd).st_dev
    finally:
        os.close(fd)
