"""Run one analysis in a sandboxed child and read what it says.

The child is executed afresh (nothing of the caller's memory, locks or fds goes
with it but the files of the job) and is trusted with nothing: its answer is
bounded in size and time and checked against :mod:`.model`.
"""

import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import BinaryIO, TypeVar

import msgspec

from stillframe.errors import PermanentError

from . import python
from .escape import escape
from .job import EXIT_NO_SANDBOX, EXIT_NOT_A_CORE, Job, JobModule, Limits, PythonJob
from .model import MAX_SOFT_ERRORS, Analysis, PythonThread
from .signals import signal_name

_Answer = TypeVar("_Answer")
_CHUNK = 64 << 10
_STDERR_BYTES = 4 << 10
_KEPT_ENVIRONMENT = ("PATH", "LD_LIBRARY_PATH", "LANG", "LC_ALL")


class AnalysisError(PermanentError):
    """Nothing could be learned of this core; the core itself stays the evidence."""


def analyze(
    core_fd: int,
    modules: Sequence[tuple[str, int]] = (),
    *,
    hs_err_fd: int | None = None,
    full_core: Path | None = None,
    limits: Limits | None = None,
    variables: bool = True,
) -> Analysis:
    """Analyze a core by the files its process had mapped.

    ``core_fd`` and the fds of ``modules`` (path as the process saw it, fd) are
    open for reading and stay the caller's; files given beyond the mapped ones
    are tried by build ID, so debug files may simply be added.  ``variables``: the
    answer has those of the crashing frame.  ``hs_err_fd`` is of a JVM's log about its
    own death.  ``full_core`` is of the same process, maybe compressed: it tells the Python
    stacks, and is expanded for that beside itself, into a file without a name of at
    most ``limits.core_bytes`` and a quarter of what the disk has left.  Blocks for up
    to ``limits.wall_seconds``, and as long again for Python's stacks.

    When the child dies half-way the result is what it found until then, with a
    soft error.  Raises :class:`AnalysisError` when it found nothing: the file is
    no core, or the sandbox cannot be set up.
    """
    limits = limits or Limits()
    given = [JobModule(_as_in_a_core(path), fd) for path, fd in modules]
    job = Job(core_fd, given, limits, variables=variables, hs_err_fd=hs_err_fd)
    ended = _analyze(job)
    analysis, problem = _last_answer(ended, Analysis)
    if analysis is None and modules and ended.failed_by_itself:
        # A module that its pod truncates while we read it kills the child with SIGBUS.
        analysis, _ = _last_answer(_analyze(msgspec.structs.replace(job, modules=[])), Analysis)
    if analysis and problem:
        analysis = _with_error(analysis, f"analysis incomplete: {problem}")
    if analysis and python.is_python(analysis.modules):
        return _with_python(analysis, full_core, job)
    if analysis:
        return analysis
    if ended.status == EXIT_NO_SANDBOX:
        raise AnalysisError(f"the sandbox cannot be set up: {ended.problem}")
    if ended.status == EXIT_NOT_A_CORE:
        raise AnalysisError(f"not a readable core: {ended.problem}")
    if "libseccomp" in ended.problem:
        raise AnalysisError("libseccomp is missing", "Install it: apt install libseccomp2")
    raise AnalysisError(f"the analysis failed: {problem}")


def _as_in_a_core(path: str) -> str:
    r"""A path as `corefile` decodes it: bytes that are no UTF-8 are escapes there.

    >>> _as_in_a_core("/lib/\udcff")
    '/lib/\\xff'
    """
    return os.fsencode(path).decode("utf-8", "backslashreplace")


class _Ended(msgspec.Struct, frozen=True):
    """How the child ended; ``problem`` is empty after success."""

    output: bytes
    status: int
    problem: str
    cut: bool
    """By us: it took too long or answered too much."""

    @property
    def failed_by_itself(self) -> bool:
        """Neither cut short nor refused for a reason that another try would meet too."""
        return not self.cut and self.status not in (0, EXIT_NO_SANDBOX, EXIT_NOT_A_CORE)


def _analyze(job: Job) -> _Ended:
    given = [module.fd for module in job.modules]
    log = [] if job.hs_err_fd is None else [job.hs_err_fd]
    return _run("stillframe.analysis", job, [job.core_fd, *given, *log])


