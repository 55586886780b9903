"""Which frames say nothing about the bug: how a process dies, copies and starts.

Used to choose the top frame and for the fingerprint; the stack itself always
shows every frame.
"""

import re
from collections.abc import Sequence
from itertools import dropwhile

from stillframe.names import LIBRARY_FILE

from . import golang
from .escape import base_name
from .model import Frame

_DYING = re.compile(
    r"(__GI_|__pthread_|__|_)*(raise|gsignal|abort|kill|tgkill|tkill|pthread_kill\w*|sigqueue"
    r"|kill_implementation|kill_internal|raise_internal|abort_msg|libc_message\w*|libc_fatal"
    r"|assert_fail\w*|assert|assert_perror_fail|assert_rtn|fortify_fail|chk_fail|stack_chk_fail\w*"
    r"|malloc_printerr|malloc_assert|restore_rt|kernel_rt_sigreturn|syscall|syscall_cp\w*"
    r"|verbose_terminate_handler|terminate|cxa_throw|cxa_rethrow|Unwind_RaiseException|Unwind_Resume"
    r"|rust_start_panic|rust_panic\w*|panic_abort|panic_fmt|unreachable_fail)"
)
_COPYING = re.compile(
    r"_*(GI_)?((raw)?mem(cpy|move|set|cmp|chr|rchr|mem|pcpy|ccpy|cmpeq)|wmem\w+"
    r"|str(n?(cpy|cat|cmp|len|dup|casecmp)|r?chr|chrnul|str|casestr|spn|cspn|pbrk|p?n?cpy)"
    r"|stpn?cpy|wcs\w+|bcopy|bzero|bcmp)(_\w+)?"
)
_STARTING = re.compile(
    r"_*(start|libc_start_\w+|libc_start_main|start_thread|pthread_start|clone3?|thread_start)"
)


def is_noise(frame: Frame) -> bool:
    """Whether a frame above the real one says nothing about the bug."""
    name = frame.function
    if golang.is_dying(name):
        return True
    rust = name.startswith(("core::panicking::", "std::panicking::", "std::terminate"))
    return rust or any(p.fullmatch(name) for p in (_DYING, _COPYING))


def is_start(frame: Frame) -> bool:
    """Whether a frame only starts a process or a thread."""
    if golang.is_starting(frame.function):
        return True
    return _STARTING.fullmatch(frame.function) is not None


def significant(frames: Sequence[Frame]) -> list[Frame]:
    """The frames that tell the bug: leading noise and start-up frames are left out.

    So is what calls ``main`` (musl's ``_start`` often has no name).  Our own
    library, unnamed frames of libc (stripped, it names only what it
    exports) and addresses in no module (a jump to nowhere, generated code) are
    left out everywhere.  If nothing is left all frames are returned: something
    must tell.
    """
    named = [frame for frame in frames if frame.module and not _is_internal(frame)]
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


def _is_internal(frame: Frame) -> bool:
    module = base_name(frame.module)
    return module == LIBRARY_FILE or (module in _LIBC and not frame.function)


_LIBC = frozenset({"libc.so.6", "ld-musl-x86_64.so.1", "ld-musl-aarch64.so.1", "libc.so"})
