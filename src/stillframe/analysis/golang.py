"""Go: which functions of its runtime say nothing about the bug.

Names are those of ``go/src/runtime`` (Go 1.18 to 1.26); the symbols have no other form.
"""

import re
from typing import Final

SIGPANIC: Final = "runtime.sigpanic"
"""The runtime's signal handler returns to it as if the faulting instruction had called it
(``preparePanic``): the pc of the frame behind is of that instruction, and not behind a call."""
_DYING: Final = re.compile(
    r"runtime\.(raise\w*|dieFromSignal|crash|fatal\w*|throw\w*|(go)?panic\w*|goPanic\w*|sig\w+"
    r"|badsignal\w*|systemstack\w*)(\.\w+)*"
)
_STARTING: Final = re.compile(
    r"runtime\.(main|goexit\w*|mstart\w*|rt0_go|mcall|systemstack\w*|asmcgocall\w*)(\.\w+)*"
    r"|_cgo_[0-9a-f]+_Cfunc_\w+"
)
"""The wrapper that cgo makes for a C function has a hash of the package's text in its name."""


def is_dying(function: str) -> bool:
    """Whether a function is on the way from a panic or a signal to the end of the process.

    >>> is_dying("runtime.goPanicIndex"), is_dying("runtime.mapaccess1"), is_dying("main.panics")
    (True, False, False)
    """
    return _DYING.fullmatch(function) is not None


def is_starting(function: str) -> bool:
    """Whether a function only starts a goroutine, the process, or a call of C.

    >>> is_starting("runtime.goexit.abi0"), is_starting("_cgo_8c074231fb21_Cfunc_run")
    (True, True)
    """
    return _STARTING.fullmatch(function) is not None
