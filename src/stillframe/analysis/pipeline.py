"""The analysis as a sentence: images, fault, stacks, assemble.

Runs inside the sandbox.  It yields three answers: first from the core alone, in
pure Python, which cannot crash; then with stacks and symbols; then with the names
demangled and the crashing frame's variables.  Whoever reads the answers keeps the
last one, so that a parser that dies on hostile debug info costs the symbols, and a
demangler that dies on a hostile name costs the names, and neither the report.
"""

from collections.abc import Callable, Iterator, Sequence

import msgspec

from stillframe.corefile import CoreFile, Thread
from stillframe.corefile.elf import Machine

from .assemble import Evidence, assemble
from .demangle import function_name, missing_library
from .escape import escape
from .exception import exception_type
from .fault import find_fault
from .hs_err import HsErr
from .images import GivenFile, find_images
from .inlines import with_inline_frames
from .model import (
    MAX_FRAMES_CRASHED,
    MAX_FRAMES_OTHER,
    MAX_SCOPES,
    MAX_SOFT_ERRORS,
    MAX_THREADS,
    Analysis,
)
from .stack import Stack, find_stack
from .trust import TrustedFrame
from .unwind import RawFrame, Unwinder
from .variables import crashing_scopes


def analyze_core(
    core: CoreFile,
    core_fd: int,
    given: Sequence[GivenFile],
    syscall_name: Callable[[Machine, int], str],
    *,
    variables: bool,
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
    unwinder = Unwinder(core, core_fd, images)
    evidence = _from_stacks(registers, unwinder)
    yield assemble(evidence._replace(stacks=_named(evidence.stacks, _as_linked)))
    answer = assemble(evidence._replace(stacks=_named(evidence.stacks, function_name)))
    yield _with_variables(evidence, unwinder, answer) if variables else answer


def _from_stacks(registers: Evidence, unwinder: Unwinder) -> Evidence:
    core, images = registers.core, registers.images
    stacks: list[Stack] = []
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
    try:
        thrown = [frame.raw for frame in stacks[0].frames] if stacks else []
        exception = exception_type(core, thrown, unwinder.symbol_name)
    except Exception as error:
        exception = ""
        errors.append(f"the type of the exception: {error}")
    if problem := missing_library(frame.raw.symbol for stack in stacks for frame in stack.frames):
        errors.append(problem)
    return registers._replace(
        stacks=stacks, abort_message=abort_message, exception=exception, soft_errors=errors
    )


def _with_variables(evidence: Evidence, unwinder: Unwinder, answer: Analysis) -> Analysis:
    core, images, stacks = evidence.core, evidence.images, evidence.stacks
    try:
        scopes = crashing_scopes(core, images, unwinder, stacks[0], answer) if stacks else []
    except Exception as error:  # drgn raises its own kinds, and plain Exception
        told = [*answer.soft_errors, escape(f"variables: {error}")]
        return msgspec.structs.replace(answer, soft_errors=told[-MAX_SOFT_ERRORS:])
    return msgspec.structs.replace(answer, variables=scopes[:MAX_SCOPES])


def _named(stacks: Sequence[Stack], name: Callable[[str, str], str]) -> list[Stack]:
    """The stacks with each frame's function named by its debug information and its symbol."""
    return [
        stack._replace(
            frames=[
                TrustedFrame(raw._replace(function=name(raw.function, raw.symbol)), trust)
                for raw, trust in stack.frames
            ]
        )
        for stack in stacks
    ]


def _as_linked(function: str, symbol: str) -> str:
    return function or symbol


def _innermost(thread: Thread) -> Stack:
    """What the registers alone tell."""
    frame = RawFrame(thread.pc, thread.sp, "", "", 0, inline=False, interrupted=True)
    return Stack([TrustedFrame(frame, "context")], 1, 1)
