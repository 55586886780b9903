"""Stage 1: which ELF files were mapped where, and which of the given files they are.

In: the core's mappings and first pages, the files given.  Out: one
:class:`Image` per mapped ELF file, in order of address.
"""

from bisect import bisect_right
from collections.abc import Sequence
from itertools import pairwise
from typing import Literal, NamedTuple

from stillframe.corefile import CoreFile, MappedFile
from stillframe.corefile.elf import (
    PT_LOAD,
    Buffer,
    ElfHeader,
    Segment,
    build_id,
    is_debug_file,
    parse_header,
)
from stillframe.errors import InvalidInputError

AT_SYSINFO_EHDR = 33
ET_EXEC = 2
VDSO = "[vdso]"
"""The path of the kernel's own library, which is no file."""
PAGE = 4096
"""The alignment assumed for load addresses; larger pages only make it finer."""

Status = Literal["matched", "unverified", "mismatch", "missing"]


class GivenFile(NamedTuple):
    """A file handed in for analysis; its fd stays the caller's."""

    path: str
    fd: int
    data: Buffer
    build_id: bytes | None


def given_file(path: str, fd: int, data: Buffer) -> GivenFile:
    """A file by its content; one that is no ELF file will match no module."""
    return GivenFile(path, fd, data, _build_id(data))


class Image(NamedTuple):
    """A mapped ELF file: addresses in the process, ``[start, end)``."""

    path: str
    start: int
    end: int
    bias: int
    """Address in the process minus address in the file's own program headers."""
    build_id: bytes | None
    status: Status
    segments: tuple[Segment, ...]
    """The file's own program headers."""
    file: GivenFile | None
    """The file of the same path, unless it is another build; else one of the same build ID."""

    def flags_at(self, address: int) -> int:
        """The permissions (PF_*) that the file wants at an address of the process."""
        at = address - self.bias
        loads = (s for s in self.segments if s.type == PT_LOAD)
        return next((s.flags for s in loads if s.vaddr // PAGE * PAGE <= at < s.end), 0)


class Images:
    """All images of a process."""

    def __init__(self, images: Sequence[Image], given: Sequence[GivenFile]) -> None:
        self.all = tuple(images)
        self.given = tuple(given)
        self._starts = [image.start for image in images]

    def at(self, address: int) -> Image | None:
        """The image that covers an address."""
        index = bisect_right(self._starts, address) - 1
        if index >= 0 and address < self.all[index].end:
            return self.all[index]
        return None

    def candidates(self, image: Image) -> list[GivenFile]:
        """Files to try for an image: its own, then others of its build ID (debug files)."""
        own = [image.file] if image.file else []
        if image.build_id is None:
            return own
        same = (file for file in self.with_build_id(image.build_id) if file is not image.file)
        return [*own, *same]

    def with_build_id(self, build_id: bytes) -> list[GivenFile]:
        """The files given that have a build ID."""
        return [file for file in self.given if file.build_id == build_id]


class _Files(NamedTuple):
    """The files given, to look them up."""

    by_path: dict[str, GivenFile]
    by_build_id: dict[bytes, GivenFile]
    """Those with code: a debug file alone cannot stand for what is mapped."""

    def find(self, path: str, wanted: bytes | None) -> GivenFile | None:
        """The file for a mapped one: of its path, or else of its build ID."""
        own = self.by_path.get(path)
        if wanted is None or (own and own.build_id in (None, wanted)):
            return own
        return self.by_build_id.get(wanted, own)


def find_images(core: CoreFile, given: Sequence[GivenFile]) -> Images:
    """The ELF images among the core's mapped files."""
    files = _Files(
        {file.path: file for file in given},
        {
            file.build_id: file
            for file in given
            if file.build_id is not None and not is_debug_file(file.data)
        },
    )
    found = [*(_image(core, group, files) for group in _groups(core.files)), _vdso(core)]
    images = sorted((image for image in found if image), key=lambda image: image.start)
    return Images(images, given)


def _groups(files: Sequence[MappedFile]) -> list[list[MappedFile]]:
    """Neighbours that map the same file; offset 0 starts the file anew."""
    groups: list[list[MappedFile]] = [[files[0]]] if files else []
    for previous, file in pairwise(files):
        if file.path == previous.path and file.offset != 0:
            groups[-1].append(file)
        else:
            groups.append([file])
    return groups


def _image(core: CoreFile, group: list[MappedFile], files: _Files) -> Image | None:
    first, last = group[0], group[-1]
    page = core.read(first.start, PAGE) if first.offset == 0 else b""
    file = files.find(first.path, _build_id(page))
    head = page or (file.data[:PAGE] if file else b"")
    header = _header(head)
    if header is None:
        return None
    bias = _bias(header, first.start)
    wanted = _build_id(page)
    status = _status(wanted, file)
    known = wanted or (file.build_id if file else None)
    usable = file if status in ("matched", "unverified") else None
    segments = header.segments
    return Image(first.path, first.start, last.end, bias, known, status, segments, usable)


def _vdso(core: CoreFile) -> Image | None:
    """The kernel's own library: mapped without a file, at AT_SYSINFO_EHDR."""
    start = core.auxv.get(AT_SYSINFO_EHDR, 0)
    segment = core.segment_at(start)
    page = core.read(start, PAGE) if segment and segment.vaddr == start else b""
    header = _header(page)
    if segment is None or header is None:
        return None
    bias, found = _bias(header, start), _build_id(page)
    return Image(VDSO, start, segment.end, bias, found, "missing", header.segments, None)


def _status(wanted: bytes | None, file: GivenFile | None) -> Status:
    if file is None:
        return "missing"
    if wanted is None or file.build_id is None:
        return "unverified"
    return "matched" if file.build_id == wanted else "mismatch"


def _header(head: bytes) -> ElfHeader | None:
    """The header of an ELF file by its first page; ``None`` if the file is none."""
    try:
        return parse_header(head)
    except InvalidInputError:
        return None


def _bias(header: ElfHeader, start: int) -> int:
    if header.type == ET_EXEC:
        return 0
    loads = (s.vaddr for s in header.segments if s.type == PT_LOAD)
    return start - next(loads, 0) // PAGE * PAGE


def _build_id(data: Buffer) -> bytes | None:
    try:
        return build_id(data)
    except InvalidInputError:
        return None
