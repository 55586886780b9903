"""How long a full core holds its process, how large it is, and what it costs, against its peers.

Ours: from the crash to the release, snapshot and core, with a tracer on standby as the agent
has one.  Peers, interleaved in the same run: the kernel writing its own core file, from the
crash to the reaping; its pipe to ``zstd -1``; gcore of the same process while it waits;
systemd-coredump, which compresses, on disk only; minicoredumper, which keeps only the stacks.
The machine's ``core_pattern`` is changed while a peer needs it (`handlers`).

Prints tables and writes ``bench/results/core.json``; exits with 1 when a promise is not kept:
at most 1.1 times the kernel's core file without compression, at most 0.8 times its pipe to zstd
with it, from 1 GiB on, and at most 50 ms more for 256 GiB that were never touched.

    python -m bench.core.run
"""

import ctypes
import os
import resource
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

from bench.core import handlers
from bench.measurements import Measurement, report
from stillframe.capture.corejob import Compression
from stillframe.capture.fullcore import CoreRequest
from stillframe.capture.handover import SnapshotDirectory, Stage, list_names
from stillframe.capture.pipeline import capture
from stillframe.capture.standby import Standby

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
LIBRARY = ROOT / "build/preload/x86_64/libstillframe.so"
BUILD = ROOT / "build/bench/core"
SHARED_MEMORY = Path("/dev/shm")
PR_SET_CHILD_SUBREAPER = 36
STANDBY = Standby()


class Case(NamedTuple):
    """A process, as ``memory.c`` takes it."""

    mib: int
    reserved_mib: int = 0
    threads: int = 1
    rounds: int = 3

    @property
    def arguments(self) -> list[str]:
        """For ``memory``."""
        return [str(self.mib), "heap", str(self.reserved_mib), str(self.threads - 1)]


class Measured(NamedTuple):
    """One run."""

    ms: float
    mib: float
    """On disk: what is allocated, not the length of a sparse file."""
    cpu_ms: float
    """Of whoever copies; of the crashing process, what it takes from its crash on."""


UNTOUCHED, TOUCHED = "64 MiB heap-like, 256 GiB untouched", "64 MiB heap-like"
UNTOUCHED_MS_MOST = 50
CASES = {
    "1 GiB heap-like, 1 thread": Case(1024),
    "1 GiB heap-like, 50 threads": Case(1024, threads=50),
    UNTOUCHED: Case(64, reserved_mib=262144),
    TOUCHED: Case(64),
    "8 GiB heap-like, 1 thread": Case(8192, rounds=1),
    "8 GiB heap-like, 50 threads": Case(8192, threads=50, rounds=1),
}
PLACES = {"tmpfs": SHARED_MEMORY, "disk": BUILD}


def start(
    case: Case, end: str, core: str, place: Path, **environment: str
) -> "subprocess.Popen[bytes]":
    variables = [f"{key}={value}" for key, value in environment.items()]
    return subprocess.Popen(
        ["prlimit", core, "env", *variables, BUILD / "memory", *case.arguments, end],
        stdout=subprocess.PIPE,
        cwd=place,
    )


def crashed_ns(process: "subprocess.Popen[bytes]") -> int:
    assert process.stdout is not None
    return int.from_bytes(process.stdout.read(8), "little")


def on_disk(path: Path) -> float:
    return path.stat().st_blocks * 512 / (1 << 20)


