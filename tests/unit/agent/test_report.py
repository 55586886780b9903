"""What the operator is told.

Covers: ids, a whole analysis, no analysis, a clock that lies, bounds, and that
the operator's own rules accept each report.
"""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace
from stillframe_agent.manifest import KeptFile, Manifest, Phase
from stillframe_agent.pods import PodIdentity
from stillframe_agent.report import (
    MAX_SOFT_ERRORS,
    NO_FINGERPRINT,
    UNKNOWN_CONTAINER,
    build,
    report_id,
)

from stillframe.analysis import Analysis, Note, Process, Signal

CREATED = 1_800_000_000.0
MANIFEST = Manifest(
    report_id="0" * 32,
    phase=Phase.CAPTURED,
    snapshot_id="ff",
    node="node-1",
    pod=PodIdentity("uid-1", "shop", "cart-1", "app", "a1"),
    attested=True,
    held_millis=12,
    released=True,
    created=CREATED,
    expires=CREATED + 100,
    signal=11,
    files=(KeptFile(kind="snapshot", file="snapshot.core", bytes=7, sha256="ab"),),
)
NOTE = Note(
    id="ff",
    library="0.1.0",
    flags=[],
    release="pending",
    crash_realtime_ns=int((CREATED - 1) * 1e9),
    crash_monotonic_ns=1,
    snapshot_monotonic_ns=2,
    release_monotonic_ns=0,
    start_ticks=1,
    pid_ns=1,
    uid=0,
    gid=0,
    threads=1,
    threads_captured=1,
    annotations={},
)
ANALYSIS = Analysis(
    signal=Signal(number=11, name="SIGSEGV", code=1, code_name="SEGV_MAPERR", address=0),
    process=Process(pid=1, tid=1, comm="app", init_process=True),
    threads=[],
    threads_total=1,
    cause="null pointer",
    message="It was null.",
    top_frame="f (a.c:1)",
    stack=["#0 f (a.c:1)"],
    fingerprint="v1:0123456789abcdef",
    involvement="none",
    modules=[],
    note=NOTE,
)


def test_an_id_is_the_crashs_and_nobody_elses() -> None:
    known = report_id("pod-1", "ff", 7)
    assert re.fullmatch("[0-9a-f]{32}", known)
    assert known == report_id("pod-1", "ff", 7)
    others = {report_id("pod-2", "ff", 7), report_id("pod-1", "fe", 7), report_id("pod-1", "ff", 8)}
    assert known not in others
    assert len(others) == 3


def test_a_whole_report() -> None:
    report = build(MANIFEST, ANALYSIS)
    assert (report.id, report.node, report.attested) == ("0" * 32, "node-1", True)
    assert report.crashed_at.seconds == int(CREATED) - 1
    assert (report.pod.namespace, report.pod.container, report.pod.uid) == ("shop", "app", "uid-1")
    assert (report.signal.name, report.signal.number) == ("SIGSEGV", 11)
    assert (report.captured, report.release, report.held_millis) == ("snapshot", "done", 12)
    assert (report.top_frame, list(report.stack)) == ("f (a.c:1)", ["#0 f (a.c:1)"])
    assert (report.process, report.init_process) == ("app", True)
    assert [artifact.file for artifact in report.artifacts] == ["snapshot.core"]


def test_a_process_we_did_not_release_says_itself_how_it_went() -> None:
    dead = replace(MANIFEST, attested=False, released=False, held_millis=None)
    analysis = replace(ANALYSIS, note=replace(NOTE, release="no_agent"))
    report = build(dead, analysis)
    assert (report.release, report.held_millis, report.attested) == ("no_agent", -1, False)


@pytest.mark.parametrize("seconds", [0, CREATED + 3600, CREATED - 30 * 86400, 2**63 / 1e9])
def test_an_impossible_time_of_crash_is_not_believed(seconds: float) -> None:
    note = replace(NOTE, crash_realtime_ns=int(seconds * 1e9))
    report = build(MANIFEST, replace(ANALYSIS, note=note))
    assert report.crashed_at.seconds == int(CREATED)


def test_without_an_analysis_the_evidence_is_reported_all_the_same() -> None:
    report = build(MANIFEST, None, "the analysis failed: no core")
    assert (report.signal.name, report.captured) == ("SIGSEGV", "snapshot")
    assert report.fingerprint == NO_FINGERPRINT
    assert report.message == "the analysis failed: no core"
    assert list(report.soft_errors) == ["the analysis failed: no core"]


def test_a_leftover_that_says_nothing_counts_as_not_captured() -> None:
    report = build(replace(MANIFEST, complete=False, signal=0), None, "x")
    assert (report.captured, report.signal.name) == ("none", "SIGUNKNOWN")
    assert report.cause == "killed while the snapshot was written"


def test_a_container_that_is_not_known_is_called_so() -> None:
    nameless = replace(MANIFEST, pod=PodIdentity("uid-1", "shop", "cart-1"))
    assert build(nameless, ANALYSIS).pod.container == UNKNOWN_CONTAINER


@given(st.lists(st.text(max_size=2000), max_size=40), st.text(max_size=2000))
def test_soft_errors_are_few_short_and_printable(errors: list[str], failure: str) -> None:
    manifest = replace(MANIFEST, soft_errors=tuple(errors))
    for report in (build(manifest, ANALYSIS), build(manifest, None, failure)):
        assert len(report.soft_errors) <= MAX_SOFT_ERRORS
        assert all(len(line) <= 256 and line.isprintable() for line in report.soft_errors)
