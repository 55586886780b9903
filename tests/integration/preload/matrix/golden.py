"""The cells as they are expected: ``tests/golden/matrix-ARCH.json`` for each architecture.

A case maps columns to what is seen there; ``*`` stands for every column not named. An architecture
is in the matrix as soon as its file exists.
"""

import json
import platform
from collections import Counter
from pathlib import Path

ARCH = platform.machine()
GOLDEN = Path(__file__).parents[3] / "golden"

Cells = dict[str, dict[str, str]]
"""By case and column."""


def path_of(arch: str) -> Path:
    return GOLDEN / f"matrix-{arch}.json"


def architectures() -> list[str]:
    return sorted(
        (path.stem.partition("-")[2] for path in GOLDEN.glob("matrix-*.json")), reverse=True
    )


def load(arch: str = ARCH) -> Cells:
    return json.loads(path_of(arch).read_text()) if path_of(arch).exists() else {}


def expected(cells: Cells, case: str, column: str) -> str:
    of_case = cells.get(case, {})
    return of_case.get(column, of_case.get("*", "never measured"))


def compress(measured: dict[str, str]) -> dict[str, str]:
    """The most frequent value under ``*``, the others by their column."""
    most, _ = Counter(measured.values()).most_common(1)[0]
    others = {column: seen for column, seen in measured.items() if seen != most}
    return {"*": most, **others}
