"""The crashing thread's stack with the Java frames in it.  Pure.

A core tells where the generated code of a JVM is, and where frame pointers lead
through it, but no names.  The JVM's own log (:mod:`.hs_err`) has names and no
addresses.  Library and offset of the native frames around them are in both, and
tell where the log's frames belong.
"""

from collections.abc import Sequence
from itertools import groupby, takewhile

from msgspec.structs import replace

from stillframe.corefile import SignalInfo

from .escape import LINE, LONG, base_name, escape
from .hs_err import HsErr, LogFrame
from .jvm import LIBRARY
from .model import (
    JAVA_MODULE,
    MAX_FRAMES_CRASHED,
    MAX_STACK_LINES,
    Frame,
    Java,
    Module,
    Process,
    Thread,
)
from .signals import has_address

NO_LOG = (
    "no Java frames: there is no log of the JVM (hs_err_pid<pid>.log); it writes none for SIGABRT,"
    " and -XX:ErrorFile may put it elsewhere than in the working directory or /tmp"
)


def is_jvm(modules: Sequence[Module]) -> bool:
    """Whether HotSpot is among the modules."""
    return any(base_name(module.path) == LIBRARY for module in modules)


def contradiction(log: HsErr, process: Process, signal: SignalInfo | None) -> str:
    """Why a log is not about the death that a core is of; empty where nothing speaks against it.

    ``signal`` is the core's.  A log may be an earlier process's, or say what its pod likes.
    """
    told: list[tuple[str, int | None, int | None]] = [("pid", log.pid, process.pid or None)]
    if signal and log.signal is not None:
        told.append(("signal", log.signal, signal.signal))
        if has_address(signal.signal, signal.code):
            told.append(("fault address", log.address, signal.address))
    for what, theirs, ours in told:
        if theirs is not None and ours is not None and theirs != ours:
            return f"the JVM's log is of another death: it has {what} {theirs:#x}, not {ours:#x}"
    return ""


def summary(log: HsErr) -> Java:
    """What is shown of a log apart from the stack."""
    frames = [frame.function for frame in log.stack if frame.java]
    return Java(
        error=escape(log.error, LINE),
        problematic_frame=escape(log.problematic_frame, LINE),
        vm=escape(log.vm, LINE),
        thread=escape(log.thread, LINE),
        state=escape(log.state, LINE),
        siginfo=escape(log.siginfo, LINE),
        frames=[escape(frame, LINE) for frame in frames[:MAX_STACK_LINES]],
    )


def said(log: HsErr) -> str:
    """A sentence where the VM gave up by itself: the signal then tells nothing."""
    return "" if not log.error or " at pc=" in log.error else f"The JVM says: {log.error}."


def with_java_frames(thread: Thread, log: Sequence[LogFrame]) -> Thread:
    """The thread with Java frames among the innermost ones that are known."""
    head, oldest = thread.frames[: thread.frames_head], thread.frames[thread.frames_head :]
    merged = merge(head, log)[:MAX_FRAMES_CRASHED]
    return replace(
        thread,
        frames=[*merged, *oldest],
        frames_head=len(merged),
        frames_total=thread.frames_total + len(merged) - len(head),
    )


def merge(frames: Sequence[Frame], log: Sequence[LogFrame]) -> list[Frame]:
    """``frames``, where addresses in no file are replaced by what ``log`` has in their place.

    Both are of one thread, innermost first.  What a scan of the stack found among such addresses
    goes with them.  Where the two do not fit the addresses stay; where ``frames`` ends in
    generated code, the log tells the rest.
    """
    runs = [list(run) for _, run in groupby(frames, key=_is_doubtful)]
    merged: list[Frame] = []
    at = 0
    for index, run in enumerate(runs):
        place = None
        if any(not frame.module for frame in run):
            before = runs[index - 1][-1] if index else None
            after = runs[index + 1][0] if index + 1 < len(runs) else None
            place = _place(log, at, before, after)
        if place is None or not any(frame.java for frame in log[place]):
            merged += run
        else:
            merged += map(_frame, log[place])
            at = place.stop
    return merged


def _is_doubtful(frame: Frame) -> bool:
    return not frame.module or frame.trust == "scan"


def _place(
    log: Sequence[LogFrame], at: int, before: Frame | None, after: Frame | None
) -> slice | None:
    """What of the log, from ``at`` on, lies between two frames; `None` if it has neither.

    No frame before means that the log begins there, none after that it ends.  The VM's unwinder
    may have missed one of the two: then the Java frames next to the other are taken.
    """
    start = _find(log, at, before) + 1 if before else at
    end = _find(log, max(at, start), after) if after else len(log)
    if end >= 0 and (start > 0 or not before):
        return slice(start, end)
    if end >= 0:
        java = takewhile(lambda frame: frame.java, reversed(log[at:end]))
        return slice(end - len(list(java)), end)
    if start > 0 or not before:
        java = takewhile(lambda frame: frame.java, log[start:])
        return slice(start, start + len(list(java)))
    return None


def _find(log: Sequence[LogFrame], at: int, wanted: Frame) -> int:
    """The index of a native frame in the log; -1 if it is not there."""
    key = (base_name(wanted.module), wanted.offset)
    return next((n for n in range(at, len(log)) if (log[n].module, log[n].offset) == key), -1)


def _frame(frame: LogFrame) -> Frame:
    return Frame(
        pc=0,
        trust="runtime",
        function=escape(frame.function, LONG),
        module=JAVA_MODULE if frame.java else escape(frame.module, LONG),
        offset=frame.offset,
    )
