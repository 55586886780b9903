"""Stage 6: fingerprint v1, the grouping key of a crash.

The same bug gives the same key over rebuilds, address randomization, process
ids, thread order and machines; different bugs should give different keys.  The
algorithm, which never changes under the name ``v1``:

1. Take the crashing thread's frames, innermost first, inline frames included.
2. Drop our own library, unnamed frames of libc, addresses in no module, leading
   noise (raise, abort, assertion and memory-copy internals) and what starts
   ``main`` or a thread (:mod:`.noise`).  If nothing is left, keep all.
3. If a cycle of up to 8 frames, starting within the first 6, comes at least 4
   times in a row, keep only that cycle, rotated to its smallest form: where in it
   the stack ran out is chance.  Of several the one that covers most frames, of
   these the shortest.
4. Keep the first 6.
5. Write each as ``module!function``: module is the file's base name up to
   ``.so``; function without arguments, template arguments and compiler suffixes.
   Without a function name: ``module+offset`` with the offset rounded down to 64
   bytes.  Without a module: ``?``.
6. Join with newlines; the key is ``v1:`` and the first 16 hexadecimal digits of
   the SHA-256 of that text in UTF-8.

Left out on purpose: build IDs, line numbers, the signal (a field of its own in
a CrashReport), addresses.
"""

import hashlib
import re
from collections.abc import Sequence
from itertools import takewhile

from stillframe.names import FINGERPRINT_VERSION

from .escape import base_name
from .model import Frame
from .noise import significant

MAX_FRAMES = 6
MAX_CYCLE = 8
MIN_REPEATS = 4
ROUND = 64

_SUFFIX = re.compile(
    r"(\.(isra|part|constprop|cold|lto_priv|llvm|localalias|clone)(\.\d+)?|@{1,2}[\w.]+"
    r"|::h[0-9a-f]{16}| \[clone [^]]*\])+$"
)


def fingerprint(frames: Sequence[Frame]) -> str:
    """The key of a crashing thread's frames, innermost first."""
    lines = [frame_key(frame) for frame in significant(frames)]
    text = "\n".join((find_cycle(lines) or lines)[:MAX_FRAMES])
    return f"{FINGERPRINT_VERSION}:{hashlib.sha256(text.encode()).hexdigest()[:16]}"


def frame_key(frame: Frame) -> str:
    """One frame of the key.

    >>> frame_key(Frame(pc=1, trust="cfi", module="/usr/lib/libz.so.1.3", function="inflate"))
    'libz!inflate'
    """
    module = base_name(frame.module).partition(".so")[0]
    if frame.function:
        return f"{module}!{normalize(frame.function)}"
    if not frame.module or frame.offset is None:
        return "?"
    return f"{module}+0x{frame.offset // ROUND * ROUND:x}"


def normalize(function: str) -> str:
    """A function's name without what a compiler or an overload adds.

    >>> normalize("run<int>(int const&) [clone .isra.0]"), normalize("step.constprop.0")
    ('run', 'step')
    >>> normalize("operator<<"), normalize("app::f::h0123456789abcdef")
    ('operator<<', 'app::f')
    """
    name = _SUFFIX.sub("", function)
    if "operator" in name:
        return name
    return _without_brackets(name) or name


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


def _without_brackets(name: str) -> str:
    """Cut at the arguments, drop what is in angle brackets."""
    kept: list[str] = []
    depth = 0
    for char in name.replace("(anonymous namespace)", "{anonymous}"):
        if char == "<":
            depth += 1
        elif char == ">":
            depth -= 1
        elif char == "(" and depth == 0 and kept:
            break
        elif depth == 0:
            kept.append(char)
    return "".join(kept)
