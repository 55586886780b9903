"""Frames and the message in words: the strings a CrashReport shows."""

from collections.abc import Sequence

from .cause import Cause
from .escape import LINE, LONG, base_name, escape
from .fingerprint import normalize
from .model import JAVA_MODULE, MAX_STACK_LINES, Frame, Process, Signal
from .noise import is_noise, is_vm_plumbing, significant


def frame_name(frame: Frame) -> str:
    """One frame: ``function (file.c:42)``, or as much of it as is known.

    >>> frame_name(Frame(pc=1, trust="cfi", function="f", file="/src/a.c", line=7))
    'f (a.c:7)'
    >>> frame_name(Frame(pc=1, trust="cfi", function="f", module="/lib/libx.so", offset=0x1234))
    'f (libx.so+0x1234)'
    >>> frame_name(Frame(pc=1, trust="cfi", module="/lib/libx.so", offset=0x1234))
    'libx.so+0x1234'
    >>> frame_name(Frame(pc=0x1234, trust="cfi"))
    '0x1234'
    >>> frame_name(Frame(pc=0, trust="runtime", function="Cart.sum()", module="[java]", offset=7))
    'Cart.sum() (bytecode 7)'
    """
    if frame.module == JAVA_MODULE:
        place = "Java" if frame.offset is None else f"bytecode {frame.offset}"
    elif frame.offset is None:
        place = f"0x{frame.pc:x}"
    else:
        place = f"{base_name(frame.module)}+0x{frame.offset:x}"
    if frame.function and frame.file:
        line = f":{frame.line}" if frame.line else ""
        place = f"{base_name(frame.file)}{line}"
    return escape(f"{frame.function} ({place})" if frame.function else place, LINE)


def top_frame(frames: Sequence[Frame]) -> str:
    """The innermost frame that tells something; empty without frames."""
    return frame_name(significant(frames)[0]) if frames else ""


def where(frames: Sequence[Frame]) -> str:
    """The end of a sentence: where it happened, or who called what does not tell.

    >>> f = Frame(pc=1, trust="cfi", module="/app", function="f", file="/src/a.c", line=7)
    >>> where([f]), where([Frame(pc=0, trust="context"), f]), where([])
    (' in f() at a.c:7', ' from f() at a.c:7', '')
    """
    if not frames:
        return ""
    told = significant(frames)[0]
    name = frame_name(told)
    if told.function and told.file:
        line = f":{told.line}" if told.line else ""
        name = f"{normalize(told.function)}() at {base_name(told.file)}{line}"
    return escape(f" {'in' if told is frames[0] else 'from'} {name}", LINE)


def stack_lines(frames: Sequence[Frame]) -> list[str]:
    """The stack as plain numbered lines, innermost first; doubtful frames are marked.

    >>> stack_lines([Frame(pc=16, trust="scan")])
    ['#0 0x10 [scan]']
    """
    return [
        escape(f"#{number} {frame_name(frame)}{_mark(frame)}", LINE)
        for number, frame in enumerate(frames[:MAX_STACK_LINES])
    ]


def message(signal: Signal, process: Process, cause: Cause, frames: Sequence[Frame]) -> str:
    """The paragraph: what happened to whom, where, and where to look."""
    told = significant(frames)
    noisy = bool(frames) and told[0] is not frames[0]
    noisy = noisy and (is_noise(frames[0]) or is_vm_plumbing(frames[0]))
    parts = [f"{process.comm or 'A process'} (pid {process.pid}, thread {process.tid})"]
    if signal.number:
        parts.append(f"died of {signal.name} ({signal.code_name}): {cause.sentence}.")
    else:
        parts.append(f"was looked at: {cause.sentence}.")
    if told:
        place = "Noticed in code called from" if noisy else "It happened in"
        caller = f", called from {frame_name(told[1])}" if len(told) > 1 else ""
        parts.append(f"{place} {frame_name(told[0])}{caller}.")
    return escape(" ".join([*parts, cause.hint]).rstrip(), LONG)


def _mark(frame: Frame) -> str:
    inline = " [inlined]" if frame.inline else ""
    return inline + ("" if frame.trust in ("context", "cfi") else f" [{frame.trust}]")
