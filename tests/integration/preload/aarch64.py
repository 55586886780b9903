"""aarch64 by qemu-user: how a crasher runs there, and what cannot be tried without such a machine.

:data:`NOT_APPLICABLE` is data for the coverage table; each reason is demonstrated by a test of
`test_aarch64`, which fails when it no longer holds.
"""

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from tests.integration.preload.conftest import AS_INIT, NO_CORE, ROOT, Stage, crasher_of

LIBRARY = ROOT / "build/preload/aarch64/libstillframe.so"
COPIER = ROOT / "build/preload/aarch64/stillframe-copy"
SYSROOTS: Mapping[str, Path] = {
    "aarch64-glibc": Path("/usr/aarch64-linux-gnu"),
    "aarch64-glibc-nopie": Path("/usr/aarch64-linux-gnu"),
    "aarch64-musl": ROOT / "build/arm64-musl",
}
LIBCS = tuple(SYSROOTS)

ONE_REPORT = (
    "null_read",
    "null_write",
    "wild",
    "non_canonical",
    "call_null",
    "exec_data",
    "ro_write",
    "bus",
    "ill",
    "div0",
    "int3",
    "abort_call",
    "assert_false",
    "seccomp_trap",
    "overflow_main",
    "overflow_thread",
    "overflow_small_thread",
    "overflow_supplied_stack",
    "thread_segv",
    "with_threads",
    "with_spinning",
    "with_masked",
    "with_closing",
    "all_crash",
    "exit_during_hold",
    "filtered_int3",
    "filtered_abort",
    "forked_child",
    "handled",
)
SELF_SENT = (
    "kill_self",
    "raise_segv",
    "raise_abrt",
)
"""Crashes, but for an init process: the kernel ignores them there."""
NO_REPORT = (
    "ignored",
    "exit_normal",
    "threads_that_end",
)

QUEUEABLE = (
    "abort_call",
    "assert_false",
    "ill",
    "int3",
    "kill_self",
    "raise_abrt",
    "raise_segv",
)
"""Ways whose death qemu lets a process queue to itself; see ``refuse_queueing``."""

_NO_FILTER = "qemu-user answers EINVAL to PR_SET_SECCOMP: no filter is installed"
NOT_APPLICABLE: Mapping[str, str] = {
    "div0": "aarch64 does not trap a division by zero: the quotient is 0",
    "seccomp_trap": _NO_FILTER,
    "filtered_int3": _NO_FILTER,
    "filtered_abort": _NO_FILTER,
    "as init": "qemu-user as pid 1 never dies of a signal: it sends itself one, which init ignores",
    "queued fault": "qemu-user takes a queued SIGSEGV or SIGBUS for a fault of its own: exit 127",
    "kernel core": "the kernel's core is the emulator's, of the host's machine",
    "ptrace": "a debugger that attaches sees the emulator",
}
"""What cannot be run by qemu-user, a crasher's way or a kind of test, and why."""


@dataclass(frozen=True)
class EmulatedStage(Stage):
    """A :class:`Stage` whose ``libc`` is one of :data:`LIBCS`."""

    library: Path = LIBRARY
    cpu: str = "max"

    def command(self, libc: str, way: str, *arguments: str, library: bool, init: bool) -> list[str]:
        refuse = Path(__file__).with_name("refuse_queueing.py")
        return [
            *NO_CORE,
            *(AS_INIT if init else ()),
            *([sys.executable, str(refuse)] if library and way not in QUEUEABLE else []),
            *self.emulator(libc, library),
            *(str(crasher_of(libc)), way, *arguments),
        ]

    def emulator(self, libc: str, library: bool) -> list[str]:
        """The command that runs a program of ``libc``."""
        preload = ["-E", f"LD_PRELOAD={self.library}"] if library else []
        return ["qemu-aarch64", "-cpu", self.cpu, "-L", str(SYSROOTS[libc]), *preload]
