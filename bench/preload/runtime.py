"""What the library costs while nothing dies, and when something does, beside its peers.

Threads started, faults recovered from, null checks of a JVM, and the time from
a fault to the end of the process for 1 to 200 threads.  The kinds that are
compared run in turns, because this machine is shared: nothing preloaded, an
empty library, ours; and for deaths the crash handlers that somebody would use
instead: the crates crash-handler with minidumper, Breakpad (from the crate
breakpad-sys), CPython's faulthandler.  What cannot be had here is named in the
result, with the reason.

Prints a table and writes ``bench/results/preload-runtime.json``; exits with 1
when a promise is not kept.

    python -m bench.preload.runtime
"""

import math
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from bench.measurements import Measurement, report

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
LIBRARY = ROOT / "build/preload/x86_64/libstillframe.so"
BUILD = ROOT / "build/bench/preload"
EMPTY = BUILD / "libempty.so"

ROUNDS = 25
FAULTS = 20_000
THREADS = 2_000
STORMS = 11
DEATHS = 25
"""Per kind and number of threads."""
THREADS_AT_DEATH = (1, 10, 50, 200)

FAULT_NS_MOST = 150.0

NOT_HERE = {
    "libSegFault": "glibc 2.35 removed it, and Debian 12 has no package of it",
    "Crashpad, sentry-native": "no package in Debian 12; sentry-native uses one of Crashpad and"
    " Breakpad, and Breakpad is here",
}


def build() -> None:
    subprocess.run(["make", "-s", "-C", ROOT / "preload"], check=True, stdout=sys.stderr)
    BUILD.mkdir(parents=True, exist_ok=True)
    for name in ("faults", "threads"):
        subprocess.run(
            ["gcc", "-O2", "-pthread", "-o", BUILD / name, HERE / f"{name}.c"], check=True
        )
    shape = ["-shared", "-fPIC", "-nostdlib", "-O2", "-Wl,-z,noseparate-code"]
    subprocess.run(["gcc", *shape, "-o", EMPTY, HERE / "empty.c"], check=True)


def environment(preload: Path | None, **more: str) -> dict[str, str]:
    ours = {"LD_PRELOAD": str(preload)} if preload else {}
    return {"PATH": os.environ["PATH"], **ours, **more}


KINDS: dict[str, Path | None] = {"none": None, "empty": EMPTY, "ours": LIBRARY}


def in_turns(command: list[object], rounds: int) -> dict[str, list[float]]:
    """The one number that the command prints, by kind."""
    times: dict[str, list[float]] = {kind: [] for kind in KINDS}
    for _ in range(rounds):
        for kind, preload in KINDS.items():
            done = subprocess.run(
                [str(part) for part in command],
                env=environment(preload),
                capture_output=True,
                check=True,
            )
            times[kind].append(float(done.stdout))
    return times


def median_between(values: list[float]) -> tuple[float, float]:
    """A 95 % confidence interval of the median, free of any distribution: two order statistics.

    One round that was interrupted weighs as much as any other.
    """
    ordered = sorted(values)
    count = len(ordered)
    below, tail = 0, 0.5**count
    while tail + math.comb(count, below + 1) * 0.5**count <= 0.025:
        below += 1
        tail += math.comb(count, below) * 0.5**count
    return ordered[below], ordered[count - 1 - below]


def compare(
    name: str, command: list[object], rounds: int, limit: float | None = None
) -> Iterator[Measurement]:
    """Nanoseconds of one, and what ours adds to none: median of the rounds' differences."""
    times = in_turns(command, rounds)
    none, empty, ours = (statistics.median(times[kind]) for kind in KINDS)
    differences = [a - b for a, b in zip(times["ours"], times["none"], strict=True)]
    low, high = median_between(differences)
    yield Measurement(
        name,
        "ns",
        round(ours, 1),
        f"none {none:.1f}, empty library {empty:.1f}, ratio {ours / none:.3f}",
    )
    yield Measurement(
        f"{name}, added to none",
        "ns",
        round(statistics.median(differences), 1),
        f"95 % confidence {low:.1f} to {high:.1f}, {rounds} rounds",
        limit,
    )


def system_calls(preload: Path | None, faults: int) -> int:
    """All calls of the process with so many faults, by strace's count."""
    with tempfile.NamedTemporaryFile() as summary:
        run = [BUILD / "faults", str(faults)]
        preloaded = [f"LD_PRELOAD={preload}"] if preload else []
        subprocess.run(
            ["strace", "-f", "-c", "-o", summary.name, "env", *preloaded, *run],
            check=True,
            capture_output=True,
        )
        # % time, seconds, usecs/call, calls, errors
        (total,) = (line.split() for line in summary if line.rstrip().endswith(b"total"))
    return int(total[3])


def measure_system_calls() -> Iterator[Measurement]:
    more = 5_000

    def per_fault(preload: Path | None) -> float:
        return (system_calls(preload, 500 + more) - system_calls(preload, 500)) / more

    none, ours = per_fault(None), per_fault(LIBRARY)
    yield Measurement(
        "system calls added to a recovered fault", "calls", ours - none, f"none {none:g}", 0
    )


