"""Stage 3d: parameters and local variables of the crashing frame, as bounded text.

Runs after the stack was told, because types are the largest attack surface of
debug information; everything is bounded here, since drgn's own formatting prints
an array of a gigabyte.  Of C++ references drgn 0.3 reads no type; base classes are
not among the members.
"""

from collections.abc import Callable, Iterator
from functools import partial
from itertools import islice

import drgn

from stillframe.corefile import CoreFile
from stillframe.corefile.elf import PF_W, PT_LOAD

from .demangle import demangle
from .escape import LINE, escape
from .images import Images
from .model import MAX_VALUE, MAX_VARIABLES, Analysis, Scope, Variable
from .noise import significant
from .stack import Stack
from .unwind import Unwinder

MAX_STRING = 128
"""Characters of one string."""
MAX_ELEMENTS = 8
MAX_MEMBERS = 16
MAX_DEPTH = 3
MAX_TYPEDEFS = 64
MAX_PARTS = 64
"""Scalars, strings and groups in one value.  All arbitrary: as much as a person looks at."""

Read = Callable[[int, int], bytes]
"""Up to so many bytes (second) of memory at an address (first)."""

_NOT_SAVED = "<not in the snapshot>"
_WHY_ABSENT = {
    drgn.AbsenceReason.OPTIMIZED_OUT: "<optimized out>",
    drgn.AbsenceReason.NOT_IMPLEMENTED: "<at a place that cannot be read>",
    drgn.AbsenceReason.OTHER: "<absent>",
}
_REFERENCE_TAGS = ("unknown DWARF type tag 0x10", "unknown DWARF type tag 0x42")
"""DW_TAG_reference_type and DW_TAG_rvalue_reference_type (DWARF 5, 7.3)."""
_GROUPS = (drgn.TypeKind.STRUCT, drgn.TypeKind.CLASS, drgn.TypeKind.UNION)


def crashing_scopes(
    core: CoreFile, images: Images, unwinder: Unwinder, stack: Stack, answer: Analysis
) -> list[Scope]:
    """The variables of the frame that ``answer`` has on top, and of those it was inlined into.

    Nothing where that frame was found by other means than registers and call
    frame information: its variables would be read from the wrong places.  Raises
    what drgn raises.
    """
    told = significant(answer.threads[0].frames[: stack.head]) if answer.threads else []
    if not told or told[0].trust not in ("context", "cfi"):
        return []
    top = answer.threads[0].frames.index(told[0])
    raw = stack.frames[top].raw
    start = next(
        index
        for index, frame in enumerate(stack.frames)
        if (frame.raw.pc, frame.raw.sp) == (raw.pc, raw.sp)
    )
    frames = unwinder.frames_at(answer.threads[0].tid, raw.pc, raw.sp)
    read = partial(_read, core, images)
    scopes = (_scope(read, frame, start + index) for index, frame in enumerate(frames))
    return [scope for scope in scopes if scope.frame >= top and scope.variables]


def _read(core: CoreFile, images: Images, address: int, size: int) -> bytes:
    """From the core, else from the file mapped there: string literals are in no snapshot."""
    image = images.at(address)
    if (saved := core.read(address, size)) or image is None or image.file is None:
        return saved
    at = address - image.bias
    for segment in image.segments:
        if segment.type == PT_LOAD and segment.vaddr <= at < segment.vaddr + segment.filesz:
            if segment.flags & PF_W:
                return b""  # the process may have changed it
            start, end = segment.offset + at - segment.vaddr, segment.offset + segment.filesz
            return image.file.data[start : min(start + size, end)]
    return b""


def _scope(read: Read, frame: drgn.StackFrame, index: int) -> Scope:
    names = list(dict.fromkeys(frame.locals()))
    found = (_variable(read, frame, name) for name in names[:MAX_VARIABLES])
    return Scope(
        frame=index,
        variables=[variable for variable in found if variable],
        left_out=len(names[MAX_VARIABLES:]),
    )


def _variable(read: Read, frame: drgn.StackFrame, name: str) -> Variable | None:
    """``None`` for an enumerator, which drgn lists among the variables."""
    try:
        value = frame[name]
        if _is_enumerator(name, value):
            return None
        type_name, text = value.type_.type_name(), _Value(read).text(value)
    except Exception as error:  # drgn raises its own kinds, and plain Exception
        type_name, text = "?", _unreadable(error)
    return Variable(
        name=escape(name, LINE), type=escape(type_name, LINE), value=escape(text, MAX_VALUE)
    )


def _is_enumerator(name: str, value: drgn.Object) -> bool:
    if value.type_.kind != drgn.TypeKind.ENUM or value.absent_ or value.address_ is not None:
        return False
    return any(name == enumerator.name for enumerator in value.type_.enumerators or ())


def _unreadable(error: Exception) -> str:
    if isinstance(error, drgn.FaultError):
        return _NOT_SAVED
    if str(error) in _REFERENCE_TAGS:
        return "<a C++ reference, which cannot be read>"
    return f"<not readable: {error}>"


