"""Python's stack beside the native one: whose it is, and what is shown of it."""

import pytest

from stillframe.analysis import Analysis, Frame, Module, Process, Signal, Thread, render_text
from stillframe.analysis.model import (
    MAX_FRAMES_CRASHED,
    MAX_FRAMES_OTHER,
    MAX_STACK_LINES,
    PythonFrame,
    PythonThread,
)
from stillframe.analysis.python import is_python, with_python


def module(path: str) -> Module:
    return Module(path=path, start=0, end=1)


@pytest.mark.parametrize(
    "path",
    [
        "/usr/bin/python3.11",
        "/opt/bin/python",
        "/opt/bin/python3.6m",
        "/usr/lib/libpython3.13.so.1.0",
        "/usr/lib/libpython3.13t.so.1.0",
        "/usr/lib/libpython3.9d.so",
    ],
)
def test_cpython_is_known_by_its_file(path: str) -> None:
    assert is_python([module("/lib/libc.so.6"), module(path)])


@pytest.mark.parametrize("path", ["/bin/pypy3", "/lib/libpythonic.so", "/bin/python-config", ""])
def test_other_files_are_not_cpython(path: str) -> None:
    assert not is_python([module(path)])


def analysis(lines: int = 1) -> Analysis:
    crashed = Thread(tid=7, crashed=True, frames=[Frame(pc=1, trust="context")], frames_head=1)
    return Analysis(
        signal=Signal(number=11, name="SIGSEGV", code=1, code_name="SEGV_MAPERR"),
        process=Process(pid=7, tid=7, comm="python", init_process=False),
        threads=[crashed, Thread(tid=8)],
        threads_total=2,
        cause="null pointer",
        message="python died.",
        top_frame="memcpy",
        stack=[f"#{n} 0x1" for n in range(lines)],
        fingerprint="v1:0123456789abcdef",
        involvement="none",
        modules=[],
    )


def frames(count: int) -> list[PythonFrame]:
    return [PythonFrame(function=f"f{n}", file="/app/shop/cart.py", line=n) for n in range(count)]


def test_each_thread_gets_its_own_and_the_message_the_innermost() -> None:
    found = [
        PythonThread(tid=8, frames=frames(1), frames_total=1),
        PythonThread(tid=7, frames=frames(2), frames_total=2),
        PythonThread(tid=99, frames=frames(1), frames_total=1),
    ]
    told = with_python(analysis(), found)
    assert [len(thread.python) for thread in told.threads] == [2, 1]
    assert told.message == "python died. Python was in f0 (cart.py:0), called from f1 (cart.py:1)."
    assert told.stack == ["#0 0x1", "py#0 f0 (cart.py:0)", "py#1 f1 (cart.py:1)"]
    assert (told.top_frame, told.fingerprint) == ("memcpy", "v1:0123456789abcdef")
    text = render_text(told)
    assert "  Python code of thread 7:\n  #0   f0 (/app/shop/cart.py:0)\n  #1   f1" in text
    assert "  Python code of thread 8:\n  #0   f0 (/app/shop/cart.py:0)\n" in text


def test_a_deep_recursion_is_cut_and_says_so() -> None:
    deep = frames(MAX_FRAMES_CRASHED)
    found = [PythonThread(tid=tid, frames=deep, frames_total=1000) for tid in (7, 8)]
    told = with_python(analysis(lines=MAX_STACK_LINES), found)
    assert [len(t.python) for t in told.threads] == [MAX_FRAMES_CRASHED, MAX_FRAMES_OTHER]
    assert len(told.stack) == MAX_STACK_LINES
    assert told.stack[0] == "#0 0x1"
    assert f"  ... {1000 - MAX_FRAMES_CRASHED} more frames" in render_text(told)


def test_a_crashed_thread_without_python_leaves_the_message() -> None:
    told = with_python(analysis(), [PythonThread(tid=8, frames=frames(1), frames_total=1)])
    assert told.message == "python died."
