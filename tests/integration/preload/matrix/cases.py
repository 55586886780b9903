"""The crash corpus as data: what each way is, and why a cell is as it is where that needs a word.

Every way of `crasher` and `crasher++` is here or in `ELSEWHERE`; a test says so. The cells
themselves, as measured, are in ``tests/golden/matrix-ARCH.json``. What an emulator cannot run is
in `not_applicable`.
"""

from dataclasses import dataclass, field

ARCHITECTURES = ("x86_64", "aarch64")
LIBCS = ("glibc", "glibc-nopie", "musl")
NOT_HERE = 98
"""The crasher's exit status where a libc or processor has no such thing."""


@dataclass(frozen=True)
class Case:
    way: str
    title: str
    arguments: tuple[str, ...] = ()
    program: str = "crasher"
    libcs: tuple[str, ...] = LIBCS
    why: dict[str, str] = field(default_factory=dict)
    """Why a cell that needs a word is as it is; see `reason`."""

    differs: tuple[str, ...] = ()
    """What the library changes all the same: the kernel's core only, never the exit status."""

    def reason(self, arch: str, libc: str, init: bool) -> str:
        """By "init", libc, architecture, or "" for all."""
        names = ("init", libc, arch, "") if init else (libc, arch, "")
        return next((self.why[name] for name in names if name in self.why), "")


def cxx(way: str, title: str) -> Case:
    return Case(way, title, program="crasher++", libcs=("glibc",))


INIT_IGNORES = {
    "init": "the kernel drops a deadly signal that is sent to an init process from inside"
}
RECOVERED = {"": "no crash: the application recovers"}
HEALTHY = {"": "no crash"}
BLOCKED = {"": "the kernel asks nobody: the thread blocks the signal by a raw system call"}

