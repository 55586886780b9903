"""The analysis as a sentence: images, unwind, judge, scan, explain, assemble.

Runs inside the sandbox.  It yields an answer twice: first from the core alone,
in pure Python, which cannot crash; then with stacks and symbols.  Whoever reads
the answers keeps the last one, so that a parser that dies on hostile debug info
costs the symbols and not the report.
"""

from collections.abc import Callable, Iterator, Sequence

from stillframe.corefile import CoreFile, Thread
from stillframe.corefile.elf import PF_X

from .assemble import Evidence, Stack, assemble
from .cfi import has_cfi
from .fault import Fault, find_fault, read_code
from .images import GivenFile, Images, find_images
from .model import MAX_FRAMES_CRASHED, MAX_FRAMES_OTHER, MAX_THREADS, Analysis
from .scan import MAX_SCAN_BYTES, Code, scan
from .trust import TrustedFrame, judge
from .unwind import RawFrame, Unwinder

_OLDEST = 16
"""Oldest frames kept of a stack too deep to keep whole."""


def analyze_core(
    core: CoreFile, core_fd: int, given: Sequence[GivenFile], syscall_name: Callable[[int], str]
) -> Iterator[Analysis]:
    """Analyze a parsed core; the same core must be readable from ``core_fd``."""
    images = find_images(core, given)
    fault = find_fault(core, images, syscall_name)
    yield _from_registers(core, images, fault)
    yield _from_stacks(core, core_fd, images, fault)


def _from_registers(core: CoreFile, images: Images, fault: Fault | None) -> Analysis:
    stacks = {}
    for index, thread in enumerate(core.threads[:MAX_THREADS]):
        frame = RawFrame(thread.pc, thread.sp, "", "", 0, inline=False, interrupted=True)
        stacks[index] = Stack([TrustedFrame(frame, "context")], 1, 1)
    return assemble(Evidence(core, images, fault, stacks))


def _from_stacks(core: CoreFile, core_fd: int, images: Images, fault: Fault | None) -> Analysis:
    errors: list[str] = []
    stacks: dict[int, Stack] = {}
    unwinder = Unwinder(core, core_fd, images)
    for index, thread in enumerate(core.threads[:MAX_THREADS]):
        try:
            stacks[index] = _stack(core, images, unwinder, thread, crashed=index == 0)
        except Exception as error:  # drgn raises its own kinds, and plain Exception
            errors.append(f"thread {thread.tid}: not unwound: {error}")
    return assemble(Evidence(core, images, fault, stacks, unwinder.abort_message(), errors))


def _stack(
    core: CoreFile, images: Images, unwinder: Unwinder, thread: Thread, *, crashed: bool
) -> Stack:
    limit = MAX_FRAMES_CRASHED if crashed else MAX_FRAMES_OTHER
    trace = unwinder.trace(thread.tid, limit - _OLDEST, _OLDEST)
    verdict = judge(trace.frames, lambda pc: _is_code(core, pc), lambda pc: _has_cfi(images, pc))
    whole = len(verdict.frames) == len(trace.frames)
    oldest = [TrustedFrame(frame, verdict.frames[-1].trust) for frame in trace.oldest]
    if whole and trace.oldest:
        return Stack([*verdict.frames, *oldest], len(verdict.frames), trace.total)
    scanned: list[TrustedFrame] = []
    if verdict.scan_from is not None:
        stack = core.read(verdict.scan_from, MAX_SCAN_BYTES)
        code = Code(core.machine, lambda at: read_code(core, images, at - 8, 8), images.at)
        found = scan(stack, verdict.frames[-1].raw.pc, code)
        scanned = [TrustedFrame(frame, "scan") for frame in unwinder.symbolize(found)]
    frames = [*verdict.frames, *scanned][:limit]
    return Stack(frames, len(frames), len(frames))


def _is_code(core: CoreFile, address: int) -> bool:
    segment = core.segment_at(address)
    return segment is not None and bool(segment.flags & PF_X)


def _has_cfi(images: Images, address: int) -> bool:
    image = images.at(address)
    if image is None or image.file is None:
        return False
    return has_cfi(image.file.data, address - image.bias)
