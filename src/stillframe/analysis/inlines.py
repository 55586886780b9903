"""Inline frames of functions that drgn does not find.

drgn looks for a function's debug information among the children of its unit.
C++ has every body there; a free function of Rust is inside of its modules'
namespaces.  Such a frame has a name by its symbol alone, and the line of
whatever was inlined there.  pyelftools takes it apart, for the crashing thread
and within a budget: a debug information entry costs it some 25 µs.
"""

import os
from collections.abc import Iterator
from io import BytesIO
from typing import Any, NamedTuple

from elftools.common.exceptions import ELFError
from elftools.elf.elffile import ELFFile

from .images import Image, Images
from .model import MAX_FRAMES_CRASHED
from .stack import Stack
from .trust import TrustedFrame

MAX_UNIT_BYTES = 512 << 10
"""Debug information read for one stack: about a second.  Rust's standard library has more."""
_MANGLED = ("_ZN", "_R")
_FUNCTIONS = ("DW_TAG_subprogram", "DW_TAG_inlined_subroutine")
_SCOPES = ("DW_TAG_namespace", "DW_TAG_structure_type", "DW_TAG_enumeration_type")


class _Site(NamedTuple):
    """A function, and where it is called in the one around it."""

    function: str
    file: str
    line: int


def with_inline_frames(images: Images, stack: Stack) -> Stack:
    """The stack, its innermost part completed; raises what pyelftools raises on bad files."""
    files: dict[str, _DebugFile | None] = {}
    budget = _Budget(MAX_UNIT_BYTES)
    frames: list[TrustedFrame] = []
    head = stack.frames[: stack.head]
    for index, frame in enumerate(head):
        image = images.at(frame.raw.lookup)
        sites: list[_Site] = []
        if image and _is_unknown(frame) and not (index and head[index - 1].raw.inline):
            if image.path not in files:
                files[image.path] = _open(images, image, budget)
            if file := files[image.path]:
                sites = file.sites(frame.raw.lookup - image.bias)
        frames += _taken_apart(frame, sites) if sites else [frame]
    total = stack.total + len(frames) - len(head)
    frames = frames[:MAX_FRAMES_CRASHED]
    return Stack([*frames, *stack.frames[stack.head :]], len(frames), total)


def _is_unknown(frame: TrustedFrame) -> bool:
    """Whether drgn knows the line and not the function."""
    raw = frame.raw
    return bool(
        raw.file and not raw.inline and not raw.function and raw.symbol.startswith(_MANGLED)
    )


def _taken_apart(frame: TrustedFrame, sites: list[_Site]) -> Iterator[TrustedFrame]:
    """Innermost first.  The line that drgn found is the innermost function's."""
    file, line = frame.raw.file, frame.raw.line
    for site in reversed(sites[1:]):
        raw = frame.raw._replace(
            function=site.function, symbol="", file=file, line=line, inline=True
        )
        yield frame._replace(raw=raw)
        file, line = site.file, site.line
    yield frame._replace(raw=frame.raw._replace(file=file, line=line))


class _Budget:
    """Bytes of units that may still be read."""

    def __init__(self, left: int) -> None:
        self._left = left

    def take(self, size: int) -> bool:
        """Whether there are so many; then they are gone."""
        enough = size <= self._left
        self._left -= size if enough else 0
        return enough


def _open(images: Images, image: Image, budget: _Budget) -> "_DebugFile | None":
    for file in images.candidates(image):
        stream: Any = BytesIO(file.data) if isinstance(file.data, bytes) else file.data
        try:
            dwarf = ELFFile(stream).get_dwarf_info()
            ranges = dwarf.get_aranges()
        except ELFError:
            continue
        if ranges is not None:
            return _DebugFile(dwarf, ranges, budget)
    return None


class _DebugFile:
    """The debug information of one file."""

    def __init__(self, dwarf: Any, ranges: Any, budget: _Budget) -> None:
        self._dwarf, self._ranges, self._budget = dwarf, ranges, budget
        self._units: dict[int, _Unit | None] = {}

    def sites(self, address: int) -> list[_Site]:
        """The functions around an address, outermost first; empty where it is not known."""
        offset = self._ranges.cu_offset_at_addr(address)
        if offset is None:
            return []
        if offset not in self._units:
            unit = self._dwarf.get_CU_at(offset)
            affordable = self._budget.take(unit["unit_length"])
            self._units[offset] = _Unit(self._dwarf, unit) if affordable else None
        found = self._units[offset]
        return found.sites(address) if found else []


class _Unit:
    """One compilation unit."""

    def __init__(self, dwarf: Any, unit: Any) -> None:
        self._dwarf, self._unit = dwarf, unit
        self._functions = [die for die in unit.iter_DIEs() if die.tag in _FUNCTIONS]

    def sites(self, address: int) -> list[_Site]:
        around = (die for die in self._functions if self._holds(die.attributes, address))
        return [_Site(self._name(die), *self._call(die)) for die in around]

    def _holds(self, attributes: Any, address: int) -> bool:
        if "DW_AT_low_pc" in attributes and "DW_AT_high_pc" in attributes:
            low, high = attributes["DW_AT_low_pc"].value, attributes["DW_AT_high_pc"]
            end = high.value if high.form == "DW_FORM_addr" else low + high.value
            return bool(low <= address < end)
        ranges = attributes.get("DW_AT_ranges")
        return ranges is not None and self._in_ranges(ranges.value, address)

    def _in_ranges(self, offset: int, address: int) -> bool:
        low = self._unit.get_top_DIE().attributes.get("DW_AT_low_pc")
        base = low.value if low else 0
        for entry in self._dwarf.range_lists().get_range_list_at_offset(offset, self._unit):
            if hasattr(entry, "base_address"):
                base = entry.base_address
                continue
            start = 0 if getattr(entry, "is_absolute", False) else base
            if start + entry.begin_offset <= address < start + entry.end_offset:
                return True
        return False

    def _name(self, die: Any) -> str:
        """With the scopes it is in, and without type arguments, which fill lines in Rust."""
        for link in ("DW_AT_abstract_origin", "DW_AT_specification"):
            if link in die.attributes:
                die = die.get_DIE_from_attribute(link)
        parts: list[str] = []
        while die is not None and (not parts or die.tag in _SCOPES):
            name = die.attributes["DW_AT_name"].value if "DW_AT_name" in die.attributes else b"?"
            parts.append((name.partition(b"<")[0] or name).decode("utf-8", "backslashreplace"))
            die = die.get_parent()
        return "::".join(reversed(parts))

    def _call(self, die: Any) -> tuple[str, int]:
        """File and line of an inlined function's call."""
        if "DW_AT_call_line" not in die.attributes:
            return "", 0
        lines = self._dwarf.line_program_for_CU(self._unit).header
        first = 0 if lines["version"] >= 5 else 1
        file = lines["file_entry"][die.attributes["DW_AT_call_file"].value - first]
        directory = b""
        if file.dir_index or first == 0:
            directory = lines["include_directory"][file.dir_index - first]
            directory = getattr(directory, "DW_LNCT_path", directory)
        name = getattr(file, "name", b"") or file.DW_LNCT_path
        path = b"/".join(part for part in (directory, name) if part)
        base = self._unit.get_top_DIE().attributes.get("DW_AT_comp_dir")
        if base and base.value.startswith(b"/"):
            path = os.path.join(base.value, path)  # noqa: PTH118 -- bytes, of another machine
        return path.decode("utf-8", "backslashreplace"), die.attributes["DW_AT_call_line"].value
