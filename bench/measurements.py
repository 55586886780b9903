"""What a benchmark found, as a table and as a file: a number, its peer, and what we promise.

The benches end with `report`. Result files are for whoever compares two runs, so they say where
they were made.
"""

import json
import os
import platform
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

RESULTS = Path(__file__).parent / "results"


@dataclass(frozen=True)
class Measurement:
    """One number."""

    name: str
    unit: str
    value: float
    peer: str = ""
    """What it is compared with, in words and with its number."""
    limit: float | None = None
    """What we promise; None where we only report."""

    @property
    def kept(self) -> bool:
        return self.limit is None or self.value <= self.limit

    def __str__(self) -> str:
        """A line of the table."""
        limit = "" if self.limit is None else f"<= {self.limit:g}"
        verdict = "" if self.limit is None else "kept" if self.kept else "BROKEN"
        line = f"{self.name:62} {self.value:>10} {self.unit:6} {limit:8} {verdict:6} {self.peer}"
        return line.rstrip()


def report(name: str, measurements: Iterable[Measurement], **facts: object) -> int:
    """Prints the table and writes ``bench/results/NAME.json``; the exit status, 1 if any is broken.

    ``facts`` are what else the file has to say of the run, by key.
    """
    found = list(measurements)
    for measurement in found:
        print(measurement)
    record = {
        "kernel": platform.release(),
        "processors": os.cpu_count(),
        "load": os.getloadavg()[0],
        **facts,
        "measurements": [asdict(one) | {"kept": one.kept} for one in found],
    }
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / f"{name}.json").write_text(json.dumps(record, indent=2) + "\n")
    return 0 if all(one.kept for one in found) else 1
