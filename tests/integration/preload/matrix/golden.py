"""The cells as they are expected: ``tests/golden/matrix-ARCH.json`` for each architecture.

A case maps columns to what is seen there; ``*`` stands for every column not named, or, beside
``* as pid 1``, for those that are not pid 1.
"""

import json
from collections import Counter
from pathlib import Path

GOLDEN = Path(__file__).parents[3] / "golden"

AS_INIT = " as pid 1"
ANY_INIT = f"*{AS_INIT}"

Cells = dict[str, dict[str, str]]
"""By case and column."""


def path_of(arch: str) -> Path:
    return GOLDEN / f"matrix-{arch}.json"


def load(arch: str) -> Cells:
    return json.loads(path_of(arch).read_text()) if path_of(arch).exists() else {}


def expected(cells: Cells, case: str, column: str) -> str:
    of_case = cells.get(case, {})
    names = (column, ANY_INIT, "*") if column.endswith(AS_INIT) else (column, "*")
    return next((of_case[name] for name in names if name in of_case), "never measured")


def compress(measured: dict[str, str]) -> dict[str, str]:
    """The most frequent values under ``*`` and ``* as pid 1``, the others by their column."""
    short: dict[str, str] = {}
    for name in ("*", ANY_INIT):
        columns = [column for column in measured if column.endswith(AS_INIT) == (name == ANY_INIT)]
        most = Counter(measured[column] for column in columns).most_common(1)
        if most and most[0][0] != short.get("*"):
            short[name] = most[0][0]
    others = {
        column: seen
        for column, seen in measured.items()
        if seen != expected({"": short}, "", column)
    }
    return {**short, **others}
