"""Stage 7: put the answers of all stages together.  Pure: values in, one Analysis out."""

from collections.abc import Sequence
from typing import Literal, NamedTuple

from stillframe.corefile import REQUEST_KEY, CoreFile, Flag, Involvement, Release
from stillframe.corefile import Note as RawNote
from stillframe.corefile import Thread as RawThread

from .cause import Cause, explain
from .escape import LINE, LONG, escape
from .fault import Fault, is_code
from .fingerprint import fingerprint
from .hs_err import HsErr
from .images import Image, Images
from .java import NO_LOG, contradiction, is_jvm, said, summary, with_java_frames
from .model import (
    MAX_MODULES,
    MAX_SOFT_ERRORS,
    Analysis,
    Frame,
    Module,
    Note,
    Process,
    Signal,
    Thread,
)
from .noise import calls_through_us
from .signals import code_name, signal_name
from .stack import Stack
from .trust import TrustedFrame
from .wording import message, stack_lines, top_frame


class Evidence(NamedTuple):
    """What the earlier stages found."""

    core: CoreFile
    images: Images
    fault: Fault | None
    """``None`` for a core without a thread."""
    stacks: Sequence[Stack]
    """In the order of ``core.threads``, one each up to MAX_THREADS."""
    abort_message: str = ""
    exception: str = ""
    """The type of the C++ exception that nobody caught."""
    soft_errors: Sequence[str] = ()
    hs_err: HsErr | None = None
    """What a JVM's log tells."""


def assemble(evidence: Evidence) -> Analysis:
    """The analysis."""
    core, images, fault, stacks, abort_message, exception, soft_errors, hs_err = evidence
    threads = [
        _thread(evidence, thread, stack, crashed=index == 0)
        for index, (thread, stack) in enumerate(zip(core.threads, stacks, strict=False))
    ]
    crashed = threads[0].frames[: threads[0].frames_head] if threads else []
    signal, process = _signal(core, fault), _process(core)
    causes = (escape(abort_message), escape(exception))
    cause = explain(fault, crashed, *causes) if fault else Cause("not known", "")
    modules = [_module(image) for image in images.all[:MAX_MODULES]]
    errors = [*core.problems, *soft_errors]
    if hs_err and (problem := contradiction(hs_err, process, core.signal)):
        errors.append(problem)
        hs_err = None
    elif hs_err is None and is_jvm(modules):
        errors.append(NO_LOG)
    told = crashed
    if hs_err and threads and hs_err.tid in (None, threads[0].tid):
        threads[0] = with_java_frames(threads[0], hs_err.stack)
        told = threads[0].frames[: threads[0].frames_head]
    words = message(signal, process, cause, told)
    return Analysis(
        signal=signal,
        process=process,
        threads=threads,
        threads_total=len(core.threads),
        cause=escape(cause.sentence, LINE),
        message=escape(f"{words} {said(hs_err) if hs_err else ''}".rstrip(), LONG),
        instruction=fault.instruction.text if fault and fault.instruction else "",
        top_frame=top_frame(told),
        stack=stack_lines(told),
        fingerprint=fingerprint(told),
        involvement=_involvement(core, crashed),
        modules=modules,
        note=_note(core),
        java=summary(hs_err) if hs_err else None,
        soft_errors=[escape(error) for error in errors][:MAX_SOFT_ERRORS],
    )


def _thread(evidence: Evidence, thread: RawThread, stack: Stack, *, crashed: bool) -> Thread:
    return Thread(
        tid=thread.tid,
        name=escape(thread.name or "", LINE),
        crashed=crashed,
        frames=[_frame(evidence.core, evidence.images, frame) for frame in stack.frames],
        frames_total=stack.total,
        frames_head=stack.head,
        registers=thread.registers if crashed else {},
    )


def _frame(core: CoreFile, images: Images, frame: TrustedFrame) -> Frame:
    raw = frame.raw
    image = images.at(raw.lookup) if is_code(core, images, raw.lookup) else None
    return Frame(
        pc=raw.pc,
        trust=frame.trust,
        function=escape(raw.function, LONG),
        module=escape(image.path, LONG) if image else "",
        offset=raw.pc - image.bias if image else None,
        file=escape(raw.file, LONG),
        line=raw.line,
        inline=raw.inline,
    )


def _module(image: Image) -> Module:
    return Module(
        path=escape(image.path, LONG),
        start=image.start,
        end=image.end,
        build_id=image.build_id.hex() if image.build_id else "",
        status=image.status,
    )


def _signal(core: CoreFile, fault: Fault | None) -> Signal:
    number, code = (fault.signal, fault.code) if fault else (0, 0)
    if fault is None and core.signal:
        number, code = core.signal.signal, core.signal.code
    return Signal(
        number=number,
        name=signal_name(number),
        code=code,
        code_name=code_name(number, code),
        address=fault.address if fault else None,
        sender_pid=fault.sender_pid if fault else None,
    )


def _process(core: CoreFile) -> Process:
    pid = core.process.pid if core.process else 0
    note = core.note.fields if core.note else None
    return Process(
        pid=pid or (note.pid if note else 0),
        tid=core.threads[0].tid if core.threads else 0,
        comm=escape(core.process.comm, LINE) if core.process else "",
        init_process=bool(note and note.flags & Flag.INIT_PROCESS),
    )


def _involvement(
    core: CoreFile, crashed: Sequence[Frame]
) -> Literal["none", "frame", "handler", "interposer", "unknown"]:
    """What the library knows of itself; what it had called only the stack tells."""
    if core.note is None:
        return "unknown"
    match core.note.fields.involvement:
        case Involvement.NONE:
            return "interposer" if calls_through_us(crashed) else "none"
        case Involvement.FRAME:
            return "frame"
        case Involvement.HANDLER:
            return "handler"
        case Involvement.INTERPOSER:
            return "interposer"
        case _:
            return "unknown"


def _note(core: CoreFile) -> Note | None:
    if core.note is None:
        return None
    raw: RawNote = core.note.fields
    annotations = dict(core.note.annotations)
    request = annotations.pop(REQUEST_KEY, "")
    return Note(
        id=raw.id.hex(),
        library=f"{raw.library >> 16}.{raw.library >> 8 & 0xFF}.{raw.library & 0xFF}",
        flags=[str(flag.name).lower() for flag in Flag if raw.flags & flag],
        release=_release(raw.release),
        crash_realtime_ns=raw.crash_realtime_ns,
        crash_monotonic_ns=raw.crash_monotonic_ns,
        snapshot_monotonic_ns=raw.snapshot_monotonic_ns,
        release_monotonic_ns=raw.release_monotonic_ns,
        start_ticks=raw.start_ticks,
        pid_ns=raw.pid_ns,
        uid=raw.uid,
        gid=raw.gid,
        threads=raw.threads,
        threads_captured=raw.threads_captured,
        annotations={escape(k): escape(v) for k, v in annotations.items()},
        request=escape(request),
        secrets=len(core.note.secrets),
    )


def _release(value: int) -> str:
    try:
        return Release(value).name.lower()
    except ValueError:
        return f"unknown ({value})"
