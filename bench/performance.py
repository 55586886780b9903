"""Write docs/reference/performance.md from the committed results of the benchmarks.

    python -m bench.performance [--check]

``--check`` writes nothing and ends with 1 where the page is not what the
results say.
"""

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from bench.measurements import RESULTS

PAGE = Path(__file__).parents[1] / "docs/reference/performance.md"
BENCHES = {
    "preload-runtime": ("A healthy process", "bench.preload.runtime"),
    "preload": ("Start-up, memory, and the crash itself", "bench.preload.run"),
    "hold": ("How long a process is held", "bench.hold.run"),
    "core": ("Full cores", "bench.core.run"),
    "storm": ("Many crashes at once", "bench.storm.run"),
    "analysis": ("Analysis", "bench.analysis.run"),
    "report": ("From a crash to its CrashReport", "bench.report.run"),
}
"""Title and module, by result file, in the page's order."""
HEAD = """\
<!-- Generated from bench/results by `python -m bench.performance`. -->
# Performance

Every number was measured beside its peers, in one run, interleaved; ratios are ours to the peer's,
so less is better. `make bench` measures all of them again, `make bench-agent` those of the agent;
*promise* is what the benchmark fails above.
"""


def page() -> str:
    """The whole page."""
    return "\n".join([HEAD, *(line for name in BENCHES for line in _section(name))])


def _section(name: str) -> Iterator[str]:
    path = RESULTS / f"{name}.json"
    if not path.exists():
        return
    result: dict[str, Any] = json.loads(path.read_text())
    title, module = BENCHES[name]
    yield f"## {title}\n"
    load = f", load {result['load']:.1f} at the end" if "load" in result else ""
    kernel = result["kernel"].partition("-")[0]
    yield f"`python -m {module}`; Linux {kernel}, {result['processors']} processors{load}.\n"
    yield "| what | measured | promise | peers |"
    yield "| --- | --- | --- | --- |"
    for row in result["measurements"]:
        promise = "" if row["limit"] is None else f"≤ {row['limit']:g} {row['unit']}".rstrip()
        if not row["kept"]:
            promise = f"**missed**: {promise}"
        value = f"{row['value']:g} {row['unit']}".rstrip()
        yield f"| {row['name']} | {value} | {promise} | {row['peer']} |"
    for peer, reason in result.get("not_measured", {}).items():
        yield f"\nNot measured: {peer}: {reason}."
    yield ""


def main() -> int:
    text = page()
    if sys.argv[1:] == ["--check"]:
        if PAGE.read_text() != text:
            print(f"{PAGE} is not what bench/results say: python -m bench.performance")
            return 1
        return 0
    PAGE.write_text(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
