"""Stage 6: fingerprint v1, the grouping key of a crash.

``docs/reference/fingerprint.md`` has the algorithm, what it promises and
examples; the tests run those examples.  What is written there never changes
under the name ``v1``: a change of this module that changes a key is ``v2``.
"""

import hashlib
import re
from collections.abc import Sequence
from itertools import takewhile

from stillframe.names import FINGERPRINT_VERSION

from . import jvm
from .escape import base_name
from .model import JAVA_MODULE, Frame
from .noise import significant

MAX_FRAMES = 6
MAX_CYCLE = 8
MIN_REPEATS = 4
ROUND = 64

_SUFFIX = re.compile(
    r"(\.(isra|part|constprop|cold|lto_priv|llvm|__uniq|localalias|clone|resolver)(\.\d+)?"
    r"|@{1,2}[\w.]+|::h[0-9a-f]{16}| \[clone [^]]*\])+$"
)
"""What compilers, linkers and Rust's legacy mangling put behind a name."""
_CRATE_HASH = re.compile(r"\[[0-9a-f]{8,16}\]")
"""Of Rust's v0 mangling: ``app[9a8b7c6d5e4f3a2b]::run``."""
_OPERATOR = re.compile(
    r"\boperator\s*(\(\)|\[\]|<=>|<<=?|>>=?|->\*?|[<>]=?|[-+*/%^&|~!=,]+"
    r"|(?<=\s)(new|delete)(\[\])?|\"\"\s?\w+|(?<=\s)[\w:]+[\w:*& ]*)"
)
_QUALIFIERS = re.compile(r"( const| volatile| noexcept| &&?)+$")


def fingerprint(frames: Sequence[Frame]) -> str:
    """The key of a crashing thread's frames, innermost first."""
    lines = [frame_key(frame) for frame in significant(frames)]
    text = "\n".join((find_cycle(lines) or lines)[:MAX_FRAMES])
    return f"{FINGERPRINT_VERSION}:{hashlib.sha256(text.encode()).hexdigest()[:16]}"


def frame_key(frame: Frame) -> str:
    """One frame of the key.

    >>> frame_key(Frame(pc=1, trust="cfi", module="/usr/lib/libz.so.1.3", function="inflate"))
    'libz!inflate'
    >>> frame_key(Frame(pc=0, trust="runtime", module="[java]", function="Cart.add(String)"))
    'java!Cart.add'
    """
    if frame.module == JAVA_MODULE:
        return f"java!{jvm.plain(frame.function)}"
    module = base_name(frame.module).removesuffix(" (deleted)").partition(".so")[0]
    if frame.function:
        return f"{module}!{normalize(frame.function)}"
    if not frame.module or frame.offset is None:
        return "?"
    return f"{module}+0x{frame.offset // ROUND * ROUND:x}"


def normalize(function: str) -> str:
    """A function's name without what a compiler, a linker or an overload adds.

    Arguments, template arguments, return types and qualifiers go; scopes stay.

    >>> normalize("void app::run<int>(int const&) [clone .isra.0]"), normalize("step.constprop.0")
    ('app::run', 'step')
    >>> normalize("std::ostream& operator<< <char>(std::ostream&, char)")
    'operator<<'
    >>> normalize("<app::List<T> as core::fmt::Debug>::fmt::h0123456789abcdef")
    '<app::List as core::fmt::Debug>::fmt'
    >>> normalize("main.(*Server).handle")
    'main.(*Server).handle'
    """
    return _plain(function) or function


def _plain(function: str) -> str:
    name = _QUALIFIERS.sub("", _SUFFIX.sub("", function))
    name = _CRATE_HASH.sub("", name.replace("(anonymous namespace)", "{anonymous}"))
    if name.startswith("<") and " as " in name:  # Rust: a trait's function for a type
        end = _closing(name, 0)
        return f"<{_without_groups(name[1:end])}>{_without_groups(name[end + 1 :])}"
    found = _OPERATOR.search(name)
    if found is None:
        return _without_groups(name).rpartition(" ")[2] or name
    head, tail = name[: found.start()], name[found.end() :]
    scope = _without_groups(head).rpartition(" ")[2]
    return f"{scope}{found.group().rstrip()}{_without_groups(tail, behind=')')}".rstrip()


def find_cycle(lines: Sequence[str]) -> list[str]:
    """The repeated cycle of a recursion in its smallest rotation, or nothing.

    >>> find_cycle(["leaf", *["b", "a"] * 4, "main"])
    ['a', 'b']
    """
    best: tuple[int, list[str]] = (0, [])
    for length in range(1, MAX_CYCLE + 1):
        for start in range(min(len(lines), MAX_FRAMES)):
            cycle = list(lines[start : start + length])
            repeats = _repeats(lines, start, cycle)
            if repeats >= MIN_REPEATS and repeats * length > best[0]:
                best = (repeats * length, cycle)
    cycle = best[1]
    return min((cycle[i:] + cycle[:i] for i in range(len(cycle))), default=[])


def _repeats(lines: Sequence[str], start: int, cycle: Sequence[str]) -> int:
    chunks = (lines[at : at + len(cycle)] for at in range(start, len(lines), len(cycle)))
    return sum(1 for _ in takewhile(lambda chunk: chunk == cycle, map(list, chunks)))


_OPEN = {"<": ">", "(": ")"}


def _closing(name: str, start: int) -> int:
    """Where the group that opens at ``start`` closes; the last character if it does not."""
    depth = 0
    for index in range(start, len(name)):
        if name[index] == name[start]:
            depth += 1
        elif name[index] == _OPEN[name[start]] and name[index - 1] != "-":
            depth -= 1
            if depth == 0:
                return index
    return len(name) - 1


def _without_groups(name: str, behind: str = ".") -> str:
    """Without arguments and template arguments; a receiver of Go, ``main.(*T)``, stays.

    ``behind`` is the character before: arguments follow a name.
    """
    kept: list[str] = []
    index = 0
    while index < len(name):
        char = name[index]
        if char == "<" or (char == "(" and (kept[-1] if kept else behind) != "."):
            index = _closing(name, index)
        else:
            kept.append(char)
        index += 1
    return "".join(kept)
