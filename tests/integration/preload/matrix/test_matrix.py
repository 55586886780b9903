"""The matrix: every case, machine, libc, as pid 1 or not, with the library and without.

- exit status, stdout, stderr and the death in the kernel's own core are the same
- what was reported, and how the kernel's core compares with it, is what the golden file says
- a death without a report, and what is not there, has a reason
- every way of the crashers is a case, and every case is in the golden file of every machine

With ``UPDATE_MATRIX=1`` the golden files are written anew from what is seen; read the diff.
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
    ARCHITECTURES,
    CASES,
    ELSEWHERE,
    NOT_HERE,
    Case,
    column,
    key,
)
from tests.integration.preload.matrix.cells import Cell, run_cell
from tests.integration.preload.matrix.golden import compress, expected, load, path_of
from tests.integration.preload.matrix.machines import MACHINES
from tests.integration.preload.matrix.not_applicable import OF_CELLS, WAYS

CELLS = [
    pytest.param(arch, case, libc, init, id=f"{key(case)}-{arch} {column(libc, init)}")
    for arch in ARCHITECTURES
    for case in CASES
    for libc in case.libcs
    for init in (False, True)
]
WORKERS = 3
"""Two cores, and a crash waits as often as it computes."""
UPDATE = os.environ.get("UPDATE_MATRIX") == "1"
CORE_PATTERN = Path("/proc/sys/kernel/core_pattern")

Measure = Callable[[str, Case, str, bool], Cell]
Place = tuple[str, str, bool]
"""Key of the case, libc, as pid 1."""


@pytest.fixture(scope="module")
def measure(request: pytest.FixtureRequest, note_dump: Path) -> Iterator[Measure]:
    """Measures all selected cells beside each other; hands them out one by one."""
    pattern = CORE_PATTERN.read_text().strip()
    assert pattern[0] not in "|@/", f"needs kernel.core_pattern=core, it is {pattern!r}"
    cells: dict[str, dict[Place, Future[Cell]]] = {}
    names = ("arch", "case", "libc", "init")
    with ThreadPoolExecutor(WORKERS) as pool:
        for item in request.session.items:
            call = getattr(item, "callspec", None)
            if call and set(names) <= call.params.keys():
                arch, case, libc, init = (call.params[name] for name in names)
                future = pool.submit(run_cell, MACHINES[arch], case, libc, init, note_dump)
                cells.setdefault(arch, {})[key(case), libc, init] = future
        yield lambda arch, case, libc, init: cells[arch][key(case), libc, init].result()
        pool.shutdown(cancel_futures=True)
        capture = request.config.pluginmanager.get_plugin("capturemanager")
        for arch, futures in cells.items():
            measured = {
                place: future.result()
                for place, future in futures.items()
                if not future.cancelled() and not future.exception()
            }
            if UPDATE:
                _update(arch, measured)
            with capture.global_and_fixture_disabled():
                print(f"\n{_summary(arch, list(measured.values()))}")


def _summary(arch: str, cells: list[Cell]) -> str:
    differences = [difference for cell in cells for difference in cell.differences]
    counts = {
        "cells": len(cells),
        "deaths by a signal": sum(cell.status.startswith("SIG") for cell in cells),
        "reported": sum("; reported" in cell.seen for cell in cells),
        "n/a": sum(cell.status == "n/a" for cell in cells),
        "differences in exit status": sum(d.startswith("status") for d in differences),
        "differences in output": sum(d.startswith("std") for d in differences),
        "in the kernel's core": sum(d.startswith("kernel") for d in differences),
    }
    return f"matrix, {arch}: " + ", ".join(f"{number} {what}" for what, number in counts.items())


def _update(arch: str, cells: dict[Place, Cell]) -> None:
    golden = load(arch)
    measured: dict[str, dict[str, str]] = {}
    for (case, libc, init), cell in cells.items():
        measured.setdefault(case, {})[column(libc, init)] = cell.seen
    golden |= {case: compress(columns) for case, columns in measured.items()}
    ordered = {key(case): golden[key(case)] for case in CASES if key(case) in golden}
    path_of(arch).write_text(json.dumps(ordered, indent=1) + "\n")


@pytest.mark.parametrize(("arch", "case", "libc", "init"), CELLS)
def test_cell_is_as_expected(
    measure: Measure, arch: str, case: Case, libc: str, init: bool
) -> None:
    cell = measure(arch, case, libc, init)

    assert cell.differences == (case.differs if MACHINES[arch].kernel_core else ())
    if not UPDATE:
        assert cell.seen == expected(load(arch), key(case), column(libc, init))
    silent = cell.status.startswith("SIG") and "reported" not in cell.seen
    if silent or cell.status == f"exit {NOT_HERE}":
        assert case.reason(arch, libc, init), "needs a reason"


@pytest.mark.parametrize("arch", ARCHITECTURES)
def test_every_cell_was_measured(arch: str) -> None:
    golden = load(arch)

    assert list(golden) == [key(case) for case in CASES]
    for case in CASES:
        columns = [column(libc, init) for libc in case.libcs for init in (False, True)]
        assert "never measured" not in [expected(golden, key(case), name) for name in columns]


def test_nothing_is_left_out_but_by_a_reason_that_is_measured() -> None:
    """That each reason is, `test_aarch64` asserts."""
    left_out = {
        arch: {
            seen for cells in load(arch).values() for seen in cells.values() if is_left_out(seen)
        }
        for arch in ARCHITECTURES
    }

    assert left_out == {"x86_64": set(), "aarch64": {f"n/a: {reason}" for reason in OF_CELLS}}
    assert WAYS.keys() <= {case.way for case in CASES}


def is_left_out(seen: str) -> bool:
    return seen.startswith("n/a")


def test_every_way_is_a_case() -> None:
    for program in ("crasher", "crasher++"):
        listed = subprocess.run(
            [CRASHERS / "glibc" / program, "list"], capture_output=True, text=True, check=True
        ).stdout.split()
        cases = {case.way for case in CASES if case.program == program}
        assert cases | (ELSEWHERE.keys() if program == "crasher" else set()) == set(listed)
