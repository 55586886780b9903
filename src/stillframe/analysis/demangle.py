"""Stage 3c: the names that people wrote, from the names that linkers see.

C++ by libstdc++'s own demangler (``__cxa_demangle``, Itanium C++ ABI 5.1), Rust
by rust-demangler (RFC 2603, and the older scheme that looks like C++).  One name
has one readable form, which the fingerprint relies on: without symbol version,
without the hash of Rust's older scheme, and never longer than it takes to read.

A mangled name comes from a pod and may unfold to 2^100 characters in 1 kB: its
references to parts of itself nest.  Neither library has a bound on that, so names
are judged before (C++, which cannot be stopped) or stopped (Rust).
"""

import contextlib
import io
import re
import sys
from collections.abc import Iterable, Iterator
from functools import cache
from types import FrameType

import cxxfilt  # type: ignore[import-untyped]
import rust_demangler  # type: ignore[import-untyped]

MAX_MANGLED = 1024
"""Characters; libstdc++ refuses longer names itself (its recursion limit of 2048 parts)."""
MAX_NAME = 160
"""Characters of a readable name; a stack line holds 256 with its place."""
MAX_CPP_WORK = 1e6
"""Bound of the parts that a name unfolds to: 0.3 s.  Of 194,764 symbols of LLVM, Clang, HotSpot,
Node.js, gdb, gRPC and libstdc++ it refuses 242."""
MAX_RUST_CALLS = 20_000
"""Function calls of the Python demangler for one name: 10 ms.  Real names take some hundred."""

_RUST_LEGACY = re.compile(r"_ZN.*17h[0-9a-f]{16}E(\..*)?")
_RUST_HASH = re.compile(r"::h[0-9a-f]{16}(?=$|\.)")
_REFERENCE = re.compile(r"[ST][0-9A-Z]*_")
_PART = re.compile(
    r"\(anonymous namespace\)|->"
    r"|operator(?:<=>|<<=?|>>=?|->\*?|[<>]=?|\(\)|\[\])?"
    r"|[<>(){}]|[^<>(){}o-]+|."
)
_CLOSING = {"<": ">", "(": ")", "{": "}"}


class _TooMuchWorkError(BaseException):
    """Not an Exception: rust-demangler swallows those."""


def missing_library(names: Iterable[str]) -> str:
    """Why C++ names among ``names`` stay mangled; empty where they do not."""
    without = isinstance(cxxfilt.default_demangler, cxxfilt.DeferedErrorDemangler)
    if without and any(name.startswith("_Z") for name in names):
        return "C++ names are mangled: libstdc++.so.6 is missing (apt install libstdc++6)"
    return ""


@cache
def demangle(name: str) -> str:
    """The readable form of a symbol's name; the name itself where it is not mangled or not valid.

    >>> demangle("_ZN4shop4CartIiE3addEi@@SHOP_1.0"), demangle("step.constprop.0")
    ('shop::Cart<int>::add(int)', 'step.constprop.0')
    >>> demangle("_ZN4core6option15Option$LT$T$GT$6unwrap17h0123456789abcdefE")
    'core::option::Option<T>::unwrap'
    """
    plain = name.partition("@")[0]
    if len(plain) > MAX_MANGLED or not plain.startswith(("_Z", "_R")):
        return name
    try:
        rust = plain.startswith("_R") or _RUST_LEGACY.fullmatch(plain)
        found = _rust(plain) if rust else _cpp(plain)
    except (Exception, _TooMuchWorkError):  # not mangled after all, or by somebody hostile
        return name
    return shorten(found) or name  # a path of nothing but its hash


def function_name(function: str, symbol: str) -> str:
    """The best name for a function: a mangled symbol tells more than its debug information.

    DWARF names a function without its namespace and class, the symbol with them, and the
    symbol is often all that is left of a stripped file.

    >>> function_name("add", "_ZN4shop4Cart3addEi"), function_name("_fork", "fork")
    ('shop::Cart::add(int)', '_fork')
    """
    readable = demangle(symbol)
    return readable if readable != symbol else function or symbol


def shorten(name: str) -> str:
    """The name without the contents of brackets where it is too long to read: ``()`` first.

    >>> shorten("Map<int>::operator<(" + "std::pair<int, int>, " * 9 + "int) const")
    'Map<int>::operator<(...) const'
    >>> shorten("Map<" + "std::pair<int, int>, " * 9 + "int>::clear()")
    'Map<...>::clear()'
    """
    for opening in "(<":
        if len(name) > MAX_NAME:
            name = "".join(_without(name, opening))
    return name if len(name) <= MAX_NAME else name[: MAX_NAME - 3] + "..."


def _without(name: str, opening: str) -> Iterator[str]:
    """The parts of a name outside of the outermost brackets of one kind."""
    closing: list[str] = []
    hidden_above, hidden = sys.maxsize, False  # open brackets from which on parts are hidden
    for part in _PART.findall(name):
        if closing and part == closing[-1]:
            closing.pop()
            if len(closing) == hidden_above - 1:
                yield "..." * hidden
                hidden_above, hidden = sys.maxsize, False
        if len(closing) >= hidden_above:
            hidden = True
        else:
            yield part
        if part in _CLOSING:
            closing.append(_CLOSING[part])
            if part == opening and hidden_above == sys.maxsize:
                hidden_above = len(closing)


def _cpp(name: str) -> str:
    # Three references each triple what comes before them; what a pack is expanded in (Dp, and sp
    # in expressions, also found in words) comes once per element, of which a letter is enough.
    references, packs = len(_REFERENCE.findall(name)), name.count("Dp") + name.count("sp")
    if 3 ** (references / 3) * len(name) ** packs > MAX_CPP_WORK:
        raise _TooMuchWorkError
    return str(cxxfilt.demangle(name))


def _rust(name: str) -> str:
    calls = 0

    def count(_frame: FrameType, event: str, _argument: object) -> None:
        nonlocal calls
        calls += event == "call"
        if calls > MAX_RUST_CALLS:
            raise _TooMuchWorkError

    with contextlib.redirect_stdout(io.StringIO()):  # where it prints names that it gives up
        sys.setprofile(count)
        try:
            found = str(rust_demangler.demangle(name))
        finally:
            sys.setprofile(None)
    # It writes {closure:#0} where RFC 2603 and rustc have {closure#0}, and leaves some dots.
    return _RUST_HASH.sub("", found).replace(":#", "#").replace("..", "::")
