"""Who stopped the process on purpose: libc, the compiler's checks or a language's runtime.

Told by the functions on the stack; their names are public interfaces of glibc,
musl, the C++ ABI and Rust's standard library.
"""

from collections.abc import Sequence
from itertools import takewhile

from .fingerprint import normalize
from .model import Frame
from .noise import in_libc, is_allocator

_CHECKS: tuple[tuple[tuple[str, ...], str, str], ...] = (
    (("__assert_fail", "__assert_fail_base", "__assert"), "assertion failed", ""),
    (
        ("__stack_chk_fail", "__stack_chk_fail_local"),
        "stack smashing detected",
        "A buffer on the stack of the function that noticed it was overrun.",
    ),
    (
        ("__fortify_fail", "__chk_fail"),
        "buffer overflow detected",
        "A checked call would have written past the end of a buffer.",
    ),
    (
        ("__cxa_pure_virtual",),
        "pure virtual function called",
        "A constructor or destructor called it, or the object was destroyed before.",
    ),
    (("rust_panic", "__rust_start_panic", "rust_begin_unwind"), "panic", ""),
)
_HEAP_HINT = "Memory was freed twice or overrun earlier; the stack shows where it was noticed."
_THROWING = ("__cxa_throw", "__cxa_rethrow")
_UNWINDING = ("__gxx_personality_v0", "_Unwind_RaiseException", "__cxa_call_terminate")
_TERMINATING = ("_ZSt9terminatev", "std::terminate", "__verbose_terminate_handler")


def explain_abort(
    frames: Sequence[Frame], message: str, exception: str, *, by_hlt: bool
) -> tuple[str, str]:
    """Sentence and hint; ``by_hlt``: by the instruction of that name, as musl does it."""
    scoped = [normalize(frame.function) for frame in frames]
    names = [*scoped, *(name.removeprefix("__rustc::") for name in scoped)]
    for functions, sentence, hint in _CHECKS:
        if any(name in names for name in functions):
            return _told(sentence, message), hint
    if any(map(is_allocator, takewhile(in_libc, frames))):
        return _told("heap corruption detected by malloc", message), _HEAP_HINT
    if any(name in names for name in _THROWING):
        return _thrown(names, exception)
    if any(name in names for name in _TERMINATING):
        return (
            "std::terminate() was called",
            "Without an exception: often a std::thread that was neither joined nor detached.",
        )
    if by_hlt:
        return "abort: the process stopped itself (hlt)", ""
    if message:
        return f"abort: {message}", ""
    raised = "raise" in names and "abort" not in names
    return "SIGABRT raised by the process itself" if raised else "abort() was called", ""


def _told(sentence: str, message: str) -> str:
    """With the message, unless it says the same."""
    return f"{sentence}: {message}" if message and sentence not in message else sentence


def _thrown(names: Sequence[str], exception: str) -> tuple[str, str]:
    of = f": {exception}" if exception else ""
    if any(name in names for name in _UNWINDING):
        return (
            f"C++ exception left a noexcept function{of}",
            "It was thrown inside of a function that promised not to throw.",
        )
    return f"uncaught C++ exception{of}", "No function on the stack catches it."
