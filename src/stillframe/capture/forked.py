"""A child without a program of its own: forked, and gone when its parent is."""

import ctypes
import os
import signal
from collections.abc import Callable
from typing import Final

PR_SET_PDEATHSIG: Final = 1


def forked(work: Callable[[], object]) -> int:
    """The pid of a child that does ``work`` and nothing else; it dies with the thread that calls.

    For processes of one thread, with nothing locked.  What ``work`` raises ends
    the child with status 1.
    """
    parent = os.getpid()
    child = os.fork()
    if child != 0:
        return child
    status = 1
    try:
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        if os.getppid() == parent:  # else it had died before
            work()
            status = 0
    finally:
        os._exit(status)
