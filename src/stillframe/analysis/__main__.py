"""The sandboxed child: ``python -m stillframe.analysis``, started by :mod:`.runner`.

Everything is imported first, then the process is locked down, and only then it
looks at a byte that came from a pod.
"""

import mmap
import os
import sys

import msgspec

from stillframe.corefile import CoreFile
from stillframe.corefile.elf import build_id
from stillframe.errors import InvalidInputError

from . import pipeline, sandbox
from .images import GivenFile
from .job import EXIT_FAILED, EXIT_NO_SANDBOX, EXIT_NOT_A_CORE, Job, JobModule


def main() -> int:
    """Do the job on standard input; returns the exit status."""
    job = msgspec.json.decode(sys.stdin.buffer.read(), type=Job)
    modules, problems = _affordable(job)
    try:
        # We map every module and drgn maps it again; the core it reads.
        mapped = _size(job.core_fd) + 2 * sum(_size(module.fd) for module in modules)
        sandbox.lock_down(job.limits, mapped)
    except OSError as error:
        return _fail(EXIT_NO_SANDBOX, str(error))
    try:
        core = CoreFile.from_bytes(_map(job.core_fd))
        core.problems.extend(problems)
        given = [_given(module) for module in modules]
        names = sandbox.syscall_name
        answers = pipeline.analyze_core(core, job.core_fd, given, names, variables=job.variables)
        for analysis in answers:
            sys.stdout.buffer.write(msgspec.json.encode(analysis) + b"\n")
            sys.stdout.buffer.flush()
    except InvalidInputError as error:
        return _fail(EXIT_NOT_A_CORE, f"{error.reason}: {error}")
    except Exception as error:  # whatever a parser raises on hostile input
        return _fail(EXIT_FAILED, f"{type(error).__name__}: {error}")
    return 0


def _affordable(job: Job) -> tuple[list[JobModule], list[str]]:
    """The modules that fit the limit, and a sentence for each that does not."""
    left, modules, problems = job.limits.module_bytes, [], []
    for module in job.modules:
        size = _size(module.fd)
        if size <= left:
            left -= size
            modules.append(module)
        else:
            problems.append(f"{module.path}: left out, {size} bytes are too many")
    return modules, problems


def _size(fd: int) -> int:
    return os.fstat(fd).st_size


def _map(fd: int) -> bytes | mmap.mmap:
    """The whole file; an empty one cannot be mapped."""
    size = _size(fd)
    return mmap.mmap(fd, size, prot=mmap.PROT_READ) if size else b""


def _given(module: JobModule) -> GivenFile:
    data = _map(module.fd)
    try:
        found = build_id(data)
    except InvalidInputError:
        found = None  # not an ELF file: it will match no module
    return GivenFile(module.path, module.fd, data, found)


def _fail(status: int, message: str) -> int:
    print(message, file=sys.stderr)
    return status


if __name__ == "__main__":
    sys.exit(main())
