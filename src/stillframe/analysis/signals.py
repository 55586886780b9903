"""Names of signals and of their codes, and which fields of siginfo mean something.

Linux ``include/uapi/asm-generic/siginfo.h``, sigaction(2).
"""

import signal
from typing import Final

SI_USER: Final = 0
SI_KERNEL: Final = 0x80
SI_QUEUE: Final = -1
SI_TIMER: Final = -2
SI_TKILL: Final = -6
SEGV_MAPERR, SEGV_ACCERR, SEGV_PKUERR = 1, 2, 4
BUS_ADRALN, BUS_ADRERR = 1, 2
SYS_SECCOMP: Final = 1

_COMMON = {
    **{SI_USER: "SI_USER", SI_KERNEL: "SI_KERNEL", SI_QUEUE: "SI_QUEUE", SI_TKILL: "SI_TKILL"},
    **{SI_TIMER: "SI_TIMER", -3: "SI_MESGQ", -4: "SI_ASYNCIO", -5: "SI_SIGIO"},
}
_CODES: dict[int, tuple[str, ...]] = {
    signal.SIGSEGV: (
        *("SEGV_MAPERR", "SEGV_ACCERR", "SEGV_BNDERR", "SEGV_PKUERR", "SEGV_ACCADI"),
        *("SEGV_ADIDERR", "SEGV_ADIPERR", "SEGV_MTEAERR", "SEGV_MTESERR", "SEGV_CPERR"),
    ),
    signal.SIGBUS: ("BUS_ADRALN", "BUS_ADRERR", "BUS_OBJERR", "BUS_MCEERR_AR", "BUS_MCEERR_AO"),
    signal.SIGILL: (
        *("ILL_ILLOPC", "ILL_ILLOPN", "ILL_ILLADR", "ILL_ILLTRP"),
        *("ILL_PRVOPC", "ILL_PRVREG", "ILL_COPROC", "ILL_BADSTK"),
    ),
    signal.SIGFPE: (
        *("FPE_INTDIV", "FPE_INTOVF", "FPE_FLTDIV", "FPE_FLTOVF"),
        *("FPE_FLTUND", "FPE_FLTRES", "FPE_FLTINV", "FPE_FLTSUB"),
    ),
    signal.SIGTRAP: ("TRAP_BRKPT", "TRAP_TRACE", "TRAP_BRANCH", "TRAP_HWBKPT", "TRAP_UNK"),
    signal.SIGSYS: ("SYS_SECCOMP", "SYS_USER_DISPATCH"),
}
_WITH_ADDRESS = frozenset({signal.SIGSEGV, signal.SIGBUS, signal.SIGILL, signal.SIGFPE})


def signal_name(number: int) -> str:
    """The name of a signal.

    >>> signal_name(11), signal_name(0), signal_name(35)
    ('SIGSEGV', '', 'signal 35')
    """
    if number == 0:
        return ""
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def code_name(number: int, code: int) -> str:
    """The name of an ``si_code``.

    >>> code_name(11, 2), code_name(11, 0), code_name(11, 99)
    ('SEGV_ACCERR', 'SI_USER', '99')
    """
    names = _CODES.get(number, ())
    if 1 <= code <= len(names):
        return names[code - 1]
    return _COMMON.get(code, str(code))


def has_address(number: int, code: int) -> bool:
    """Whether ``si_addr`` was set: only for faults the kernel found."""
    return number in _WITH_ADDRESS and 0 < code < SI_KERNEL


def has_sender(code: int) -> bool:
    """Whether a process sent the signal: ``si_pid`` and ``si_uid`` are set."""
    return code in (SI_USER, SI_QUEUE, SI_TKILL)
