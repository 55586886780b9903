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


def children() -> None:
    """Each way to start a process; ``env={}``: what a child inherits, not what it is given."""
    status = ("sed", "-n", "/Sig[IC]/p", "/proc/self/status")
    print(subprocess.run(status, env={}, stdout=subprocess.PIPE, check=True).stdout.decode())
    for end in ("exit 0", "exit 3", "kill -TERM $$"):
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
        children,
    )
}[sys.argv[1]]()
