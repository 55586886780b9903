"""How long a full core holds its process, and how large it is, against its peers.

Ours: from the crash to the release, snapshot and core, compressed, on tmpfs.
Peers, interleaved in the same run, uncompressed, on tmpfs: the kernel writing
its own core file, from the crash to the reaping; gcore of the same process
while it waits.  A core of the kernel is not read back: it holds nobody up.

Prints a table and writes ``bench/results/core.json``.

    python bench/core/run.py
"""

import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from stillframe.capture.fullcore import CoreRequest
from stillframe.capture.handover import SnapshotDirectory, Stage, list_names
from stillframe.capture.pipeline import capture

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
LIBRARY = ROOT / "build/preload/x86_64/libstillframe.so"
BUILD = ROOT / "build/bench/core"
RESULT = ROOT / "bench/results/core.json"
ROUNDS = 5
CASES = {
    "256 MiB heap-like": ("256", "heap", "0"),
    "256 MiB random": ("256", "random", "0"),
    "64 MiB heap-like, 2 GiB untouched": ("64", "heap", "2048"),
}
REQUEST = CoreRequest(hold_seconds=60, max_bytes=4 << 30)
Measured = tuple[float, float]
"""Milliseconds, and MiB on disk: what is allocated, not the length of a sparse file."""


def start(
    case: tuple[str, ...], end: str, core: str, **environment: str
) -> "subprocess.Popen[bytes]":
    variables = [f"{key}={value}" for key, value in environment.items()]
    return subprocess.Popen(
        ["prlimit", core, "env", *variables, BUILD / "memory", *case, end],
        stdout=subprocess.PIPE,
        cwd=environment.get("STILLFRAME_DIR", Path.cwd()),
    )


def crashed_ns(process: "subprocess.Popen[bytes]") -> int:
    assert process.stdout is not None
    return int.from_bytes(process.stdout.read(8), "little")


def on_disk(path: Path) -> float:
    return path.stat().st_blocks * 512 / (1 << 20)


def ours(case: tuple[str, ...], place: Path) -> Measured:
    directory = place / "snapshots"
    directory.mkdir()
    library = {"LD_PRELOAD": str(LIBRARY), "STILLFRAME_DIR": str(directory)}
    hold = {"STILLFRAME_HOLD_MS": "60000", "STILLFRAME_CLAIM_MS": "10000"}
    with SnapshotDirectory.open(directory) as snapshots:
        process = start(case, "crash", "--core=0:0", **library, **hold)
        crashed_ns(process)
        names: list[object] = []
        while not (
            names := [n for n in list_names(snapshots.fd).names if n.stage is not Stage.BIRTH]
        ):
            time.sleep(0.0005)
        with capture(snapshots, names[0], place / "snapshot.core", core=lambda _: REQUEST) as taken:
            assert taken.core is not None, taken.soft_errors
            assert not taken.soft_errors
            assert taken.held_millis is not None
        assert process.wait() == -11
        return float(taken.held_millis), on_disk(place / "full.core.zst")


def kernel(case: tuple[str, ...], place: Path) -> Measured:
    os.chdir(place)
    process = start(case, "crash", "--core=unlimited:unlimited")
    began = crashed_ns(process)
    process.wait()
    elapsed = (time.monotonic_ns() - began) / 1e6
    (core,) = place.iterdir()
    return elapsed, on_disk(core)


def gcore(case: tuple[str, ...], place: Path) -> Measured:
    process = start(case, "wait", "--core=0:0")
    crashed_ns(process)
    began = time.monotonic_ns()
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    subprocess.run(["gcore", "-o", place / "core", str(process.pid)], check=True, **quiet)
    elapsed = (time.monotonic_ns() - began) / 1e6
    process.kill()
    process.wait()
    return elapsed, on_disk(place / f"core.{process.pid}")


WAYS: dict[str, Callable[[tuple[str, ...], Path], Measured]] = {
    "stillframe, zstd": ours,
    "kernel core file": kernel,
    "gcore": gcore,
}


def measure(case: tuple[str, ...]) -> dict[str, dict[str, float]]:
    found: dict[str, list[Measured]] = {way: [] for way in WAYS}
    for _ in range(ROUNDS):
        for way, run in WAYS.items():
            with tempfile.TemporaryDirectory(prefix="stillframe-bench-", dir="/dev/shm") as place:
                found[way].append(run(case, Path(place)))
                os.chdir(ROOT)
    return {
        way: {
            "median_ms": round(statistics.median(ms for ms, _ in all_), 1),
            "worst_ms": round(max(ms for ms, _ in all_), 1),
            "mib": round(statistics.median(mib for _, mib in all_), 1),
        }
        for way, all_ in found.items()
    }


def main() -> None:
    BUILD.mkdir(parents=True, exist_ok=True)
    subprocess.run(["make", "-s", "-C", ROOT / "preload"], check=True, stdout=sys.stderr)
    subprocess.run(["gcc", "-O2", "-o", BUILD / "memory", HERE / "memory.c"], check=True)
    pattern = Path("/proc/sys/kernel/core_pattern").read_text().strip()
    if "/" in pattern or pattern.startswith("|"):
        sys.exit(f"the peer needs core files in the working directory; core_pattern is {pattern!r}")
    results = {title: measure(case) for title, case in CASES.items()}
    print(f"{'':36}{'':20}{'median':>8} {'worst':>8}   {'on disk':>9}  ratio to the kernel's")
    for title, ways in results.items():
        for way, values in ways.items():
            ratio = values["median_ms"] / ways["kernel core file"]["median_ms"]
            print(
                f"{title:36}{way:20}{values['median_ms']:8.0f} {values['worst_ms']:8.0f} ms"
                f"{values['mib']:9.1f} MiB  {ratio:.2f}"
            )
    RESULT.write_text(
        json.dumps(
            {
                "kernel": platform.release(),
                "processors": os.cpu_count(),
                "rounds": ROUNDS,
                "load": os.getloadavg()[0],
                "cases": results,
            },
            indent=2,
        )
        + "\n"
    )


if __name__ == "__main__":
    main()
