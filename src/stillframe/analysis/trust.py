"""Stage 3: how far each unwound frame can be trusted, and where a trace stops being one.

drgn prefers call frame information and falls back to frame pointers, in which
musl's hand-written and untabled functions hold anything: the fallback then
returns small numbers.  So a trace is cut at the first address that cannot be
code, and whether it ended there by design is told by the last frame's CFI.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

from .model import Trust
from .unwind import RawFrame


class TrustedFrame(NamedTuple):
    """A frame and how it was found."""

    raw: RawFrame
    trust: Trust


class Verdict(NamedTuple):
    """The part of a trace that holds.

    ``scan_from`` is the stack address to look for return addresses from, where
    unwinding stopped for lack of information; ``None`` where it reached the end.
    """

    frames: list[TrustedFrame]
    scan_from: int | None


def judge(
    frames: Sequence[RawFrame],
    is_code: Callable[[int], bool],
    has_cfi: Callable[[int], bool],
) -> Verdict:
    """Cut a trace (innermost frame first) at its first impossible frame and label the rest.

    The innermost frame stays whatever its address: a jump to nowhere is
    evidence, and its caller is then at the top of the stack.
    """
    kept: list[TrustedFrame] = []
    trust: Trust = "context"
    for index, frame in enumerate(frames):
        if index and not is_code(frame.lookup):
            break
        kept.append(TrustedFrame(frame, trust))
        if not frame.inline:  # an inline frame's caller is the same physical frame
            trust = "cfi" if has_cfi(frame.lookup) else "frame_pointer"
    if not kept:
        return Verdict([], None)
    last = kept[-1].raw
    ended = has_cfi(last.lookup)
    return Verdict(kept, None if ended else last.sp)