class _Value:
    """Formats one value, with a budget of parts."""

    def __init__(self, read: Read) -> None:
        self._read = read
        self._parts = MAX_PARTS

    def text(self, value: drgn.Object, depth: int = 0) -> str:
        """The value as text; raises nothing that drgn raises."""
        self._parts -= 1
        if self._parts < 0:
            return "..."
        if value.absent_:
            return _WHY_ABSENT[value.absence_reason_]
        try:
            return self._text(value, _underlying(value.type_), depth)
        except Exception as error:  # drgn raises its own kinds, and plain Exception
            return _unreadable(error)

    def _text(self, value: drgn.Object, kind: drgn.Type, depth: int) -> str:
        if kind.kind == drgn.TypeKind.POINTER:
            return self._pointer(value, _underlying(kind.type), depth)
        if kind.kind == drgn.TypeKind.ARRAY:
            if _is_char(_underlying(kind.type)):
                return _quoted(self._characters(value, kind))
            return self._list(kind.length, (value[i] for i in range(kind.length or 0)), depth)
        if kind.kind in _GROUPS:
            return self._members(value, kind, depth)
        if kind.kind == drgn.TypeKind.BOOL:
            return str(bool(value)).lower()
        if _is_char(kind):
            return f"{int(value)} {value.format_(type_name=False, char=True)}"
        return str(value.format_(type_name=False))

    def _pointer(self, value: drgn.Object, target: drgn.Type, depth: int) -> str:
        address = int(value)
        if address == 0:
            return "0x0"
        text = f"0x{address:x}"
        if target.kind == drgn.TypeKind.FUNCTION:
            symbol = next(iter(value.prog_.symbols(address)), None)
            return f"{text} {demangle(symbol.name)}" if symbol else text
        if _is_char(target):
            saved = self._read(address, MAX_STRING)
            return f"{text} {_quoted(saved) if saved else _NOT_SAVED}"
        if depth == 0 and target.kind not in (drgn.TypeKind.VOID, drgn.TypeKind.POINTER):
            inner = self.text(value[0], 1)
            return f"{text} {inner}" if inner == _NOT_SAVED else f"{text} -> {inner}"
        return text

    def _characters(self, value: drgn.Object, kind: drgn.Type) -> bytes:
        """Of an array of char, whether it is in memory or in registers."""
        if value.address_ is None:
            length = min(kind.length or 0, MAX_STRING)
            return bytes(int(value[i]) & 0xFF for i in range(length))
        saved = self._read(value.address_, min(kind.length or 0, MAX_STRING))
        if not saved:
            raise drgn.FaultError(_NOT_SAVED, value.address_)
        return saved

    def _list(self, length: int | None, elements: Iterator[drgn.Object], depth: int) -> str:
        if depth >= MAX_DEPTH:
            return "[...]"
        texts = [self.text(element, depth + 1) for element in islice(elements, MAX_ELEMENTS)]
        if texts and set(texts) == {_NOT_SAVED}:
            return _NOT_SAVED
        more = ["..."] if (length or 0) > MAX_ELEMENTS else []
        return f"[{', '.join(texts + more)}]"

    def _members(self, value: drgn.Object, kind: drgn.Type, depth: int) -> str:
        if depth >= MAX_DEPTH:
            return "{...}"
        names = list(islice(_member_names(kind), MAX_MEMBERS + 1))
        members = {name: self.text(value.member_(name), depth + 1) for name in names[:MAX_MEMBERS]}
        if set(members.values()) == {_NOT_SAVED}:
            return _NOT_SAVED
        texts = [f"{name}={text}" for name, text in members.items()]
        return "{" + ", ".join(texts + ["..."] * (len(names) > MAX_MEMBERS)) + "}"


def _member_names(kind: drgn.Type, depth: int = 0) -> Iterator[str]:
    """With those of members without a name, whose members are ours."""
    for member in kind.members or ():
        if member.name:
            yield member.name
        elif depth < MAX_DEPTH and (inner := _underlying(member.type)).kind in _GROUPS:
            yield from _member_names(inner, depth + 1)


def _underlying(kind: drgn.Type) -> drgn.Type:
    for _ in range(MAX_TYPEDEFS):
        if kind.kind != drgn.TypeKind.TYPEDEF:
            break
        kind = kind.type
    return kind


def _is_char(kind: drgn.Type) -> bool:
    return bool(kind.kind == drgn.TypeKind.INT and kind.size == 1 and kind.name.endswith("char"))


def _quoted(saved: bytes) -> str:
    r"""A C string of at most MAX_STRING bytes; the dots say that it goes on.

    >>> _quoted(b"a label\0junk"), _quoted(b"cut off")
    ('"a label"', '"cut off"...')
    """
    text, end, _ = saved.partition(b"\0")
    quoted = escape(text.decode("utf-8", "backslashreplace")).replace('"', '\\"')
    return f'"{quoted}"' + ("" if end else "...")