def cpu_ms() -> float:
    """Of all children that have been waited for: not of ourselves, who make the digest."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return (usage.ru_utime + usage.ru_stime) * 1e3


def cpu_ms_of(pid: int) -> float:
    ticks = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[11:13]
    return sum(map(int, ticks)) * 1e3 / os.sysconf("SC_CLK_TCK")


def reap() -> None:
    """Wait for the readers, which their tracers leave to us."""
    while True:
        try:
            os.wait()
        except ChildProcessError:
            return


def ours(compression: Compression) -> Callable[[Case, Path], Measured]:
    def run(case: Case, place: Path) -> Measured:
        STANDBY.prepare()
        request = CoreRequest(
            hold_seconds=300, max_bytes=64 << 30, compression=compression, standby=STANDBY
        )
        with (
            tempfile.TemporaryDirectory(dir=SHARED_MEMORY) as directory,
            SnapshotDirectory.open(Path(directory)) as snapshots,
        ):
            library = {"LD_PRELOAD": str(LIBRARY), "STILLFRAME_DIR": directory}
            hold = {"STILLFRAME_HOLD_MS": "300000", "STILLFRAME_CLAIM_MS": "10000"}
            process = start(case, "crash", "--core=0:0", place, **library, **hold)
            crashed_ns(process)
            victim = cpu_ms_of(process.pid)
            while not (
                names := [n for n in list_names(snapshots.fd).names if n.stage is not Stage.BIRTH]
            ):
                time.sleep(0.0005)
            before = cpu_ms()
            with capture(
                snapshots, names[0], place / "snapshot.core", core=lambda _: request
            ) as taken:
                assert taken.core is not None, taken.soft_errors
                assert not taken.soft_errors
                assert taken.held_millis is not None
            assert process.wait() == -11
            reap()
            return Measured(
                taken.held_millis, on_disk(place / taken.core.name), cpu_ms() - before - victim
            )

    return run


def handled(
    by: Callable[[handlers.Dump, Path], handlers.Handled],
) -> Callable[[Case, Path], Measured]:
    def run(case: Case, place: Path) -> Measured:
        filled = 0.0

        def dump() -> float:
            nonlocal filled
            process = start(case, "crash", "--core=unlimited:unlimited", place)
            began = crashed_ns(process)
            filled = cpu_ms_of(process.pid)
            process.wait()
            return (time.monotonic_ns() - began) / 1e6

        before = cpu_ms()
        found = by(dump, place)
        cpu = cpu_ms() - before - filled + found.cpu_ms
        return Measured(found.ms, on_disk(found.file), cpu)

    return run


def gcore(case: Case, place: Path) -> Measured:
    process = start(case, "wait", "--core=0:0", place)
    crashed_ns(process)
    before, began = cpu_ms(), time.monotonic_ns()
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    subprocess.run(["gcore", "-o", place / "core", str(process.pid)], check=True, **quiet)
    elapsed = (time.monotonic_ns() - began) / 1e6
    cpu = cpu_ms() - before
    process.kill()
    process.wait()
    return Measured(elapsed, on_disk(place / f"core.{process.pid}"), cpu)


KERNEL, PIPE, SYSTEMD = "kernel core file", "kernel's pipe to zstd -1", "systemd-coredump"
WAYS: dict[str, Callable[[Case, Path], Measured]] = {
    "stillframe, plain": ours(Compression.NONE),
    KERNEL: handled(handlers.to_file),
    "stillframe, zstd": ours(Compression.ZSTD),
    PIPE: handled(handlers.to_zstd),
    SYSTEMD: handled(handlers.to_systemd),
    "minicoredumper": handled(handlers.to_minicoredumper),
    "gcore": gcore,
}
PEER = {"stillframe, zstd": PIPE, SYSTEMD: PIPE}
"""The others are compared with the kernel's core file."""
MOST = {"stillframe, plain": 1.1, "stillframe, zstd": 0.8}
"""Times as long as the peer."""
Row = dict[str, dict[str, float]]
"""What `measure` found, by way."""


def ways_of(case: Case, on: Path) -> Iterator[str]:
    """gcore would write the untouched memory, too; systemd-coredump stores on disk alone."""
    for way in WAYS:
        if not (way == "gcore" and case.reserved_mib) and not (way == SYSTEMD and on != BUILD):
            yield way


