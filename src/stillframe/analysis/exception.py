"""Which C++ exception nobody caught: its type, found on the stack of who threw it.

Its message is left out on purpose: unlike a type it may hold anything, and a
cause is shown to whoever may read reports.
"""

import struct
from collections.abc import Callable, Sequence

from stillframe.corefile import CoreFile

from .demangle import demangle
from .unwind import RawFrame

MAX_SEARCHED = 16 << 10
"""Bytes of stack between the signal and who threw; arbitrary, real ones are below 1 KiB."""
_CLASS = b"\0++CCUNG"
"""``GNUCC++\\0``, the first word of what is thrown.  Itanium C++ ABI, exception handling, 2.2.1."""
_TYPE_BEFORE_CLASS = 80
"""Bytes from exceptionType to unwindHeader; ``struct __cxa_exception`` of libsupc++."""
_TYPEINFO = "_ZTI"


def exception_type(
    core: CoreFile, frames: Sequence[RawFrame], symbol_name: Callable[[int], str]
) -> str:
    """The type of the exception that is being thrown, or empty.

    ``symbol_name`` gives the name of the data that starts at an address.  Exact
    where the core has the exception itself (a full core); a snapshot has only the
    stack, and what is found there is labelled "probably".
    """
    thrower = next((i for i, f in enumerate(frames) if _throws(f)), None)
    if thrower is None or thrower + 1 == len(frames):
        return ""
    low = frames[0].sp
    size = min(frames[thrower + 1].sp - low, MAX_SEARCHED) // 8 * 8
    memory = core.read(low, size) if size > 0 else b""
    words = [word for (word,) in struct.iter_unpack("<Q", memory[: len(memory) // 8 * 8])]
    for word in words:
        if core.read(word, len(_CLASS)) == _CLASS:
            typeinfo = int.from_bytes(core.read(word - _TYPE_BEFORE_CLASS, 8), "little")
            if name := _type_name(symbol_name(typeinfo)):
                return name
    found = next((name for word in words if (name := _type_name(symbol_name(word)))), "")
    return f"probably {found}" if found else ""


def _throws(frame: RawFrame) -> bool:
    return "__cxa_throw" in (frame.function, frame.symbol.partition("@")[0])


def _type_name(symbol: str) -> str:
    """The type that a type information's symbol is for, else empty.

    >>> _type_name("_ZTISt13runtime_error@GLIBCXX_3.4"), _type_name("_ZN3app3runEv")
    ('std::runtime_error', '')
    """
    if not symbol.startswith(_TYPEINFO):
        return ""
    return demangle(symbol).removeprefix("typeinfo for ")
