"""Self-test: whether this node lets us do what a capture needs.

Runs once at the start, on a child of our own.  What it finds does not stop the
agent: it becomes a condition of ``/readyz`` with the remedy.
"""

import ctypes
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Final

CAPABILITY_MISSING: Final = "CapabilityMissing"
_PTRACE_DETACH: Final = 17
_PTRACE_SEIZE: Final = 0x4206
_PTRACE_INTERRUPT: Final = 0x4207
_WALL: Final = 0x40000000
_CAPABILITIES: Final = {"SYS_PTRACE": 19, "DAC_READ_SEARCH": 2}
_libc: Final = ctypes.CDLL(None, use_errno=True)
_libc.ptrace.argtypes = (ctypes.c_long, ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p)
_libc.ptrace.restype = ctypes.c_long


def run() -> dict[str, str]:
    """What is missing on this node: CamelCase reason → what to do about it."""
    return missing_capabilities(Path("/proc/self/status").read_text()) | _ptrace()


def missing_capabilities(status: str) -> dict[str, str]:
    r"""The capabilities that ``/proc/self/status`` lacks.

    >>> missing_capabilities("CapEff:\\t0000000000080004\\n")
    {}
    """
    effective = next(
        int(line.split()[1], 16) for line in status.splitlines() if line.startswith("CapEff:")
    )
    missing = [name for name, bit in _CAPABILITIES.items() if not effective >> bit & 1]
    if not missing:
        return {}
    return {
        CAPABILITY_MISSING: f"add {', '.join(missing)} to the container's capabilities; "
        "without them no crash can be attributed"
    }


def _ptrace() -> dict[str, str]:
    """Seize, stop and let go of a child."""
    child = subprocess.Popen([sys.executable, "-ISc", "import signal; signal.pause()"])
    try:
        for request in (_PTRACE_SEIZE, _PTRACE_INTERRUPT):
            if _libc.ptrace(request, child.pid, None, None) < 0:
                return _denied(os.strerror(ctypes.get_errno()))
        os.waitpid(child.pid, _WALL)
        _libc.ptrace(_PTRACE_DETACH, child.pid, None, None)
        return {}
    finally:
        child.send_signal(signal.SIGKILL)
        child.wait()


def _denied(why: str) -> dict[str, str]:
    return {
        "PtraceDenied": f"this node forbids ptrace ({why}); AppArmor: set "
        "appArmorProfile.type=Unconfined, SELinux: type spc_t, for the agent"
    }
