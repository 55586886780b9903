"""The pages of a real process: ours, by PAGEMAP_SCAN and by pagemap, which must agree."""

import ctypes
import mmap
import os
from collections.abc import Iterator

import pytest

from stillframe.capture.pages import PAGE, Kind, PageTables

PAGES = 64
TOUCHED = (0, 1, 2, 9, 40, 63)


@pytest.fixture
def pagemap() -> Iterator[int]:
    fd = os.open("/proc/self/pagemap", os.O_RDONLY)
    yield fd
    os.close(fd)


def touched(memory: mmap.mmap) -> int:
    """Write to some pages; the address of the first."""
    memory.madvise(mmap.MADV_NOHUGEPAGE)
    for page in TOUCHED:
        memory[page * PAGE] = 1
    return ctypes.addressof(ctypes.c_char.from_buffer(memory))


@pytest.mark.parametrize("scan", [True, False], ids=["scan", "walk"])
@pytest.mark.parametrize(
    ("flags", "kind"), [(mmap.MAP_PRIVATE, Kind.ZEROS), (mmap.MAP_SHARED, Kind.SHARED)]
)
def test_touched_pages_are_saved(pagemap: int, scan: bool, flags: int, kind: Kind) -> None:
    memory = mmap.mmap(-1, PAGES * PAGE, flags=flags | mmap.MAP_ANONYMOUS)
    start = touched(memory)
    ranges = PageTables(pagemap, scan=scan).saved(start, start + PAGES * PAGE, kind)
    assert [(first - start) // PAGE for first, _ in ranges] == [0, 9, 40, 63]


@pytest.mark.parametrize("scan", [True, False], ids=["scan", "walk"])
def test_of_a_file_only_changed_pages_are_saved(pagemap: int, scan: bool) -> None:
    fd = os.memfd_create("file")
    os.truncate(fd, PAGES * PAGE)
    memory = mmap.mmap(fd, PAGES * PAGE, flags=mmap.MAP_PRIVATE)
    os.close(fd)
    assert memory[20 * PAGE] == 0  # read, so mapped, but still the file's
    start = touched(memory)
    ranges = list(PageTables(pagemap, scan=scan).saved(start, start + PAGES * PAGE, Kind.FILE))
    assert [(a - start, b - start) for a, b in ranges] == [
        (first * PAGE, (last + 1) * PAGE) for first, last in ((0, 2), (9, 9), (40, 40), (63, 63))
    ]
