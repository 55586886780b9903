"""Python's own stack beside the native one.  Pure.

CPython keeps its frames, code objects and their names in memory that no snapshot has: the
interpreter's state in ``.data``, frames in data stack chunks, code and strings on the heap.  Only a
full core tells them.
"""

import re
from collections.abc import Sequence

from msgspec.structs import replace

from stillframe.names import ANNOTATION_CAPTURE

from .escape import LINE, LONG, base_name, escape
from .model import (
    MAX_FRAMES_CRASHED,
    MAX_FRAMES_OTHER,
    MAX_STACK_LINES,
    Analysis,
    Module,
    PythonFrame,
    PythonThread,
    Thread,
)

NEEDS_CORE = (
    f'no Python stack: that takes a full core; ask for one by "{ANNOTATION_CAPTURE}: core" on the'
    " pod, or by stillframe run --core"
)
_STACK_LINES = 24
"""Of a stack's lines, for Python at most; arbitrary."""
_INTERPRETER = re.compile(r"(lib)?python[23]?(\.\d+)?[dmtu]*(\.so[.\d]*)?")


def is_python(modules: Sequence[Module]) -> bool:
    """Whether CPython is among the modules: as the program, or as a library of another."""
    return any(_INTERPRETER.fullmatch(base_name(module.path)) for module in modules)


def with_python(analysis: Analysis, found: Sequence[PythonThread]) -> Analysis:
    """The analysis with Python's frames in its threads, and the innermost in its message."""
    by_tid = {thread.tid: thread for thread in found}
    threads = [_with_frames(thread, by_tid.get(thread.tid)) for thread in analysis.threads]
    crashed = threads[0].python if threads else []
    message = analysis.message
    if crashed:
        called = f", called from {python_frame(crashed[1])}" if len(crashed) > 1 else ""
        told = f"{message} Python was in {python_frame(crashed[0])}{called}."
        message = escape(told, LONG)
    return replace(analysis, threads=threads, message=message, stack=_stack(analysis, crashed))


def python_frame(frame: PythonFrame) -> str:
    """One frame.

    >>> python_frame(PythonFrame(function="add", file="/app/cart.py", line=7))
    'add (cart.py:7)'
    >>> python_frame(PythonFrame(function="f", file="/app/shop/__init__.py", line=7))
    'f (shop/__init__.py:7)'
    """
    name = base_name(frame.file)
    if name.startswith("__"):
        name = "/".join(frame.file.split("/")[-2:])
    return f"{frame.function} ({name}:{frame.line})"


def _stack(analysis: Analysis, crashed: Sequence[PythonFrame]) -> list[str]:
    """The lines of the stack, Python's below; the oldest native ones make room."""
    told = [
        escape(f"py#{number} {python_frame(frame)}", LINE)
        for number, frame in enumerate(crashed[:_STACK_LINES])
    ]
    return [*analysis.stack[: MAX_STACK_LINES - len(told)], *told]


def _with_frames(thread: Thread, found: PythonThread | None) -> Thread:
    if found is None:
        return thread
    limit = MAX_FRAMES_CRASHED if thread.crashed else MAX_FRAMES_OTHER
    return replace(thread, python=found.frames[:limit], python_total=found.frames_total)
