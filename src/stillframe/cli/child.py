"""The program: started, sent what we are sent, and died after.

The program stays in our process group: in a pipeline the terminal's foreground
group is the whole pipeline, so a group of its own would put ``| less`` into
the background.  The terminal then signals both of us; what is sent to us alone
(``kill PID``) is passed on.  ``sigwaitinfo`` tells the two apart.
"""

import ctypes
import errno
import os
import signal
from collections.abc import Mapping, Sequence
from typing import Final, NoReturn

from stillframe.errors import StillframeError

EXIT_NOT_EXECUTABLE: Final = 126
EXIT_NOT_FOUND: Final = 127
"""As a shell would say."""
SI_KERNEL: Final = 0x80
"""``si_code`` of what the terminal sends (include/uapi/asm-generic/siginfo.h)."""
PR_SET_DUMPABLE: Final = 4
_NEVER_FORWARDED: Final = frozenset(
    {
        # Cannot be caught.
        signal.SIGKILL,
        signal.SIGSTOP,
        # Ours: the child's state, and our own faults, limits and timers.
        signal.SIGCHLD,
        signal.SIGSEGV,
        signal.SIGBUS,
        signal.SIGILL,
        signal.SIGFPE,
        signal.SIGTRAP,
        signal.SIGSYS,
        signal.SIGABRT,
        signal.SIGPIPE,
        signal.SIGXCPU,
        signal.SIGXFSZ,
        signal.SIGVTALRM,
        signal.SIGPROF,
        # Job control stops and continues the group; default actions are right.
        signal.SIGTSTP,
        signal.SIGTTIN,
        signal.SIGTTOU,
        signal.SIGCONT,
    }
)
SignalMask = set[signal.Signals | int]
FORWARDED: Final = frozenset(signal.valid_signals()) - _NEVER_FORWARDED


class StartError(StillframeError):
    """The program could not be started; ``status`` is what a shell would exit with."""

    def __init__(self, message: str, status: int, remedy: str = "") -> None:
        super().__init__(message, remedy)
        self.status = status


def hold_signals() -> SignalMask:
    """Block what is to be forwarded, for `Child.wait` to take; the mask before.

    Called before any thread starts: a thread that does not block a signal gets it.
    """
    return signal.pthread_sigmask(signal.SIG_BLOCK, FORWARDED | {signal.SIGCHLD})


class Child:
    """A running program."""

    def __init__(
        self, command: Sequence[str], environment: Mapping[str, str], mask: SignalMask
    ) -> None:
        """Start ``command`` with the signal mask that `hold_signals` returned."""
        self.pid = _spawn(command, environment, mask)

    def wait(self) -> int:
        """Forward signals until the program has ended; its wait status."""
        while True:
            pid, status = os.waitpid(self.pid, os.WNOHANG | os.WUNTRACED)
            if pid and not os.WIFSTOPPED(status):
                return status
            if pid:
                self._stop_too()
            self._forward(signal.sigwaitinfo(FORWARDED | {signal.SIGCHLD}))

    def _stop_too(self) -> None:
        """Stop with the program, so that the shell sees it, and go on with it."""
        os.kill(os.getpid(), signal.SIGSTOP)
        os.kill(self.pid, signal.SIGCONT)

    def _forward(self, received: signal.struct_siginfo) -> None:
        if received.si_signo != signal.SIGCHLD and received.si_code != SI_KERNEL:
            # Not reaped yet, so the pid is still the program's.
            os.kill(self.pid, received.si_signo)


def die_like(status: int) -> NoReturn:
    """End this process the way ``status`` says the program ended, without a core of ours."""
    if os.WIFSIGNALED(status):
        number = os.WTERMSIG(status)
        # RLIMIT_CORE would not do: a core_pattern that is a pipe ignores 0.
        ctypes.CDLL(None).prctl(PR_SET_DUMPABLE, 0, 0, 0, 0)
        if number not in (signal.SIGKILL, signal.SIGSTOP):
            signal.signal(number, signal.SIG_DFL)
            signal.pthread_sigmask(signal.SIG_UNBLOCK, {number})
        os.kill(os.getpid(), number)
        # Still here as PID 1, whom the kernel spares: say it as a shell would.
        os._exit(128 + number)
    os._exit(os.waitstatus_to_exitcode(status))


def _spawn(command: Sequence[str], environment: Mapping[str, str], mask: SignalMask) -> int:
    try:
        return _exec(command, environment, mask)
    except OSError as error:
        if error.errno == errno.ENOEXEC:
            # A script without "#!": execvp(3) and every shell hand it to sh.
            return _exec(["/bin/sh", *command], environment, mask)
        if error.errno in (errno.ENOENT, errno.ENOTDIR):
            raise StartError(
                f"{command[0]}: not found",
                EXIT_NOT_FOUND,
                "Name a program in PATH, or a path with a slash: stillframe run -- ./app",
            ) from error
        raise StartError(
            f"{command[0]}: cannot be executed: {error.strerror}", EXIT_NOT_EXECUTABLE
        ) from error


def _exec(command: Sequence[str], environment: Mapping[str, str], mask: SignalMask) -> int:
    return os.posix_spawnp(
        command[0],
        list(command),
        environment,
        setsigmask=mask,
        # Python ignores these two; exec would hand that on.
        setsigdef=(signal.SIGPIPE, signal.SIGXFSZ),
    )
