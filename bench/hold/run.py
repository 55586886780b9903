"""How long a crashed process waits for us: signal to release, snapshot only, agent present.

The real library, and the real capture pipeline in this process, woken by
inotify as the agent is.  The release is the library's own reading: it writes
the moment it lets go into the note, after our copy.  The peer, interleaved in
the same run: the kernel writing its own core file of the same process to
tmpfs; there is no hold there, so the comparison is from crash to reaped.

Prints a table and writes ``bench/results/hold.json``; exits with 1 when a
promise is not kept.

    python -m bench.hold.run
"""

import os
import select
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from bench.measurements import Measurement, report
from stillframe.capture.handover import SnapshotDirectory, SnapshotName, Stage, list_names
from stillframe.capture.inotify import IN_CREATE, IN_MOVED_TO, Inotify
from stillframe.capture.pipeline import capture
from stillframe.corefile import CoreFile

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
LIBRARY = ROOT / "build/preload/x86_64/libstillframe.so"
BUILD = ROOT / "build/bench/hold"

CRASHES = 200
SIZES = {"small process": 0, "64 MiB process": 64}
"""MiB that the process has touched."""
HOLD_MEDIAN_MOST = 50.0
HOLD_P99_MOST = 250.0
UNLIMITED = "--core=unlimited:unlimited"
NO_CORE = "--core=0:0"


class Crash:
    """One process; ``lasted_ms`` is from just before its fault to its reaping."""

    def __init__(self, mebibytes: int, core: str, cwd: Path, environment: dict[str, str]) -> None:
        self._process = subprocess.Popen(
            ["prlimit", core, "env", *(f"{k}={v}" for k, v in environment.items()),
             BUILD / "crash", str(mebibytes)],
            stdout=subprocess.PIPE,
            cwd=cwd,
        )  # fmt: skip
        self._reaper = threading.Thread(target=self._reap)
        self._reaper.start()

    def _reap(self) -> None:
        self._process.wait()
        self._reaped_ns = time.monotonic_ns()

    def lasted_ms(self) -> float:
        self._reaper.join()
        output, _ = self._process.communicate()
        assert self._process.returncode == -11
        return (self._reaped_ns - int.from_bytes(output, "little")) / 1e6


def held(
    mebibytes: int, directory: SnapshotDirectory, path: Path, inotify: Inotify
) -> tuple[float, float]:
    """Milliseconds from signal to release, and from crash to reaped, under our capture."""
    preload = {"LD_PRELOAD": str(LIBRARY), "STILLFRAME_DIR": str(path)}
    crash = Crash(mebibytes, NO_CORE, path, preload)
    name, original = first_snapshot(directory, inotify)
    with capture(directory, name, BUILD / "snapshot.core") as captured:
        assert captured.attested
        assert captured.complete
    lasted = crash.lasted_ms()
    note = CoreFile.from_bytes(os.pread(original, 1 << 24, 0)).note
    os.close(original)
    assert note is not None
    return (note.fields.release_monotonic_ns - note.fields.crash_monotonic_ns) / 1e6, lasted


def first_snapshot(directory: SnapshotDirectory, inotify: Inotify) -> tuple[SnapshotName, int]:
    """The next snapshot, and our own look at it: for the library's last words."""
    poll = select.poll()
    poll.register(inotify.fd, select.POLLIN)
    while True:
        for name in list_names(directory.fd).names:
            if name.stage is not Stage.BIRTH:
                # Renamed meanwhile: the next event or listing has the new name.
                with suppress(FileNotFoundError):
                    return name, os.open(name.file, os.O_RDONLY, dir_fd=directory.fd)
        poll.poll()
        inotify.read()


def kernel_core(mebibytes: int, path: Path) -> float:
    """Milliseconds from crash to reaped while the kernel writes its core file."""
    lasted = Crash(mebibytes, UNLIMITED, path, {}).lasted_ms()
    (core,) = path.iterdir()
    core.unlink()
    return lasted


def measure(title: str, mebibytes: int, shared: Path) -> Iterator[Measurement]:
    ours_at, kernel_at = shared / "ours", shared / "kernel"
    holds, ours, kernel = [], [], []
    inotify = Inotify()
    inotify.add(str(ours_at), IN_CREATE | IN_MOVED_TO)
    with SnapshotDirectory.open(ours_at) as directory:
        for _ in range(CRASHES):
            hold, lasted = held(mebibytes, directory, ours_at, inotify)
            holds.append(hold)
            ours.append(lasted)
            kernel.append(kernel_core(mebibytes, kernel_at))
    inotify.close()
    for which, limit in (("median", HOLD_MEDIAN_MOST), ("p99", HOLD_P99_MOST)):
        yield Measurement(
            f"signal to release, {title}, {which}", "ms", at(which, holds), limit=limit
        )
    for which in ("median", "p99"):
        mine, theirs = at(which, ours), at(which, kernel)
        yield Measurement(
            f"crash to reaped, {title}, {which}",
            "ms",
            mine,
            f"kernel core to tmpfs {theirs:.1f}, ratio {mine / theirs:.2f}",
        )


def at(which: str, values: list[float]) -> float:
    quantile = (
        statistics.median(values) if which == "median" else statistics.quantiles(values, n=100)[98]
    )
    return round(quantile, 2)


def build() -> None:
    subprocess.run(["make", "-s", "-C", ROOT / "preload"], check=True, stdout=sys.stderr)
    BUILD.mkdir(parents=True, exist_ok=True)
    subprocess.run(["gcc", "-O1", "-g", "-o", BUILD / "crash", HERE / "crash.c"], check=True)
    pattern = Path("/proc/sys/kernel/core_pattern").read_text().strip()
    if "/" in pattern or pattern.startswith("|"):
        sys.exit(f"the peer needs core files in the working directory; core_pattern is {pattern!r}")


def main() -> int:
    build()
    with tempfile.TemporaryDirectory(prefix="stillframe-bench-", dir="/dev/shm") as shared:
        for name in ("ours", "kernel"):
            (Path(shared) / name).mkdir()
        measurements = [
            measurement
            for title, mebibytes in SIZES.items()
            for measurement in measure(title, mebibytes, Path(shared))
        ]
    return report("hold", measurements, crashes=CRASHES)


if __name__ == "__main__":
    sys.exit(main())
