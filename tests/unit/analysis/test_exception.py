"""The type of an exception by what is on the stack, from a hand-made core."""

import pytest

from stillframe.analysis.demangle import MAX_MANGLED
from stillframe.analysis.exception import exception_type
from stillframe.analysis.unwind import RawFrame
from stillframe.corefile import CoreFile
from tests.support.corewriter import Core, R, W

STACK, HEAP, TYPEINFO = 0x8000, 0x20000, 0x401000


def frame(function: str, sp: int) -> RawFrame:
    return RawFrame(1, sp, function, "", 0, inline=False, interrupted=False)


FRAMES = [frame("abort", STACK), frame("__cxa_throw", STACK + 16), frame("f", STACK + 24)]


def told(symbol: str, word: int = TYPEINFO, at: int = 8, frames: list[RawFrame] = FRAMES) -> str:
    stack = bytes(at) + word.to_bytes(8, "little")
    thrown = TYPEINFO.to_bytes(8, "little").ljust(80, b"\0") + b"\0++CCUNG"
    core = Core().thread(1).map(STACK, stack.ljust(64, b"\0"), R | W).map(HEAP, thrown, R | W)
    names = {TYPEINFO: symbol}
    return exception_type(
        CoreFile.from_bytes(core.build()), frames, lambda address: names.get(address, "")
    )


def test_the_exception_itself_is_certain_and_a_find_on_the_stack_is_not() -> None:
    assert told("_ZTIi", HEAP + 80) == "int"
    assert told("_ZTIi") == "probably int"


def test_only_the_stack_of_who_throws_is_searched() -> None:
    assert told("_ZTIi", at=16) == "probably int"
    assert told("_ZTIi", at=24) == ""
    assert told("_ZTIi", frames=[frame("abort", STACK), frame("f", STACK + 24)]) == ""


@pytest.mark.parametrize("symbol", ["", "_ZTVi", "main"])
def test_other_symbols_are_no_types(symbol: str) -> None:
    assert told(symbol) == ""


@pytest.mark.parametrize("name", [f"_ZTI{'a' * MAX_MANGLED}", "_ZTISt4pairI" + "S0_" * 40 + "E"])
def test_a_type_that_might_unfold_without_end_stays_mangled(name: str) -> None:
    assert told(name) == f"probably {name}"
