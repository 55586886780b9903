"""The whole crash corpus: its causes are those of the documentation, its bugs are groups.

``SEED=n`` repeats a run.
"""

import os
import random
import shutil
import tempfile
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.analysis.conftest import ROOT, compile_c
from tests.integration.analysis.corpus import TARGET, document, reports, reports_of, wanted
from tests.integration.preload.matrix.cases import key

AT_ONCE = 2
"""Builds of a run; each case is run on one of them."""
FLAGS = ("", "-fno-pie -no-pie", "-gdwarf-4", "-ffunction-sections", "-fcf-protection=full")
"""Not -g0: without debug information what was inlined has no frame."""

ONE_GROUP = {
    "one recursion; its thread, its stack and the handler do not matter": {
        *("overflow_main", "overflow_thread", "overflow_small_thread", "overflow_supplied_stack"),
        *("overflow_with_handler", "overflow_with_handler_on_stack"),
    },
    "the child becomes `crasher null_read`": {"null_read", "spawned_child", "after_exec"},
    "one function of a thread": {"thread_segv", "all_crash 64"},
}
"""Cases that rightly share a key, and why; all others have one of their own."""


def test_the_documented_causes_are_what_is_told() -> None:
    """If a sentence has changed on purpose: tests/integration/analysis/generate-causes."""
    assert document() == TARGET.read_text()


def test_every_report_of_the_corpus_has_a_cause_of_its_own() -> None:
    vague = ("killed by", "not known", "wild pointer: access", "access")
    told = {way: report.cause for way, found in reports().items() for report in found}
    assert [way for way, cause in told.items() if cause.startswith(vague)] == []


def test_cases_share_a_group_only_where_it_is_one_bug() -> None:
    groups = defaultdict(set)
    for way, found in reports().items():
        for report in found:
            groups[report.fingerprint].add(way)
    shared = [ways for ways in groups.values() if len(ways) > 1]
    assert sorted(map(sorted, shared)) == sorted(map(sorted, ONE_GROUP.values()))


@pytest.fixture
def place() -> Iterator[Path]:
    """A directory that a user without privileges can enter."""
    with tempfile.TemporaryDirectory(prefix="corpus-") as directory:
        Path(directory).chmod(0o755)
        yield Path(directory)


def rebuilt(place: Path, choice: random.Random) -> Path:
    """The crasher, built anew from sources with more functions and lines in other places."""
    sources = place / f"{choice.randrange(1 << 30)}/src"
    shutil.copytree(ROOT / "tests/crashers", sources)
    for number, source in enumerate(sorted(sources.glob("*.c"))):
        more = "".join(f"int more_{number}_{n}(int x) {{ return x * {n}; }}\n" for n in range(4))
        source.write_text("\n" * choice.randrange(9) + more + source.read_text())
    others = [str(path) for path in sources.glob("*.c") if path.name != "crasher.c"]
    choice.shuffle(others)
    flags = ["-std=gnu11", "-D_GNU_SOURCE", "-O1", "-fno-omit-frame-pointer", "-w"]
    flags += ["-fstack-protector-explicit", "-pthread", *choice.choice(FLAGS).split()]
    return compile_c(sources / "crasher.c", sources.parent / "crasher", *flags, *others)


def test_a_rebuilt_corpus_falls_into_the_same_groups(place: Path) -> None:
    seed = int(os.environ.get("SEED") or random.SystemRandom().randrange(1 << 32))
    choice = random.Random(seed)
    builds = [rebuilt(place, choice) for _ in range(AT_ONCE)]
    moved = {}
    for case in wanted():
        if case.program == "crasher":
            keys = {report.fingerprint for report in reports()[key(case)]}
            again = {r.fingerprint for r in reports_of(case, choice.choice(builds))}
            if keys != again:
                moved[key(case)] = (keys, again)
    assert not moved, f"SEED={seed}"
