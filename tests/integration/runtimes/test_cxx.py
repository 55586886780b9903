"""C++ and the C library's own reasons to die.

- exceptions, cancellation and `pthread_exit` unwind through nothing of ours
- an exception thrown by a signal handler is caught where the fault was
- what `terminate`, fortify, the stack protector, malloc and assert say comes as without us, and
  the report shows the function that did it
"""

from signal import SIGABRT, SIGSEGV

import pytest

from tests.integration.runtimes.conftest import PROGRAMS, Case, Stage, crash, no_crash

CXX = PROGRAMS / "cxx"
LIBC = PROGRAMS / "libc"

CASES = (
    no_crash("caught", CXX, "caught"),
    no_crash("cancel", CXX, "cancel"),
    no_crash("thread_exit", CXX, "thread_exit"),
    no_crash("own_terminate", CXX, "own_terminate", status=3),
    no_crash("thrown_by_handler", CXX, "thrown_by_handler"),
    no_crash("thrown_by_handler_in_thread", CXX, "thrown_by_handler_in_thread"),
    crash("null_read", CXX, "null_read", by=SIGSEGV, address=0, frame="null_read"),
    crash("uncaught", CXX, "uncaught", by=SIGABRT, frame="throw_error"),
    crash("uncaught_in_thread", CXX, "uncaught_in_thread", by=SIGABRT, frame="throw_error"),
    crash("breaks_noexcept", CXX, "breaks_noexcept", by=SIGABRT, frame="breaks_noexcept"),
    crash("fortify", LIBC, "fortify", by=SIGABRT, frame="fortify"),
    crash("stack_smash", LIBC, "stack_smash", by=SIGABRT, frame="stack_smash"),
    crash("double_free", LIBC, "double_free", by=SIGABRT, frame="double_free"),
    crash("invalid_free", LIBC, "invalid_free", by=SIGABRT, frame="invalid_free"),
    crash("assert_false", LIBC, "assert_false", by=SIGABRT, frame="assert_false"),
)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_same_death_and_what_is_reported(stage: Stage, case: Case) -> None:
    stage.compare(case)
