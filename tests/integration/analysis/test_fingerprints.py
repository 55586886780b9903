"""One bug is one key, whatever it was built with and whoever wrote the core.

That different bugs have different keys: ``test_corpus`` and ``test_groups``.
"""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.integration.analysis.conftest import ROOT, compile_c, crasher
from tests.integration.analysis.inprocess import analyze_here

MakeCore = Callable[..., Path]
SOURCES = ROOT / "tests/crashers"
BUILDS = {
    "as it is": [],
    "optimized": ["-O2"],
    "for size": ["-Os"],
    "with frame pointers": ["-O1", "-fno-omit-frame-pointer"],
    "at a fixed address": ["-no-pie", "-fno-pie"],
    "hardened": ["-O2", "-fstack-protector-all", "-D_FORTIFY_SOURCE=2", "-fcf-protection=full"],
    "with other debug info": ["-gdwarf-4"],
}


def key(snapshot: MakeCore, app: Path, way: str) -> str:
    return analyze_here(snapshot(app, way)).fingerprint


@pytest.mark.parametrize("way", ["null_write", "abort_call", "overflow_main", "thread_segv"])
def test_a_bug_keeps_its_key_over_builds_places_and_runs(
    snapshot: MakeCore, tmp_path: Path, way: str
) -> None:
    keys = set()
    for number, build in enumerate(BUILDS.values()):
        place = tmp_path / f"build{number}" / "src"
        place.mkdir(parents=True)
        shutil.copytree(SOURCES, place, dirs_exist_ok=True)
        for source in place.glob("*.c"):
            source.write_text("\n" * number + source.read_text())
        others = (str(path) for path in place.glob("*.c") if path.name != "crasher.c")
        flags = ["-std=gnu11", "-D_GNU_SOURCE", "-w", *build, *others]
        app = compile_c(place / "crasher.c", place / "crasher", *flags)
        keys |= {key(snapshot, app, way) for _ in range(2)}
    assert len(keys) == 1


def test_kernel_core_and_snapshot_give_one_key(snapshot: MakeCore, kernel_core: MakeCore) -> None:
    app = crasher("glibc")
    for way in ("null_write", "abort_call"):
        assert key(kernel_core, app, way) == key(snapshot, app, way)


def test_the_libc_does_not_matter(snapshot: MakeCore) -> None:
    """The scan finds on musl what call frame information gives on glibc."""
    for way in ("null_write", "abort_call", "assert_false", "kill_self"):
        assert key(snapshot, crasher("musl"), way) == key(snapshot, crasher("glibc"), way)
