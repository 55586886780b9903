"""The analysis as a sentence: images, fault, stacks, assemble.

Runs inside the sandbox.  It yields an answer twice: first from the core alone,
in pure Python, which cannot crash; then with stacks and symbols.  Whoever reads
the answers keeps the last one, so that a parser that dies on hostile debug info
costs the symbols and not the report.
"""

from collections.abc import Callable, Iterator, Sequence

from stillframe.corefile import CoreFile, Thread

from .assemble import Evidence, assemble
from .fault import find_fault
from .hs_err import HsErr
from .images import GivenFile, find_images
from .inlines import with_inline_frames
from .model import MAX_FRAMES_CRASHED, MAX_FRAMES_OTHER, MAX_THREADS, Analysis
from .stack import Stack, find_stack
from .trust import TrustedFrame
from .unwind import RawFrame, Unwinder


def analyze_core(
    core: CoreFile,
    core_fd: int,
    given: Sequence[GivenFile],
    syscall_name: Callable[[int], str],
    hs_err: HsErr | None = None,
) -> Iterator[Analysis]:
    """Analyze a parsed core; the same core must be readable from ``core_fd``.

    ``hs_err`` is what a JVM's log tells.
    """
    images = find_images(core, given)
    fault = find_fault(core, images, syscall_name)
    stacks = [_innermost(thread) for thread in core.threads[:MAX_THREADS]]
    registers = Evidence(core, images, fault, stacks, hs_err=hs_err)
    yield assemble(registers)
    yield _from_stacks(registers, core_fd)


def _from_stacks(registers: Evidence, core_fd: int) -> Analysis:
    core, images = registers.core, registers.images
    stacks: list[Stack] = []
    unwinder = Unwinder(core, core_fd, images)
    errors = unwinder.problems
    for index, thread in enumerate(core.threads[:MAX_THREADS]):
        try:
            limit = MAX_FRAMES_CRASHED if index == 0 else MAX_FRAMES_OTHER
            stacks.append(find_stack(core, images, unwinder, thread, limit))
        except Exception as error:  # drgn raises its own kinds, and plain Exception
            errors.append(f"thread {thread.tid}: not unwound: {error}")
            stacks.append(_innermost(thread))
    try:
        stacks[:1] = [with_inline_frames(images, stack) for stack in stacks[:1]]
    except Exception as error:  # pyelftools raises its own kinds, and plain ones on bad files
        errors.append(f"inline frames: {error}")
    try:
        abort_message = unwinder.abort_message()
    except Exception as error:
        abort_message = ""
        errors.append(f"the message of abort(): {error}")
    return assemble(
        registers._replace(stacks=stacks, abort_message=abort_message, soft_errors=errors)
    )


def _innermost(thread: Thread) -> Stack:
    """What the registers alone tell."""
    frame = RawFrame(thread.pc, thread.sp, "", "", 0, inline=False, interrupted=True)
    return Stack([TrustedFrame(frame, "context")], 1, 1)
