"""One thread's stack: unwound, judged, and completed by a scan where unwinding fails."""

from collections.abc import Sequence
from functools import partial
from itertools import takewhile
from typing import NamedTuple

from stillframe.corefile import CoreFile, Thread

from .cfi import has_cfi
from .fault import is_code, read_code
from .golang import SIGPANIC
from .images import Images
from .scan import MAX_SCAN_BYTES, Code, jumped_from, scan
from .trust import TrustedFrame, judge
from .unwind import Trace, Unwinder

_OLDEST = 16
"""Oldest frames kept of a stack too deep to keep whole."""
_LEAF_BYTES = 1024
"""How far the frame of a leaf function is searched for its return address; arbitrary."""


class Stack(NamedTuple):
    """A thread's frames, innermost first."""

    frames: list[TrustedFrame]
    head: int
    """So many are the innermost ones; the rest are the oldest."""
    total: int


def find_stack(
    core: CoreFile, images: Images, unwinder: Unwinder, thread: Thread, limit: int
) -> Stack:
    """The stack of a thread, about ``limit`` frames; raises what drgn raises."""
    before = partial(_code_before, core, images)
    code = Code(core.machine, before, images.at, core.signature_mask)
    trace = _go_panic(unwinder, unwinder.trace(thread.tid, limit - _OLDEST, _OLDEST))
    verdict = judge(trace.frames, partial(is_code, core, images), partial(_has_cfi, images))
    inner = sum(frame.trust == "context" for frame in verdict.frames)
    missed = _missed(core, images, thread, verdict.frames[inner:], code)
    frames = [
        *verdict.frames[:inner],
        *(TrustedFrame(frame, "scan") for frame in unwinder.symbolize(missed)),
        *verdict.frames[inner:],
    ]
    if trace.total > len(trace.frames) == len(verdict.frames):
        oldest = [f for f in trace.oldest if is_code(core, images, f.lookup)]
        total = trace.total + len(missed) - len(trace.oldest) + len(oldest)
        tail = (TrustedFrame(frame, frames[-1].trust) for frame in oldest)
        return Stack([*frames, *tail], len(frames), total)
    if verdict.scan_from is not None:
        memory = core.read(verdict.scan_from, MAX_SCAN_BYTES)
        found = scan(memory, frames[-1].raw.pc, code)
        frames += [TrustedFrame(frame, "scan") for frame in unwinder.symbolize(found)]
    frames = frames[:limit]
    return Stack(frames, len(frames), len(frames))


def _go_panic(unwinder: Unwinder, trace: Trace) -> Trace:
    """The trace with the instruction that a Go panic is about taken as one.

    As a return address, the first instruction of a function would belong to what lies before it
    in memory; what was unwound from there is not true, and a scan goes on.
    """
    frames = trace.frames
    start = next((n for n, f in enumerate(frames) if f.function == SIGPANIC), len(frames)) + 1
    if start >= len(frames):
        return trace
    end = next((n for n in range(start, len(frames)) if not frames[n].inline), start) + 1
    wrong = frames[end - 1]
    found = [
        frame._replace(pc=wrong.pc, sp=wrong.sp, interrupted=True)
        for frame in unwinder.symbolize([wrong.pc + 1])
    ]
    if not found:
        return trace
    if found[-1].function != wrong.function:
        return Trace([*frames[:start], *found], [], start + len(found))
    total = trace.total + len(found) - (end - start)
    return Trace([*frames[:start], *found, *frames[end:]], trace.oldest, total)


def _missed(
    core: CoreFile, images: Images, thread: Thread, callers: Sequence[TrustedFrame], code: Code
) -> list[int]:
    """Return addresses between the innermost frame and what frame pointers found next.

    Frame pointers skip the caller of a function that sets up no frame: of musl's
    system calls, and of "code" that is none.
    """
    following = callers[0].raw if callers else None
    if following and following.interrupted:
        return []  # drgn found the caller itself: by the link register of aarch64
    if not is_code(core, images, thread.pc):
        found = jumped_from(core, thread, code)
    elif following and callers[0].trust == "frame_pointer":
        size = min(max(following.sp - thread.sp, 0), _LEAF_BYTES)
        found = scan(core.read(thread.sp, size), thread.pc, code)
    else:
        return []
    return list(takewhile(lambda address: not following or address != following.pc, found))


def _code_before(core: CoreFile, images: Images, address: int) -> bytes:
    return read_code(core, images, address - 8, 8)


def _has_cfi(images: Images, address: int) -> bool:
    image = images.at(address)
    if image is None or image.file is None:
        return False
    return has_cfi(image.file.data, address - image.bias)
