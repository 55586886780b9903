"""Where the crashers' sources have what tests expect to read."""

from pathlib import Path

CRASHERS = Path(__file__).resolve().parents[1] / "crashers"


def line_of(function: str, file: str = "faults.c") -> str:
    """``FUNCTION (FILE:LINE)`` of the first statement of a function without local variables."""
    lines = (CRASHERS / file).read_text().splitlines()
    start = next(number for number, text in enumerate(lines) if f" {function}(void)" in text)
    return f"{function} ({file}:{start + 3})"
