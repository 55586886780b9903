"""The analysis as a sentence: images, fault, stacks, assemble.

Runs inside the sandbox.  It yields an answer twice: first from the core alone,
in pure Python, which cannot crash; then with stacks and symbols.  Whoever reads
the answers keeps the last one, so that a parser that dies on hostile debug info
costs the symbols and not the report.
"""

from collections.abc import Callable, Iterator, Sequence

from stillframe.corefile import CoreFile, Thread
from stillframe.corefile.elf import Machine

from .assemble import Evidence, assemble
from .exception import exception_type
from .fault import Fault, find_fault
from .images import GivenFile, Images, find_images
from .model import MAX_FRAMES_CRASHED, MAX_FRAMES_OTHER, MAX_THREADS, Analysis
from .stack import Stack, find_stack
from .trust import TrustedFrame
from .unwind import RawFrame, Unwinder


def analyze_core(
    core: CoreFile,
    core_fd: int,
    given: Sequence[GivenFile],
    syscall_name: Callable[[Machine, int], str],
) -> Iterator[Analysis]:
    """Analyze a parsed core; the same core must be readable from ``core_fd``."""
    images = find_images(core, given)
    fault = find_fault(core, images, syscall_name)
    yield _from_registers(core, images, fault)
    yield _from_stacks(core, core_fd, images, fault)


def _from_registers(core: CoreFile, images: Images, fault: Fault | None) -> Analysis:
    stacks = [_innermost(thread) for thread in core.threads[:MAX_THREADS]]
    return assemble(Evidence(core, images, fault, stacks))


def _from_stacks(core: CoreFile, core_fd: int, images: Images, fault: Fault | None) -> Analysis:
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
        abort_message = unwinder.abort_message()
    except Exception as error:
        abort_message = ""
        errors.append(f"the message of abort(): {error}")
    try:
        thrown = [frame.raw for frame in stacks[0].frames] if stacks else []
        exception = exception_type(core, thrown, unwinder.symbol_name)
    except Exception as error:
        exception = ""
        errors.append(f"the type of the exception: {error}")
    return assemble(Evidence(core, images, fault, stacks, abort_message, exception, errors))


def _innermost(thread: Thread) -> Stack:
    """What the registers alone tell."""
    frame = RawFrame(thread.pc, thread.sp, "", "", 0, inline=False, interrupted=True)
    return Stack([TrustedFrame(frame, "context")], 1, 1)
