"""Which functions of Go's runtime say nothing about a bug."""

import pytest

from stillframe.analysis import Frame
from stillframe.analysis.noise import significant


def frames(*functions: str) -> list[Frame]:
    return [Frame(pc=1, trust="cfi", function=name, module="/app/shop") for name in functions]


def told(*functions: str) -> list[str]:
    return [frame.function for frame in significant(frames(*functions))]


@pytest.mark.parametrize(
    "functions",
    [
        ("runtime.raise", "runtime.dieFromSignal", "runtime.crash", "runtime.fatalpanic"),
        ("runtime.gopanic", "runtime.panicmem", "runtime.sigpanic"),
        ("runtime.gopanic", "runtime.goPanicIndex", "runtime.panicIndex"),
        ("runtime.fatalthrow.func1", "runtime.systemstack.abi0", "runtime.fatalthrow"),
        ("runtime.throw", "runtime.sigtrampgo", "runtime.sighandler"),
    ],
)
def test_what_ends_the_process_is_left_out(functions: tuple[str, ...]) -> None:
    assert told(*functions, "main.read", "main.main", "runtime.main", "runtime.goexit") == [
        "main.read",
        "main.main",
    ]


def test_what_the_runtime_does_for_the_program_stays() -> None:
    assert told("runtime.mapassign_faststr", "main.main") == [
        "runtime.mapassign_faststr",
        "main.main",
    ]


def test_a_function_of_c_stays_without_what_calls_it() -> None:
    """The wrapper's name has a hash: it is another one after each change of the package."""
    functions = ("c_write", "_cgo_8c074231fb21_Cfunc_c_write", "runtime.asmcgocall.abi0")
    assert told(*functions, "runtime.systemstack") == ["c_write"]


def test_functions_of_the_program_may_have_such_names() -> None:
    assert told("main.panics", "shop/runtime.gopanic", "main.main") == [
        "main.panics",
        "shop/runtime.gopanic",
        "main.main",
    ]
