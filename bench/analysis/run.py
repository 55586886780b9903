"""From a core to stacks in words: our analysis against the debuggers a user would start.

All read the same snapshot, with debug information of the program and without
any of libc, and print every thread's stack: ours, sandbox and cause and
fingerprint included; ``gdb -batch``; ``eu-stack``.  Of a CPython process, from
the kernel's core of it: ours, whose stacks are native, and ``pystack``, whose
are Python's.  Interleaved, medians.

Prints a table and writes ``bench/results/analysis.json``.

    python -m bench.analysis.run
"""

import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

from bench.measurements import Measurement, report
from stillframe.analysis import analyze
from stillframe.corefile import CoreFile

ROOT = Path(__file__).parents[2]
LIBRARY = ROOT / "build/preload/x86_64/libstillframe.so"
CRASHER = ROOT / "build/crashers/glibc/crasher"
ROUNDS = 7
THREADS = (1, 50)
GDB = ("gdb", "-nx", "-batch", "-ex", "thread apply all bt")
PYTHON_CRASH = "import ctypes; ctypes.string_at(0)"


def snapshot(directory: Path, *command: str | Path) -> Path:
    """A snapshot of a command that crashes."""
    directory.mkdir()
    environment = {"LD_PRELOAD": str(LIBRARY), "STILLFRAME_DIR": str(directory)}
    subprocess.run(
        ["prlimit", "--core=0:0", *command], env=environment, check=False, capture_output=True
    )
    (core,) = directory.glob("*.core")
    return core


def kernel_core(directory: Path, *command: str | Path) -> Path:
    """The kernel's core of a command that crashes; needs a core_pattern that is a plain name."""
    directory.mkdir()
    subprocess.run(
        ["prlimit", "--core=unlimited:unlimited", *command],
        cwd=directory,
        check=False,
        capture_output=True,
    )
    (core,) = directory.glob("core*")
    return core


def ours(core: Path) -> None:
    with ExitStack() as files, core.open("rb") as file:
        paths = dict.fromkeys(mapped.path for mapped in CoreFile.from_bytes(file.read()).files)
        opened = [
            (path, files.enter_context(Path(path).open("rb")).fileno())
            for path in paths
            if Path(path).is_file()
        ]
        assert analyze(file.fileno(), opened).stack


def peer(*command: str | Path) -> Callable[[], None]:
    def run() -> None:
        # eu-stack ends with 1 where a thread could not be unwound to its end.
        done = subprocess.run(command, check=False, capture_output=True)
        assert done.stdout, done.stderr[-500:]

    return run


def measure(title: str, runs: dict[str, Callable[[], None]]) -> list[Measurement]:
    """The medians of runs; the first one is ours."""
    times: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(ROUNDS):
        for name, run in runs.items():
            began = time.monotonic()
            run()
            times[name].append((time.monotonic() - began) * 1000)
    mine, *others = ((name, statistics.median(values)) for name, values in times.items())
    compared = ", ".join(
        f"{name} {value:.0f} ms ({mine[1] / value:.2f} x)" for name, value in others
    )
    return [Measurement(f"{title}: {mine[0]}", "ms", round(mine[1], 1), compared)]


def main() -> int:
    for directory in ("preload", "tests/crashers"):
        subprocess.run(["make", "-s", "-C", ROOT / directory], check=True, stdout=sys.stderr)
    measurements: list[Measurement] = []
    with tempfile.TemporaryDirectory(prefix="bench-analysis-") as base:
        for threads in THREADS:
            core = snapshot(Path(base, f"{threads}"), CRASHER, "with_threads", str(threads - 1))
            measurements += measure(
                f"snapshot of {threads} thread{'s' * (threads > 1)}",
                {
                    "ours": lambda core=core: ours(core),  # type: ignore[misc]
                    "gdb": peer(*GDB, CRASHER, core),
                    "eu-stack": peer("eu-stack", f"--core={core}", f"--executable={CRASHER}"),
                },
            )
        python = Path(sys.executable).resolve()
        core = kernel_core(Path(base, "python"), python, "-c", PYTHON_CRASH)
        measurements += measure(
            "core of CPython",
            {
                "ours": lambda: ours(core),
                "pystack": peer("pystack", "core", core, python),
                "gdb": peer(*GDB, python, core),
            },
        )
    return report("analysis", measurements, rounds=ROUNDS)


if __name__ == "__main__":
    sys.exit(main())
