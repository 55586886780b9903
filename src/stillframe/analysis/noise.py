"""Which frames say nothing about the bug: how a process dies, copies and starts.

Used to choose the top frame and for the fingerprint; the stack itself always
shows every frame.
"""

import re
from collections.abc import Sequence
from itertools import dropwhile

from stillframe.names import LIBRARY_FILE

from . import golang, jvm
from .escape import base_name
from .model import JAVA_MODULE, Frame

_DYING = re.compile(
    r"(__GI_|__pthread_|__|_)*(raise|gsignal|abort|kill|tgkill|tkill|pthread_kill\w*|sigqueue"
    r"|kill_implementation|kill_internal|raise_internal|abort_msg|libc_message\w*|libc_fatal"
    r"|assert_fail\w*|assert|assert_perror_fail|assert_rtn|fortify_fail|chk_fail|stack_chk_fail\w*"
    r"|malloc_printerr|malloc_assert|restore_rt|kernel_rt_sigreturn|syscall|syscall_cp\w*"
    r"|verbose_terminate_handler|terminate|ZSt9terminatev|cxa_throw|cxa_rethrow|cxa_pure_virtual"
    r"|cxa_call_terminate|gxx_personality_v0|Unwind_RaiseException|Unwind_Resume"
    r"|rust_start_panic|rust_panic\w*|panic_abort|panic_fmt|unreachable_fail)"
)
_RUNTIMES = (
    "__rustc::",
    "core::option::",
    "core::panicking::",
    "core::result::",
    "std::panicking::",
    "std::process::",
    "std::sys::",
    "std::terminate",
    "__gnu_cxx::__verbose_terminate_handler",
    "__cxxabiv1::",
)
"""Beginnings of names of Rust's and of C++'s runtimes, which may be linked statically."""
_RUST_SOURCE = re.compile(r"(/rustc/[0-9a-f]+/)?library/(alloc|core|panic_abort|std)/src/.*")
"""Files of Rust's standard library, as its own builds name them."""
_COPYING = re.compile(
    r"_*(GI_)?((raw)?mem(cpy|move|set|cmp|chr|rchr|mem|pcpy|ccpy|cmpeq)|wmem\w+"
    r"|str(n?(cpy|cat|cmp|len|dup|casecmp)|r?chr|chrnul|str|casestr|spn|cspn|pbrk|p?n?cpy)"
    r"|stpn?cpy|wcs\w+|bcopy|bzero|bcmp)(_\w+)?"
)
_ALLOCATING = re.compile(
    r"(__GI_|__libc_|__)?(malloc|free|cfree|calloc|realloc|reallocarray|memalign|aligned_alloc"
    r"|posix_memalign|valloc|pvalloc|free_default|free_sized)"
)
_STARTING = re.compile(
    r"_*(start|libc_start_\w+|libc_start_main|start_thread|pthread_start|clone3?|thread_start)"
)


def is_noise(frame: Frame) -> bool:
    """Whether a frame above the real one says nothing about the bug."""
    name = frame.function
    if golang.is_dying(name):
        return True
    if name.startswith(_RUNTIMES) or _RUST_SOURCE.fullmatch(frame.file):
        return True
    runtime = _is_cxx_runtime(frame) or is_allocator(frame)
    return runtime or any(p.fullmatch(name) for p in (_DYING, _COPYING))


def is_allocator(frame: Frame) -> bool:
    """Whether a frame is libc's malloc, free or one of their kin."""
    return in_libc(frame) and _ALLOCATING.fullmatch(frame.function) is not None


def in_libc(frame: Frame) -> bool:
    """Whether a frame is in the C library."""
    return base_name(frame.module) in _LIBC


def is_start(frame: Frame) -> bool:
    """Whether a frame only starts a process or a thread."""
    if golang.is_starting(frame.function):
        return True
    return _STARTING.fullmatch(frame.function) is not None


def is_vm_plumbing(frame: Frame) -> bool:
    """Whether a frame is a JVM's own, where Java frames tell who called it."""
    if frame.module == JAVA_MODULE:
        return jvm.is_plumbing(frame.function)
    unnamed_or_door = not frame.function or frame.function.startswith("Unsafe_")
    return unnamed_or_door and base_name(frame.module) == jvm.LIBRARY


def significant(frames: Sequence[Frame]) -> list[Frame]:
    """The frames that tell the bug: leading noise and start-up frames are left out.

    So is what calls ``main`` (musl's ``_start`` often has no name), or the outermost
    Java frame.  Our own library, unnamed frames of libc and of the C++ runtime
    (stripped, they name only what they export), addresses in no module (a jump to
    nowhere, generated code) and, among Java frames, the JVM's own are left out
    everywhere.  If nothing is left all frames are returned: something must tell.
    """
    named = [frame for frame in _of_java(frames) if frame.module and not _is_internal(frame)]
    mains = [index for index, frame in enumerate(named) if frame.function == "main"]
    told = [*dropwhile(is_noise, named[: mains[-1] + 1] if mains else named)]
    return [frame for frame in told if not is_start(frame)] or list(frames)


def calls_through_us(frames: Sequence[Frame]) -> bool:
    """Whether the application called what crashed through a function of our library.

    Below every thread's start routine is one of ours, which only libc has called; and what a
    scan of the stack found may be left from an earlier call.
    """
    modules = [base_name(frame.module) for frame in frames]
    return any(
        module == LIBRARY_FILE
        and frame.trust != "scan"
        and any(older and older not in _LIBC for older in modules[index + 1 :])
        for index, (module, frame) in enumerate(zip(modules, frames, strict=True))
    )


def _of_java(frames: Sequence[Frame]) -> Sequence[Frame]:
    """Without what a JVM has added, where the frames of a Java program are known."""
    told = [frame.module == JAVA_MODULE and not is_vm_plumbing(frame) for frame in frames]
    if True not in told:
        return frames
    outermost = len(told) - 1 - told[::-1].index(True)
    return [frame for frame in frames[: outermost + 1] if not is_vm_plumbing(frame)]


def _is_internal(frame: Frame) -> bool:
    module = base_name(frame.module)
    if module == LIBRARY_FILE:
        return True
    return not frame.function and (module in _LIBC or _is_cxx_runtime(frame))


def _is_cxx_runtime(frame: Frame) -> bool:
    return base_name(frame.module).partition(".so")[0] in _CXX_RUNTIMES


_LIBC = frozenset({"libc.so.6", "ld-musl-x86_64.so.1", "ld-musl-aarch64.so.1", "libc.so"})
_CXX_RUNTIMES = frozenset({"libstdc++", "libgcc_s", "libc++", "libc++abi", "libunwind"})
