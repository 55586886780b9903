"""The contract between :mod:`.runner` and its children :mod:`.__main__` and :mod:`.python_child`.

The job comes as JSON on standard input; answers go as JSON, one per line, to
standard output, each better than the one before.  An exit status other than 0
comes with a sentence on standard error.
"""

import msgspec

EXIT_NO_SANDBOX = 69
"""The sandbox could not be set up: nothing was read.  EX_UNAVAILABLE."""
EXIT_NOT_A_CORE = 65
"""The core is not one; standard error has reason and message.  EX_DATAERR."""
EXIT_FAILED = 70
"""The analysis raised; the answers written before hold.  EX_SOFTWARE."""


class Limits(msgspec.Struct, frozen=True):
    """What one analysis may use."""

    wall_seconds: float = 30.0
    """Then the child is killed; what it answered so far holds."""
    cpu_seconds: int = 20
    memory_bytes: int = 1 << 30
    """Virtual memory beyond the files, interpreter included; the interpreter takes 0.3 GiB."""
    module_bytes: int = 1 << 30
    """Size of all modules together; what does not fit is left out, in the order given."""
    open_files: int = 1024
    output_bytes: int = 48 << 20
    """Of all three answers; the largest possible answer is about a third."""
    core_bytes: int = 2 << 30
    """Of a full core, expanded on our disk while its Python stacks are looked for."""


class JobModule(msgspec.Struct, frozen=True):
    """A file given: its path in the process, and its fd in the child."""

    path: str
    fd: int


class Job(msgspec.Struct, frozen=True):
    """One analysis."""

    core_fd: int
    modules: list[JobModule]
    limits: Limits
    variables: bool
    """Whether to read the crashing frame's variables."""
    hs_err_fd: int | None = None
    """A JVM's log."""


class PythonJob(msgspec.Struct, frozen=True):
    """The Python stacks of one full core."""

    core_fd: int
    """May be compressed, with zstd."""
    scratch_fd: int
    """An empty file to expand it into."""
    modules: list[JobModule]
    limits: Limits