def measure_null_checks() -> Iterator[Measurement]:
    if not shutil.which("javac"):
        NOT_HERE["JVM null checks"] = "no JDK is installed"
        return
    subprocess.run(["javac", "-d", BUILD, HERE / "NullChecks.java"], check=True)
    # The first compiler keeps the check implicit; the second would replace it.
    java: list[object] = ["java", "-XX:TieredStopAtLevel=1", "-cp", BUILD, "NullChecks"]
    yield from compare("NullPointerException of the JVM by SIGSEGV", java, STORMS)


def lasted_ms(command: list[object], environment: dict[str, str], status: int) -> float:
    """From the moment that the process prints right before its fault to its reaping."""
    process = subprocess.Popen(
        ["prlimit", "--core=0:0", *(str(part) for part in command)],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    reaped = 0

    def reap() -> None:
        nonlocal reaped
        process.wait()
        reaped = time.monotonic_ns()

    reaper = threading.Thread(target=reap)
    reaper.start()
    reaper.join()
    output, _ = process.communicate()
    assert process.returncode == status, (command, process.returncode)
    return (reaped - int.from_bytes(output[:8], "little")) / 1e6


@contextmanager
def minidump_server(peer: Path, directory: Path) -> Iterator[Path]:
    socket = directory / "socket"
    server = subprocess.Popen(
        [peer, "serve", socket, directory], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    )
    assert server.stdout is not None
    server.stdout.readline()
    try:
        yield socket
    finally:
        server.kill()
        server.communicate()


def death_in_turns(
    runs: dict[str, tuple[list[object], dict[str, str]]], clean: Callable[[], None]
) -> dict[str, float]:
    """Median milliseconds by kind."""
    times: dict[str, list[float]] = {kind: [] for kind in runs}
    for _ in range(DEATHS):
        for kind, (command, variables) in runs.items():
            times[kind].append(lasted_ms(command, variables, -11))
            clean()
    return {kind: statistics.median(values) for kind, values in times.items()}


def measure_deaths() -> Iterator[Measurement]:
    peer = build_peer()
    if peer is None:
        return
    with tempfile.TemporaryDirectory(dir="/dev/shm") as name:
        directory, snapshots, dumps = Path(name), Path(name) / "snapshots", Path(name) / "dumps"
        snapshots.mkdir()
        dumps.mkdir()

        def clean() -> None:
            for path in (*snapshots.iterdir(), *dumps.iterdir()):
                path.unlink()

        ours = environment(LIBRARY, STILLFRAME_DIR=str(snapshots))
        with minidump_server(peer, directory) as socket:
            for threads in THREADS_AT_DEATH:
                crash: list[object] = [peer, "crash", threads]
                found = death_in_turns(
                    {
                        "none": (crash, environment(None)),
                        "ours": (crash, ours),
                        "minidumper": ([*crash, "minidumper", socket], environment(None)),
                        "Breakpad": ([*crash, "breakpad", dumps], environment(None)),
                    },
                    clean,
                )
                yield death(
                    f"fault to reaped, Rust, {threads} threads", found, "minidumper", "Breakpad"
                )
        for threads in (1, 50):
            script = PYTHON_CRASH.format(threads=threads)
            found = death_in_turns(
                {
                    "none": ([PYTHON, "-c", script], environment(None)),
                    "ours": ([PYTHON, "-c", script], ours),
                    "faulthandler": (
                        [PYTHON, "-X", "faulthandler", "-c", script],
                        environment(None),
                    ),
                },
                clean,
            )
            yield death(f"fault to reaped, Python, {threads} threads", found, "faulthandler")


PYTHON = "/usr/bin/python3"
PYTHON_CRASH = """
import ctypes, os, threading, time
forever = threading.Event()
for _ in range({threads} - 1):
    threading.Thread(target=forever.wait, daemon=True).start()
os.write(1, time.monotonic_ns().to_bytes(8, "little"))
ctypes.string_at(0)
"""


def death(name: str, found: dict[str, float], *peers: str) -> Measurement:
    compared = [
        f"{peer} {found[peer]:.3f} ratio {found['ours'] / found[peer]:.2f}" for peer in peers
    ]
    return Measurement(
        name, "ms", round(found["ours"], 3), f"none {found['none']:.3f}, " + ", ".join(compared)
    )


def build_peer() -> Path | None:
    if not shutil.which("cargo"):
        NOT_HERE["crash-handler with minidumper, Breakpad"] = "no Rust is installed"
        return None
    target = ROOT / "build/bench/peer"
    cargo = ["cargo", "build", "--quiet", "--release", "--target-dir", target]
    subprocess.run(cargo, cwd=HERE / "peer", check=True, stdout=sys.stderr)
    return target / "release/peer"


def main() -> int:
    build()
    faults = BUILD / "faults"
    measurements = [
        *compare("thread started and joined", [BUILD / "threads", THREADS], ROUNDS),
        *compare("recovered fault", [faults, FAULTS], ROUNDS, FAULT_NS_MOST),
        *compare(
            "recovered fault, handler on its alternate stack",
            [faults, FAULTS, "on-stack"],
            ROUNDS,
            FAULT_NS_MOST,
        ),
        *measure_system_calls(),
        *measure_null_checks(),
        *measure_deaths(),
    ]
    status = report(
        "preload-runtime",
        measurements,
        library_bytes=LIBRARY.stat().st_size,
        not_measured=NOT_HERE,
    )
    for peer, reason in NOT_HERE.items():
        print(f"not measured: {peer}: {reason}")
    return status


if __name__ == "__main__":
    sys.exit(main())
