"""What qemu-user, which runs the aarch64 half of the matrix, cannot run or show, and why.

Each reason is measured by a test of `test_aarch64`, which fails when it no longer holds.
"""

from collections.abc import Mapping

NO_FILTER = "qemu-user passes no seccomp filter on to the kernel"
NO_EXEC = "an emulated program cannot execute another: the kernel knows the host's only"
NO_VFORK = "qemu-user makes a vfork a fork"
NO_PENDING = "qemu-user does not tell a program which of its blocked signals wait"
NO_NAMESPACE = "qemu-user has a thread besides, so the kernel refuses a user namespace: EINVAL"
NO_ADDRESS_LIMIT = "qemu-user does not pass on RLIMIT_AS, which would be its own"
NO_MAPPINGS = "what is mapped is the emulator's, and it keeps some for each thread that ended"
WAYS: Mapping[str, str] = {
    "seccomp_trap": NO_FILTER,
    "forbidding_filter": NO_FILTER,
    "filtered_int3": NO_FILTER,
    "filtered_abort": NO_FILTER,
    "filter_that_kills": NO_FILTER,
    "filter_that_traps": NO_FILTER,
    "crash_in_constructor": NO_EXEC,
    "mask_survives_exec": NO_EXEC,
    "mask_survives_spawn": NO_EXEC,
    "spawned_child": NO_EXEC,
    "after_exec": NO_EXEC,
    "vforked_child": NO_VFORK,
    "vforked_child_changes_all": NO_VFORK,
    "blocked_raise": NO_PENDING,
    "user_namespace": NO_NAMESPACE,
    "no_address_space": NO_ADDRESS_LIMIT,
    "threads_that_end": NO_MAPPINGS,
}
"""Ways of the crasher that would be something else there."""

AS_INIT = "qemu-user as pid 1 never dies of a signal: it sends itself one, which init ignores"
"""Of every cell as pid 1 that dies of a signal when it is not."""
KERNEL_CORE = "the kernel's core file is the emulator's, of the host's machine"
PTRACE = "a debugger that attaches sees the emulator"
QUEUED_FAULT = "qemu-user takes one that is queued for a fault of its own, and dies of an assertion"
"""A SIGSEGV or SIGBUS; so the library runs where the kernel queues none."""

OF_CELLS = frozenset({*WAYS.values(), AS_INIT})
REASONS = OF_CELLS | {KERNEL_CORE, PTRACE, QUEUED_FAULT}
