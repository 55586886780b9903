"""What the preload library costs a healthy process, and a dying one.

Prints a table and writes ``bench/results/preload.json``.  Every number has its
peer in the same run, interleaved, because this machine is shared: none, an
empty library, ours.

    python -m bench.preload.run
"""

import os
import statistics
import struct
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from elftools.elf.elffile import ELFFile
from elftools.elf.segments import NoteSegment

from bench.measurements import Measurement, report

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
LIBRARY = ROOT / "build/preload/x86_64/libstillframe.so"
CRASHER = ROOT / "build/crashers/glibc/crasher"
BUILD = ROOT / "build/bench/preload"

ROUNDS = 40
STARTS = 50
"""Processes started per round and kind."""
CRASHES = 40
"""Crashes per number of threads."""

START_RATIO_MOST = 1.3
PRIVATE_BYTES_MOST = 16 * 1024
HANDLER_MS_MOST = 5.0
"""With up to 50 threads."""


def build() -> dict[str, Path]:
    for directory in ("preload", "tests/crashers"):
        subprocess.run(["make", "-s", "-C", ROOT / directory], check=True, stdout=sys.stderr)
    BUILD.mkdir(parents=True, exist_ok=True)
    programs = {name: BUILD / name for name in ("start", "memory")}
    for name, path in programs.items():
        subprocess.run(["gcc", "-O2", "-o", path, HERE / f"{name}.c"], check=True)
    empty = BUILD / "libempty.so"
    # As few segments as ours: with gcc's default layout it would cost more.
    shape = ["-shared", "-fPIC", "-nostdlib", "-O2", "-Wl,-z,noseparate-code"]
    subprocess.run(["gcc", *shape, "-o", empty, HERE / "empty.c"], check=True)
    return {**programs, "empty": empty}


def start_times(
    start: Path, empty: Path, command: list[str]
) -> dict[str, tuple[list[float], list[float]]]:
    """Wall and processor microseconds per process, by kind of preload, interleaved."""
    kinds = {"none": "", "empty": str(empty), "ours": str(LIBRARY)}
    times: dict[str, tuple[list[float], list[float]]] = {kind: ([], []) for kind in kinds}
    for _ in range(ROUNDS):
        for kind, preload in kinds.items():
            output = subprocess.run(
                [start, str(STARTS), preload, *command],
                capture_output=True,
                text=True,
                check=True,
            ).stdout
            for series, value in zip(times[kind], output.split(), strict=True):
                series.append(int(value) / 1000 / STARTS)
    return times


def measure_start(start: Path, empty: Path) -> Iterator[Measurement]:
    times = start_times(start, empty, ["/bin/true"])
    for index, clock in enumerate(("wall", "processor")):
        none, nothing, ours = (
            statistics.median(times[kind][index]) for kind in ("none", "empty", "ours")
        )
        # Round by round, so that a slow round weighs on both sides.
        ratio = statistics.median(
            a / b for a, b in zip(times["ours"][index], times["empty"][index], strict=True)
        )
        peer = f"none {none:.0f}, empty library {nothing:.0f}"
        yield Measurement(f"exec of /bin/true, {clock} time", "us", round(ours, 1), peer)
        yield Measurement(
            f"exec of /bin/true, {clock} time, ours / empty library",
            "ratio",
            round(ratio, 3),
            limit=START_RATIO_MOST,
        )


def measure_memory(memory: Path, empty: Path) -> Iterator[Measurement]:
    """What the whole process has more of, the loader's own bookkeeping included."""

    def private(preload: str) -> int:
        environment = {"LD_PRELOAD": preload} if preload else {}
        runs = [
            subprocess.run([memory], env=environment, capture_output=True, check=True).stdout
            for _ in range(ROUNDS)
        ]
        return statistics.median_low(int(run) for run in runs)

    none = private("")
    yield Measurement(
        "private memory added (dirty pages)",
        "bytes",
        private(str(LIBRARY)) - none,
        f"empty library {private(str(empty)) - none}",
        PRIVATE_BYTES_MOST,
    )


def note_times(core: Path) -> tuple[int, int, int]:
    """crash, snapshot and release, CLOCK_MONOTONIC ns, from the vendor note."""
    with core.open("rb") as file:
        for segment in ELFFile(file).iter_segments("PT_NOTE"):
            assert isinstance(segment, NoteSegment)
            for note in segment.iter_notes():
                if note["n_name"] == "STILLFRAME":
                    file.seek(note["n_offset"] + 12 + 12 + CRASH_MONOTONIC_AT)
                    crash, snapshot, release = struct.unpack("<3Q", file.read(24))
                    return crash, snapshot, release
    raise ValueError(f"{core} has no STILLFRAME note")


CRASH_MONOTONIC_AT = 88
"""offsetof(struct sf_note, crash_monotonic_ns): checked at start-up by `check_offset`."""


def check_offset() -> None:
    source = '#include "note.h"\n_Static_assert(__builtin_offsetof(struct sf_note, '
    source += f'crash_monotonic_ns) == {CRASH_MONOTONIC_AT}, "");'
    subprocess.run(
        ["gcc", "-fsyntax-only", "-I", ROOT / "preload/src", "-x", "c", "-"],
        input=source,
        text=True,
        check=True,
    )


def measure_handler(threads: int) -> Iterator[Measurement]:
    """Signal to death without an agent, as the process itself saw it."""
    times, sizes = [], []
    with tempfile.TemporaryDirectory(dir="/dev/shm") as directory:
        environment = {
            **os.environ,
            "LD_PRELOAD": str(LIBRARY),
            "STILLFRAME_DIR": directory,
        }
        for _ in range(CRASHES):
            subprocess.run(
                ["prlimit", "--core=0", CRASHER, "with_threads", str(threads - 1)],
                env=environment,
                check=False,
            )
            (core,) = Path(directory).iterdir()
            crash, _snapshot, release = note_times(core)
            times.append((release - crash) / 1e6)
            sizes.append(core.stat().st_size)
            core.unlink()
    times.sort()
    worst = f"fastest {times[0]:.2f}, p90 {times[int(len(times) * 0.9)]:.2f}"
    yield Measurement(
        f"in the handler, {threads} threads, no agent",
        "ms",
        round(statistics.median(times), 3),
        f"{worst}, {statistics.median(sizes) / 1024:.0f} KiB",
        HANDLER_MS_MOST if threads <= 50 else None,
    )


def main() -> int:
    check_offset()
    built = build()
    return report(
        "preload",
        [
            *measure_start(built["start"], built["empty"]),
            *measure_memory(built["memory"], built["empty"]),
            *(m for threads in (1, 10, 50, 200) for m in measure_handler(threads)),
        ],
        library_bytes=LIBRARY.stat().st_size,
    )


if __name__ == "__main__":
    sys.exit(main())
