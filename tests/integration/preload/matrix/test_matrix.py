"""The matrix: every case, libc, as pid 1 of a pid namespace or not, with the library and without.

- exit status, stdout, stderr and the death in the kernel's own core are the same
- what was reported, and how the kernel's core compares with it, is what the golden file says
- a death without a report, and what is not there, has a reason
- every way of the crashers is a case

With ``UPDATE_MATRIX=1`` the golden file is written anew from what is seen; read the diff.
"""

import json
import os
import subprocess
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.integration.preload.conftest import CRASHERS
from tests.integration.preload.matrix.cases import (
    CASES,
    ELSEWHERE,
    NOT_HERE,
    Case,
    column,
    key,
)
from tests.integration.preload.matrix.cells import Cell, run_cell
from tests.integration.preload.matrix.golden import ARCH, compress, expected, load, path_of

CELLS = [
    pytest.param(case, libc, init, id=f"{key(case)}-{column(libc, init)}")
    for case in CASES
    for libc in case.libcs
    for init in (False, True)
]
WORKERS = 3
"""Two cores, and a crash waits as often as it computes."""
UPDATE = os.environ.get("UPDATE_MATRIX") == "1"
CORE_PATTERN = Path("/proc/sys/kernel/core_pattern")

Measure = Callable[[Case, str, bool], Cell]


@pytest.fixture(scope="module")
def measure(request: pytest.FixtureRequest, note_dump: Path) -> Iterator[Measure]:
    """Measures all selected cells beside each other; hands them out one by one."""
    pattern = CORE_PATTERN.read_text().strip()
    assert pattern[0] not in "|@/", f"needs kernel.core_pattern=core, it is {pattern!r}"
    cells: dict[tuple[str, str, bool], Future[Cell]] = {}
    with ThreadPoolExecutor(WORKERS) as pool:
        for item in request.session.items:
            call = getattr(item, "callspec", None)
            if call and {"case", "libc", "init"} <= call.params.keys():
                case, libc, init = (call.params[name] for name in ("case", "libc", "init"))
                future = pool.submit(run_cell, case, libc, init, note_dump)
                cells[key(case), libc, init] = future
        yield lambda case, libc, init: cells[key(case), libc, init].result()
        pool.shutdown(cancel_futures=True)
        measured = {at: future.result() for at, future in cells.items() if future.done()}
        if UPDATE:
            _update(measured)
        reporter = request.config.pluginmanager.get_plugin("terminalreporter")
        reporter.write_line(f"\n{_summary(list(measured.values()))}")


def _summary(cells: list[Cell]) -> str:
    differences = [difference for cell in cells for difference in cell.differences]
    counts = {
        "cells": len(cells),
        "deaths by a signal": sum(cell.status.startswith("SIG") for cell in cells),
        "reported": sum("; reported" in cell.seen for cell in cells),
        "differences in exit status": sum(d.startswith("status") for d in differences),
        "differences in output": sum(d.startswith("std") for d in differences),
        "in the kernel's core": sum(d.startswith("kernel") for d in differences),
    }
    return f"matrix, {ARCH}: " + ", ".join(f"{number} {what}" for what, number in counts.items())


def _update(cells: dict[tuple[str, str, bool], Cell]) -> None:
    golden = load()
    measured: dict[str, dict[str, str]] = {}
    for (case, libc, init), cell in cells.items():
        measured.setdefault(case, {})[column(libc, init)] = cell.seen
    golden |= {case: compress(columns) for case, columns in measured.items()}
    ordered = {key(case): golden[key(case)] for case in CASES if key(case) in golden}
    path_of(ARCH).write_text(json.dumps(ordered, indent=1) + "\n")


@pytest.mark.parametrize(("case", "libc", "init"), CELLS)
def test_cell_is_as_expected(measure: Measure, case: Case, libc: str, init: bool) -> None:
    cell = measure(case, libc, init)

    assert cell.differences == tuple(case.differs)
    if not UPDATE:
        assert cell.seen == expected(load(), key(case), column(libc, init))
    silent = cell.status.startswith("SIG") and "reported" not in cell.seen
    if silent or cell.status == f"exit {NOT_HERE}":
        assert case.reason(libc, init), "needs a reason"


def test_every_way_is_a_case() -> None:
    for program in ("crasher", "crasher++"):
        listed = subprocess.run(
            [CRASHERS / "glibc" / program, "list"], capture_output=True, text=True, check=True
        ).stdout.split()
        cases = {case.way for case in CASES if case.program == program}
        assert cases | (ELSEWHERE.keys() if program == "crasher" else set()) == set(listed)
