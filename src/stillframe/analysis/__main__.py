"""The sandboxed child: ``python -m stillframe.analysis``, started by :mod:`.runner`.

Everything is imported first, then the process is locked down, and only then it
looks at a byte that came from a pod.
"""

import sys

import msgspec

from stillframe.corefile import CoreFile
from stillframe.errors import InvalidInputError

from . import hs_err, pipeline, sandbox
from .child import affordable, fail, map_file, size
from .images import given_file
from .job import EXIT_FAILED, EXIT_NO_SANDBOX, EXIT_NOT_A_CORE, Job


def main() -> int:
    """Do the job on standard input; returns the exit status."""
    job = msgspec.json.decode(sys.stdin.buffer.read(), type=Job)
    modules, problems = affordable(job.modules, job.limits)
    try:
        # We map every module and drgn maps it again; the core it reads.
        mapped = size(job.core_fd) + 2 * sum(size(module.fd) for module in modules)
        sandbox.lock_down(job.limits, mapped)
    except OSError as error:
        return fail(EXIT_NO_SANDBOX, str(error))
    try:
        core = CoreFile.from_bytes(map_file(job.core_fd))
        core.problems.extend(problems)
        given = [given_file(module.path, module.fd, map_file(module.fd)) for module in modules]
        log = None if job.hs_err_fd is None else hs_err.parse(map_file(job.hs_err_fd))
        names = sandbox.syscall_name
        answers = pipeline.analyze_core(
            core, job.core_fd, given, names, variables=job.variables, hs_err=log
        )
        for analysis in answers:
            sys.stdout.buffer.write(msgspec.json.encode(analysis) + b"\n")
            sys.stdout.buffer.flush()
    except InvalidInputError as error:
        return fail(EXIT_NOT_A_CORE, f"{error.reason}: {error}")
    except Exception as error:  # whatever a parser raises on hostile input
        return fail(EXIT_FAILED, f"{type(error).__name__}: {error}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
