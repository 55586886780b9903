"""CPython's ways to die and to live: ``python crash.py WAY``."""

import ctypes
import faulthandler
import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time

SIGNALS = "sed -n /Sig[BI]/p /proc/self/status >&2; exit 4"
"""What a child blocks and ignores."""


def string_at() -> None:
    ctypes.string_at(0)


def in_thread() -> None:
    thread = threading.Thread(target=string_at)
    thread.start()
    thread.join()


def abort() -> None:
    os.abort()


def enabled_abort() -> None:
    faulthandler.enable()
    os.abort()


def disabled_again() -> None:
    """What faulthandler saved when it was enabled is put back."""
    faulthandler.enable()
    faulthandler.disable()
    string_at()


def kill() -> None:
    os.kill(os.getpid(), signal.SIGSEGV)


def handled() -> None:
    """The function runs between two bytecodes, long after the signal's own handler."""
    signal.signal(signal.SIGABRT, lambda number, frame: sys.exit(3))
    os.kill(os.getpid(), signal.SIGABRT)
    time.sleep(10)


def default_again() -> None:
    assert signal.getsignal(signal.SIGABRT) is signal.SIG_DFL
    signal.signal(signal.SIGABRT, signal.SIG_IGN)
    os.kill(os.getpid(), signal.SIGABRT)
    print("ignored", flush=True)
    signal.signal(signal.SIGABRT, signal.SIG_DFL)
    os.kill(os.getpid(), signal.SIGABRT)


def watchdog() -> None:
    """faulthandler's own thread calls ``_exit(1)``: no crash."""
    faulthandler.dump_traceback_later(0.05, exit=True)
    time.sleep(10)


def recursion() -> None:
    def recurse() -> None:
        recurse()

    try:
        recurse()
    except RecursionError:
        print("caught")


def old_masks() -> None:
    """BSD's functions, of the first 32 signals."""
    libc = ctypes.CDLL(None)
    libc.sigblock(1 << signal.SIGSEGV - 1)
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGABRT})
    print(signal.pthread_sigmask(signal.SIG_BLOCK, ()), libc.sigsetmask(0))
    print(signal.pthread_sigmask(signal.SIG_BLOCK, ()))


def children() -> None:
    """Each way to start a process; ``env={}``: without us, what is caught is the same, too."""
    status = ("sed", "-n", "/Sig[BIC]/p", "/proc/self/status")
    subprocess.run(status, env={}, stdout=sys.stderr, check=True)
    for end in ("exit 0", "exit 3", "kill -TERM $$", SIGNALS):
        print(subprocess.run(("sh", "-c", end), check=False).returncode)
        print(subprocess.run(("sh", "-c", end), check=False, preexec_fn=int).returncode)
        print(subprocess.run(("sh", "-c", end), check=False, start_new_session=True).returncode)
        print(os.waitstatus_to_exitcode(os.system(end)))
        child = os.posix_spawn("/bin/sh", ("sh", "-c", end), {})
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
    with multiprocessing.get_context("fork").Pool(2) as pool:
        print(pool.map(abs, range(-100, 0)))


{
    f.__name__: f
    for f in (
        string_at,
        in_thread,
        abort,
        enabled_abort,
        disabled_again,
        kill,
        handled,
        default_again,
        watchdog,
        recursion,
        old_masks,
        children,
    )
}[sys.argv[1]]()
