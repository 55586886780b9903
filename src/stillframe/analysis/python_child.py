"""The sandboxed child for Python stacks: ``python -m stillframe.analysis.python_child``.

Started by :mod:`.runner` for a full core.  As in :mod:`.__main__`, everything is imported first,
then the process is locked down, and only then the core is looked at.  It answers with one line of
JSON, a list of `PythonThread`.
"""

import io
import platform
import shutil
import sys
from collections.abc import Sequence
from functools import partial

import msgspec
import zstandard
from pystack.engine import NativeReportingMode, get_process_threads_for_core
from pystack.types import PyThread

from stillframe.corefile import CoreFile
from stillframe.corefile.compressed import MAGIC, is_compressed
from stillframe.corefile.elf import Machine
from stillframe.errors import InvalidInputError

from . import sandbox
from .child import affordable, fail, map_file, size
from .escape import LONG, escape
from .gaps import fill_gaps
from .job import EXIT_FAILED, EXIT_NO_SANDBOX, JobModule, PythonJob
from .model import MAX_FRAMES_CRASHED, MAX_THREADS, PythonFrame, PythonThread
from .paths import answer_paths

_CORE = "/stillframe/full.core"
"""The name of the expanded core for pystack."""
_CHUNK = 1 << 20
_AT_ENTRY = 9


def main() -> int:
    """Do the job on standard input; returns the exit status."""
    job = msgspec.json.decode(sys.stdin.buffer.read(), type=PythonJob)
    modules, _ = affordable(job.modules, job.limits)
    files = {module.path: module.fd for module in modules} | {_CORE: job.scratch_fd}
    try:
        # We map each module, and pystack up to twice at a time.
        mapped = 3 * sum(size(module.fd) for module in modules)
        machine = Machine[platform.machine().upper()]
        answer_paths(files, partial(sandbox.syscall_name, machine))
        sandbox.lock_down(job.limits, mapped, scratch_fd=job.scratch_fd, trap_paths=True)
    except OSError as error:
        return fail(EXIT_NO_SANDBOX, str(error))
    try:
        threads = _threads(job, modules)
    except Exception as error:  # whatever pystack raises on hostile input
        return fail(EXIT_FAILED, f"{type(error).__name__}: {error}")
    sys.stdout.buffer.write(msgspec.json.encode(threads) + b"\n")
    sys.stdout.buffer.flush()
    return 0


def _threads(job: PythonJob, modules: Sequence[JobModule]) -> list[PythonThread]:
    with io.FileIO(job.scratch_fd, "r+", closefd=False) as scratch:
        try:
            executable = _expand(job, modules, scratch)
        except OSError as error:
            problem = f"expanding the full core takes more than {job.limits.core_bytes} bytes"
            raise InvalidInputError("TooLarge", problem) from error
    found = get_process_threads_for_core(
        _CORE,
        executable,
        library_search_path="",
        native_mode=NativeReportingMode.OFF,
        locals=False,  # they hold secrets
    )
    return [_thread(thread) for thread in found[:MAX_THREADS]]


def _expand(job: PythonJob, modules: Sequence[JobModule], scratch: io.FileIO) -> str:
    """Write the core as pystack wants it; returns the path of the program's own file.

    The kernel keeps the file within its limit.
    """
    with io.FileIO(job.core_fd, closefd=False) as source:
        compressed = is_compressed(source.read(len(MAGIC)))
        source.seek(0)
        decompressor = zstandard.ZstdDecompressor()
        plain = decompressor.stream_reader(source, read_across_frames=True)
        shutil.copyfileobj(plain if compressed else source, scratch, _CHUNK)
    data = map_file(job.scratch_fd)
    core = CoreFile.from_bytes(data)
    fill_gaps(core, data, scratch, {module.path: map_file(module.fd) for module in modules})
    executable = core.file_at(core.auxv.get(_AT_ENTRY, 0))
    if executable is None:
        raise InvalidInputError("NoExecutable", "the full core does not tell its executable")
    return executable.path


def _thread(thread: PyThread) -> PythonThread:
    frames = list(thread.frames)[::-1]  # pystack begins with the outermost
    kept = [
        PythonFrame(
            function=escape(frame.code.scope, LONG),
            file=escape(frame.code.filename, LONG),
            line=max(frame.code.location.lineno, 0),
        )
        for frame in frames[:MAX_FRAMES_CRASHED]
    ]
    return PythonThread(tid=thread.tid, frames=kept, frames_total=len(frames))


if __name__ == "__main__":
    sys.exit(main())