FAULTS = (
    Case("null_read", "null pointer read"),
    Case("null_write", "null pointer write"),
    Case("call_null", "call of a null pointer"),
    Case("wild", "wild pointer"),
    Case("non_canonical", "non-canonical address"),
    Case("unmapped", "read after munmap"),
    Case("guarded", "read of a page without permissions"),
    Case("ro_write", "write to read-only data"),
    Case("exec_data", "execution of data"),
    Case("bus", "mapped file shorter than its mapping"),
    Case("misaligned", "vector instruction, misaligned"),
    Case(
        "alignment_check",
        "misaligned access with alignment checks on",
        why={"aarch64": "a program cannot turn them on"},
    ),
    Case("ill", "invalid instruction"),
    Case(
        "div0",
        "integer division by zero",
        why={"aarch64": "no crash: the processor does not trap it, the quotient is 0"},
    ),
    Case("int3", "breakpoint instruction"),
    Case("null_stack", "null stack pointer"),
    Case("corrupted_frames", "overwritten frame chain"),
)
SIGNALS = (
    Case("abort_call", "abort()"),
    Case("assert_false", "failed assert()"),
    Case("kill_self", "kill() of itself", why=INIT_IGNORES),
    Case("raise_segv", "raise(SIGSEGV)", why=INIT_IGNORES),
    Case("raise_abrt", "raise(SIGABRT)", why=INIT_IGNORES),
    Case("tgkill_self", "tgkill() with SIGBUS", why=INIT_IGNORES),
    Case("queue_self", "sigqueue() of itself", why=INIT_IGNORES),
    Case("killed_from_outside", "SIGSEGV from another process", why=INIT_IGNORES),
    Case("fault_while_blocked_raw", "fault, signal blocked past libc", why=BLOCKED),
    Case("raised_while_blocked", "raise() while blocked, never opened", why=HEALTHY),
)
CHECKS = (
    Case(
        "fortify",
        "glibc: buffer overflow detected",
        why={"musl": "musl has no fortified functions"},
    ),
    Case("stack_smash", "stack protector"),
    Case("double_free", "double free"),
    Case("invalid_free", "free() of no allocation"),
    cxx("uncaught_exception", "C++: uncaught exception"),
    cxx("noexcept_violation", "C++: exception leaves noexcept"),
    cxx("pure_virtual_call", "C++: pure virtual call"),
)
FILTERS = (
    Case("seccomp_trap", "seccomp filter traps a call"),
    Case("forbidding_filter", "filter refuses calls of ours"),
    Case("filtered_int3", "breakpoint behind a container runtime's filter"),
    Case("filtered_abort", "abort() behind a container runtime's filter"),
    Case(
        "filter_that_kills",
        "filter kills on a call of ours",
        why={"": "behind such a filter the library gives every signal back"},
    ),
    Case("filter_that_traps", "filter traps a call of ours", why=HEALTHY),
)
OVERFLOWS = (
    Case("overflow_main", "main thread"),
    Case("overflow_thread", "thread"),
    Case("overflow_small_thread", "thread, 64 KiB of stack"),
    Case("overflow_supplied_stack", "thread, stack of the application"),
    Case(
        "handler_without_a_stack",
        "fault without a stack, with a handler",
        why={"": "natively the kernel, without room for the handler's frame, forgets the address"},
        differs=(
            "kernel's core: SIGSEGV SI_KERNEL at 0x0, pc in handler_without_a_stack without the"
            " library, SIGSEGV SEGV_MAPERR at 0x10, pc in handler_without_a_stack with it",
        ),
    ),
    Case(
        "overflow_with_handler",
        "main thread, handler without an alternate stack",
        why={"": "natively the kernel, without room for the handler's frame, forgets the address"},
        differs=(
            "kernel's core: SIGSEGV SI_KERNEL at 0x0, pc in recurse without the library,"
            " SIGSEGV SEGV_MAPERR at memory, pc in recurse with it",
        ),
    ),
    Case("overflow_with_handler_on_stack", "main thread, handler on its own alternate stack"),
)
THREADS = (
    Case("thread_segv", "fault in a thread"),
    Case("with_threads", "fault beside 4 threads in system calls"),
    Case("with_threads", "fault beside 1,000 threads", ("1000",)),
    Case("with_spinning", "fault beside 4 threads that compute"),
    Case("with_masked", "fault beside threads that block all signals"),
    Case("with_closing", "fault while a thread closes all descriptors"),
    Case("with_loading", "fault while threads load and unload libraries"),
    Case("all_crash", "64 threads crash at once", ("64",)),
    Case("exit_during_hold", "another thread calls _exit() just after"),
    Case("crash_while_exiting", "another thread is in exit()"),
    Case("crash_in_cancel", "fault in a cancellation handler"),
    Case("threads_that_end", "5,000 threads that end", ("5000",), why=HEALTHY),
    Case("attributes_at_the_end", "thread attributes at the end of a page", why=HEALTHY),
)
HANDLERS = (
    Case("recovered", "siglongjmp out of 1,000 faults", why=RECOVERED),
    Case("recovered_on_stack", "the same, SA_ONSTACK", why=RECOVERED),
    Case("recovered_in_thread", "the same, in a thread", why=RECOVERED),
    Case("recovered_by_mapping", "1,000 faults, memory mapped in the handler", why=RECOVERED),
    Case("recovered_with_large_frame", "handler that needs 200 KiB of stack", why=RECOVERED),
    Case("recovered_then_abort", "abort() after a recovered fault"),
    Case("handled", "handler calls _exit()"),
    Case("handler_exits", "handler calls exit()"),
    Case("handler_exits_with_a_thread", "exit() in a handler needs a thread"),
    Case("handler_aborts", "handler calls abort()"),
    Case("handler_reraises", "handler raises again by default"),
    Case("handler_reraises_and_exits", "raises while blocked, then exits"),
    Case("handler_reraises_undeferred", "raises again, SA_NODEFER"),
    Case("handler_restores_default", "handler restores the default"),
    Case("handler_once", "SA_RESETHAND"),
    Case("handler_faults", "handler faults"),
    Case("handler_faults_undeferred", "handler faults, SA_NODEFER"),
    Case("handler_execs", "handler becomes another program"),
    Case("handler_forks", "handler starts a program"),
    Case("abort_handler_returns", "SIGABRT handler returns"),
    Case("abort_handler_jumps", "SIGABRT handler jumps", why=RECOVERED),
    Case("abort_blocked", "abort() while blocked"),
    Case("fault_in_signal", "fault in a handler of SIGUSR1"),
    Case("fault_in_signal_on_stack", "the same, on an alternate stack"),
    Case("fault_in_masked_handler", "the same, all signals blocked"),
    Case(
        "fault_in_masked_handler_with_handler",
        "the same, with a handler for the fault",
        why={"": "the kernel asks nobody: the handler's own mask is the kernel's"},
    ),
    Case(
        "fault_while_ignored",
        "fault while SIGSEGV is ignored",
        why={"": "what is ignored is left to the kernel, which kills"},
    ),
    Case("blocked_fault", "fault while blocked"),
    Case("blocked_fault_with_handler", "fault while blocked, with a handler"),
    Case("blocked_raise", "raise() while blocked, then opened", why=INIT_IGNORES),
    Case("blocked_raise_is_waited_for", "sigwait()", why=HEALTHY),
    Case("blocked_raise_is_suspended_for", "sigsuspend()", why=HEALTHY),
    Case("mask_is_read_back", "masks read back", why=HEALTHY),
    Case("action_is_read_back", "actions read back", why=HEALTHY),
    Case("tell_mask", "the mask at start", why=HEALTHY),
    Case("mask_survives_exec", "the mask after exec", why=HEALTHY),
    Case("mask_survives_spawn", "the mask after posix_spawn", why=HEALTHY),
    Case("ignored", "SIGABRT ignored and raised", why=HEALTHY),
    Case("fault_leaving_on_int", "fault, with a handler of SIGINT"),
    Case("abort_leaving_on_int", "abort(), with a handler of SIGINT"),
)
EXITS = (
    Case("exit_normal", "exit(0)", why=HEALTHY),
    Case("crash_in_constructor", "fault in a constructor"),
    Case("crash_in_atexit", "fault in an atexit function"),
    Case("crash_in_destructor", "fault in a destructor"),
    Case("crash_in_tls_destructor", "fault in a thread-specific destructor"),
)
CHILDREN = (
    Case("forked_child", "forked child"),
    Case("forked_by_thread", "child forked by a thread"),
    Case("vforked_child", "vfork child, then its parent"),
    Case("vforked_child_changes_all", "vfork child that changes masks and actions"),
    Case("spawned_child", "child of posix_spawn"),
    Case("after_exec", "after exec"),
)
NO_DESCRIPTOR = "no descriptor to write with"
NO_DIRECTORY = "nowhere to write"
PLACES = (
    Case("not_dumpable", "PR_SET_DUMPABLE 0"),
    Case("no_new_privileges", "no_new_privs"),
    Case("dropped_privileges", "setuid() to a user without privileges"),
    Case("user_namespace", "new user namespace"),
    Case("closed_descriptors", "all descriptors closed"),
    Case("all_descriptors_taken", "RLIMIT_NOFILE reached, hard", why={"": NO_DESCRIPTOR}),
    Case("no_descriptors", "RLIMIT_NOFILE 0, hard", why={"": NO_DESCRIPTOR}),
    Case("no_file_size", "RLIMIT_FSIZE 0, soft"),
    Case("no_file_size_ever", "RLIMIT_FSIZE 0, hard", why={"": NO_DIRECTORY}),
    Case("no_address_space", "RLIMIT_AS 0"),
    Case("no_signal_queue", "RLIMIT_SIGPENDING 0"),
    Case("empty_root", "chroot to an empty directory", why={"": NO_DIRECTORY}),
    Case("read_only_root", "read-only root", why={"": NO_DIRECTORY}),
    Case("read_only_handover", "read-only hand-over directory", why={"": NO_DIRECTORY}),
    Case("missing_handover", "hand-over directory removed"),
    Case("replaced_handover", "hand-over directory is a symlink", why={"": "never followed"}),
    Case("full_handover", "hand-over directory full", why={"": NO_DIRECTORY}),
)
SUBJECTS = {
    "Faults": FAULTS,
    "Signals": SIGNALS,
    "Checks of libc, compiler and C++": CHECKS,
    "Seccomp filters": FILTERS,
    "Stack overflow": OVERFLOWS,
    "Threads": THREADS,
    "Handlers and masks of the application": HANDLERS,
    "Start and end": EXITS,
    "Children": CHILDREN,
    "Bad places": PLACES,
}
CASES = [case for cases in SUBJECTS.values() for case in cases]
ELSEWHERE = {"hog": "tests/integration/preload/test_pressure.py steps it around a cgroup's limit"}


def key(case: Case) -> str:
    return " ".join((case.way, *case.arguments))


def column(libc: str, init: bool) -> str:
    return f"{libc} as pid 1" if init else libc
