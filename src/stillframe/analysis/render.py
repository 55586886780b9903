"""The report for people: ``report.txt`` and what ``stillframe run`` prints.

Like Android's tombstones and ``coredumpctl info``: what happened first, then the
crashing stack, then everything else, each only where there is something to say.
"""

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime

from .escape import escape
from .model import Analysis, Frame, Module, Thread
from .wording import frame_name, where

_OTHER_FRAMES = 12
_OTHER_THREADS = 32
_REGISTERS_PER_LINE = 4
_LABEL = 13
_VARIABLE = 1200
"""Characters of a line that holds a variable's name, type and value."""


def render_text(analysis: Analysis, extra: Mapping[str, str] | None = None) -> str:
    """The report, ending in a newline.

    ``extra`` holds more lines for the head, label to value in the order to
    print, such as ``{"Pod": "shop/cart-7d9f", "Held": "12 ms"}``.
    """
    return "\n".join(_lines(analysis, extra or {})) + "\n"


def _lines(analysis: Analysis, extra: Mapping[str, str]) -> Iterator[str]:
    yield from _head(analysis, extra)
    for thread in analysis.threads[:1]:
        yield from _thread(thread, len(thread.frames), analysis.modules)
        yield from _python(thread, len(thread.python))
        yield from _java(analysis)
        yield from _variables(analysis, thread)
        yield from _registers(thread)
    yield from _others(analysis)
    yield from _modules(analysis.modules)
    if analysis.soft_errors:
        yield ""
        yield "Not found out:"
        for error in analysis.soft_errors:
            yield f"  {escape(error)}"


def _head(analysis: Analysis, extra: Mapping[str, str]) -> Iterator[str]:
    signal, process, note = analysis.signal, analysis.process, analysis.note
    place = "".join(where(t.frames[: t.frames_head]) for t in analysis.threads[:1])
    yield escape(f"{process.comm or 'process'}: {analysis.cause}{place}")
    yield ""
    init = ", PID 1 of its namespace" if process.init_process else ""
    yield _field("Process", f"{process.comm} (pid {process.pid}{init})")
    if signal.number:
        at = "" if signal.address is None else f", address 0x{signal.address:x}"
        yield _field("Signal", f"{signal.name} ({signal.number}), {signal.code_name}{at}")
    yield _field("Cause", analysis.cause)
    if analysis.top_frame:
        yield _field("Top frame", analysis.top_frame)
    if analysis.instruction:
        yield _field("Instruction", analysis.instruction)
    if note and note.crash_realtime_ns:
        moment = datetime.fromtimestamp(note.crash_realtime_ns / 1e9 % (1 << 33), UTC)
        yield _field("Time", f"{moment:%Y-%m-%d %H:%M:%S.%f} UTC")
    if note and note.release_monotonic_ns > note.crash_monotonic_ns > 0:
        held = (note.release_monotonic_ns - note.crash_monotonic_ns) / 1e6
        yield _field("Held", f"{held:.1f} ms ({note.release})")
    if java := analysis.java:
        yield _field("JVM", java.vm)
        yield _field("Java thread", ", ".join(filter(None, (java.thread, java.state))))
        yield _field("JVM says", ", in ".join(filter(None, (java.error, java.problematic_frame))))
    for label, value in extra.items():
        yield _field(label, value)
    yield _field("Fingerprint", analysis.fingerprint)
    if note and note.flags:
        yield _field("Snapshot", ", ".join(flag.replace("_", " ") for flag in note.flags))
    if analysis.involvement not in ("none", "unknown"):
        yield _field("Stillframe", f"our own library is involved: {analysis.involvement}")
    if note and note.secrets:
        plural = "s" if note.secrets > 1 else ""
        yield _field("Left out", f"{note.secrets} range{plural} of memory named as secret")
    if note and note.request:
        yield _field("Request", note.request)
    for key, value in note.annotations.items() if note else ():
        yield _field("Annotation", f"{key}={value}")
    yield ""
    yield escape(analysis.message, 2048)