def _with_python(analysis: Analysis, full_core: Path | None, job: Job) -> Analysis:
    """With the Python stacks, or why there are none."""
    if full_core is None:
        return _with_error(analysis, python.NEEDS_CORE)
    try:
        with full_core.open("rb") as core, _scratch(full_core.parent) as scratch:
            disk = os.fstatvfs(scratch.fileno())
            budget = min(job.limits.core_bytes, disk.f_bavail * disk.f_frsize // 4)
            limits = msgspec.structs.replace(job.limits, core_bytes=budget)
            of_core = PythonJob(core.fileno(), scratch.fileno(), job.modules, limits)
            given = [module.fd for module in job.modules]
            fds = [of_core.core_fd, of_core.scratch_fd, *given]
            ended = _run("stillframe.analysis.python_child", of_core, fds)
    except OSError as error:
        return _with_error(analysis, f"no Python stack: {error}")
    threads, problem = _last_answer(ended, list[PythonThread])
    if threads is None:
        return _with_error(analysis, f"no Python stack: {problem}")
    return python.with_python(analysis, threads)


def _with_error(analysis: Analysis, error: str) -> Analysis:
    errors = [*analysis.soft_errors, escape(error)]
    return msgspec.structs.replace(analysis, soft_errors=errors[-MAX_SOFT_ERRORS:])


def _scratch(directory: Path) -> BinaryIO:
    """A file without a name: whatever becomes of us, it is gone with its last user."""
    return os.fdopen(os.open(directory, os.O_TMPFILE | os.O_RDWR | os.O_CLOEXEC, 0o600), "w+b")


def _run(module: str, job: Job | PythonJob, fds: Sequence[int]) -> _Ended:
    environment = {key: os.environ[key] for key in _KEPT_ENVIRONMENT if key in os.environ}
    environment |= {
        "PYTHONPATH": os.pathsep.join(path for path in sys.path if path),
        "PYTHONDONTWRITEBYTECODE": "1",
        "OMP_NUM_THREADS": "1",  # drgn's worker threads could not start in the sandbox
        "DRGN_DISABLE_PLUGINS": "*",
    }
    command = [sys.executable, "-s", "-P", "-m", module]
    pipe = subprocess.PIPE
    with (
        _job_file(job) as stdin,
        subprocess.Popen(
            command, stdin=stdin, stdout=pipe, stderr=pipe, pass_fds=fds, env=environment, cwd="/"
        ) as child,
    ):
        try:
            output, errors, problem = _collect(child, job.limits)
            if not problem:
                child.wait()
        finally:
            child.kill()
            status = child.wait()
    return _Ended(output, status, problem or _reason(status, errors), bool(problem))


def _job_file(job: Job | PythonJob) -> BinaryIO:
    """The job in an anonymous file: unlike a pipe it cannot block either side."""
    file = os.fdopen(os.memfd_create("stillframe-job"), "w+b")
    file.write(msgspec.json.encode(job))
    file.seek(0)
    return file


def _collect(child: "subprocess.Popen[bytes]", limits: Limits) -> tuple[bytes, bytes, str]:
    """Standard output and error until both end, and what cut them short."""
    assert child.stdout is not None
    assert child.stderr is not None
    output, errors = bytearray(), bytearray()
    sinks = {child.stdout.fileno(): output, child.stderr.fileno(): errors}
    deadline = time.monotonic() + limits.wall_seconds
    poll = select.poll()
    for fd in sinks:
        poll.register(fd, select.POLLIN)
    open_fds = set(sinks)
    while open_fds:
        left = deadline - time.monotonic()
        if left <= 0:
            return bytes(output), bytes(errors), f"stopped after {limits.wall_seconds:g} s"
        for fd, _ in poll.poll(left * 1000):
            if chunk := os.read(fd, _CHUNK):
                sinks[fd] += chunk
            else:
                poll.unregister(fd)
                open_fds.discard(fd)
        if len(output) > limits.output_bytes:
            return bytes(output), bytes(errors), f"answered more than {limits.output_bytes} bytes"
        del errors[_STDERR_BYTES:]
    return bytes(output), bytes(errors), ""


def _reason(status: int, errors: bytes) -> str:
    """Why a child failed: its last words, or the signal that ended it."""
    if status == 0:
        return ""
    if status < 0:
        name = signal_name(-status)
        cpu = " (CPU time limit)" if -status == signal.SIGXCPU else ""
        return f"the child was killed by {name}{cpu}"
    lines = errors.decode("utf-8", "backslashreplace").strip().splitlines()
    return escape(lines[-1] if lines else f"exit status {status}")


def _last_answer(ended: _Ended, answer: type[_Answer]) -> tuple[_Answer | None, str]:
    """The last whole answer that is one, and what is wrong with it or with what came after."""
    problem = ended.problem
    for line in reversed(ended.output.split(b"\n")[:-1]):
        try:
            return msgspec.json.decode(line, type=answer), problem
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:
            problem = problem or f"the child answered nonsense: {error}"
    return None, problem or "the child answered nothing"