def measure(case: Case, on: Path) -> Row:
    found: dict[str, list[Measured]] = {way: [] for way in ways_of(case, on)}
    for _ in range(case.rounds):
        for way, runs in found.items():
            with tempfile.TemporaryDirectory(prefix="stillframe-bench-", dir=on) as place:
                runs.append(WAYS[way](case, Path(place)))
            os.sync()  # or the next way waits for the pages that this one left
    return {
        way: {
            "median_ms": round(statistics.median(run.ms for run in runs), 1),
            "best_ms": round(min(run.ms for run in runs), 1),
            "worst_ms": round(max(run.ms for run in runs), 1),
            "cpu_ms": round(statistics.median(run.cpu_ms for run in runs)),
            "mib": round(statistics.median(run.mib for run in runs), 1),
        }
        for way, runs in found.items()
    }


def show(title: str, ways: Row) -> None:
    print(
        f"{title:46}{'best':>8}{'median':>8}{'worst':>8} ms{'cpu':>8} ms{'on disk':>9} MiB  ratio"
    )
    for way, values in ways.items():
        peer = ways[PEER.get(way, KERNEL)]
        print(
            f"  {way:44}{values['best_ms']:8.0f}{values['median_ms']:8.0f}{values['worst_ms']:8.0f}"
            f"   {values['cpu_ms']:8.0f}   {values['mib']:9.0f}"
            f"      {values['median_ms'] / peer['median_ms']:.2f}",
            flush=True,
        )


def told(title: str, ways: Row) -> Iterator[Measurement]:
    """What is published of a row: ours, each beside its peers; promised from 1 GiB on."""
    promised = CASES[title.rpartition(",")[0]].mib >= 1024
    for way, most in MOST.items():
        mine, peer = ways[way], PEER.get(way, KERNEL)
        others = [peer, *(name for name in ways if name not in MOST and name != peer)]
        compared = ", ".join(
            f"{name} {ways[name]['median_ms']:.0f} ms"
            f" ({mine['median_ms'] / ways[name]['median_ms']:.2f} x)"
            for name in others
        )
        yield Measurement(
            f"{title}: {way}",
            "ms",
            mine["median_ms"],
            f"{compared}; {mine['cpu_ms']:.0f} ms of CPU, {mine['mib']:.0f} MiB on disk",
            round(most * ways[peer]["median_ms"], 1) if promised else None,
        )


def untouched(results: dict[str, Row], place: str) -> Iterator[Measurement]:
    """What memory that was never touched costs."""
    for way in MOST:
        sparse, dense = (results[f"{case}, {place}"][way] for case in (UNTOUCHED, TOUCHED))
        more = round(sparse["median_ms"] - dense["median_ms"], 1)
        name = f"256 GiB untouched, {place}: {way}, added"
        yield Measurement(name, "ms", more, limit=UNTOUCHED_MS_MOST)


def main() -> int:
    signal.signal(
        signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM)
    )  # puts core_pattern back
    BUILD.mkdir(parents=True, exist_ok=True)
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    subprocess.run(["make", "-s", "-C", ROOT / "preload"], check=True, stdout=sys.stderr)
    build = ["gcc", "-O2", "-pthread", "-o", BUILD / "memory", HERE / "memory.c"]
    subprocess.run(build, check=True)
    pattern = Path("/proc/sys/kernel/core_pattern").read_text().strip()
    if "/" in pattern or pattern.startswith("|"):
        sys.exit(f"the peer needs core files in the working directory; core_pattern is {pattern!r}")
    results: dict[str, Row] = {}
    for title, case in CASES.items():
        for name, on in PLACES.items():
            row = results[f"{title}, {name}"] = measure(case, on)
            show(f"{title}, {name}", row)
    STANDBY.close()
    measurements = [found for title, row in results.items() for found in told(title, row)]
    measurements += [found for place in PLACES for found in untouched(results, place)]
    return report("core", measurements)


if __name__ == "__main__":
    sys.exit(main())