def _thread(thread: Thread, limit: int, modules: list[Module]) -> Iterator[str]:
    """``modules``: where frames without a source line are told with their build IDs."""
    yield ""
    crashed = " (crashed)" if thread.crashed else ""
    name = f' "{thread.name}"' if thread.name else ""
    yield escape(f"Thread {thread.tid}{name}{crashed}:")
    if not thread.frames:
        yield "  no frames"
    left_out = thread.frames_total - len(thread.frames)
    for number, frame in enumerate(thread.frames[:limit]):
        if left_out and number == thread.frames_head:
            yield f"  ... {left_out} frames left out ..."
        index = number + (left_out if number >= thread.frames_head else 0)
        yield from _frame(index, frame, modules)
    if limit < len(thread.frames):
        yield f"  ... {thread.frames_total - limit} more frames"
    elif left_out and thread.frames_head == len(thread.frames):
        yield f"  ... at least {left_out} more frames"


def _frame(index: int, frame: Frame, modules: list[Module]) -> Iterator[str]:
    marks = ["inlined"] if frame.inline else []
    marks += [] if frame.trust in ("context", "cfi") else [frame.trust.replace("_", " ")]
    suffix = f"  [{', '.join(marks)}]" if marks else ""
    yield f"  #{index:<3} {escape(frame_name(frame))}{suffix}"
    where = f"{frame.module}+0x{frame.offset:x}" if frame.offset is not None else ""
    if frame.file:
        yield escape(f"         {frame.file}:{frame.line}  {where}".rstrip())
    elif where and (build_id := _build_id(frame, modules)):
        yield escape(f"         {where}  build ID {build_id}")


def _build_id(frame: Frame, modules: list[Module]) -> str:
    """What a frame's names can be found by later; empty where it is not known."""
    ids = (module.build_id for module in modules if module.start <= frame.pc < module.end)
    return next(ids, "")


def _variables(analysis: Analysis, thread: Thread) -> Iterator[str]:
    for scope in analysis.variables:
        if scope.frame >= len(thread.frames):
            continue
        yield ""
        yield f"Variables of #{scope.frame} {escape(frame_name(thread.frames[scope.frame]))}:"
        for variable in scope.variables:
            yield escape(f"  {variable.name}: {variable.type} = {variable.value}", _VARIABLE)
        if scope.left_out:
            yield f"  ... {scope.left_out} more"


def _python(thread: Thread, limit: int) -> Iterator[str]:
    if not thread.python:
        return
    yield f"  Python code of thread {thread.tid}:"
    for number, frame in enumerate(thread.python[:limit]):
        yield escape(f"  #{number:<3} {frame.function} ({frame.file}:{frame.line})")
    left_out = thread.python_total - len(thread.python[:limit])
    if left_out > 0:
        yield f"  ... {left_out} more frames"


def _java(analysis: Analysis) -> Iterator[str]:
    """The Java frames by themselves, where they could not be put into the stack."""
    frames = analysis.java.frames if analysis.java else []
    if not frames or any(f.trust == "runtime" for t in analysis.threads[:1] for f in t.frames):
        return
    yield ""
    yield "Java code of the thread that the JVM's log is about:"
    for number, frame in enumerate(frames):
        yield escape(f"  #{number:<3} {frame}")


def _registers(thread: Thread) -> Iterator[str]:
    if not thread.registers:
        return
    yield ""
    yield "Registers:"
    cells = [f"{name:>8} {value:016x}" for name, value in thread.registers.items()]
    for start in range(0, len(cells), _REGISTERS_PER_LINE):
        yield escape("  " + "  ".join(cells[start : start + _REGISTERS_PER_LINE]))


def _others(analysis: Analysis) -> Iterator[str]:
    others = analysis.threads[1:]
    for thread in others[:_OTHER_THREADS]:
        yield from _thread(thread, _OTHER_FRAMES, [])
        yield from _python(thread, _OTHER_FRAMES)
    left_out = analysis.threads_total - 1 - len(others[:_OTHER_THREADS])
    if left_out > 0:
        yield ""
        yield f"... {left_out} more threads"


def _modules(modules: list[Module]) -> Iterator[str]:
    if not modules:
        return
    yield ""
    yield "Modules:"
    for module in modules:
        build_id = module.build_id or "no build ID"
        status = "" if module.status == "matched" else f"  [{module.status}]"
        yield escape(f"  {module.start:012x}-{module.end:012x} {module.path}  {build_id}{status}")


def _field(label: str, value: str) -> str:
    return escape(f"{label + ':':<{_LABEL}}{value}")
