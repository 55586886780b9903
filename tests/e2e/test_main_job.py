"""The main job on a real cluster.

Aspects: a crash becomes a report with function and file:line; the evidence comes out with the
report's own command and opens in gdb, eu-stack and drgn with the same top frames; crashes of one
kind are one report; exit codes are those without us; the pod gets an Event.
"""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.victims import victim
from tests.support import oracles
from tests.support.kube import Kube, terminations, until
from tests.support.zstdfile import decompress

ROOT = Path(__file__).resolve().parents[2]
CRASHER = ROOT / "build/crashers/glibc/crasher"
Reports = Callable[..., list[dict[str, Any]]]


def test_columns_are_those_of_the_design(kube: Kube, namespace: str, reports: Reports) -> None:
    kube.apply(namespace, victim("columns", "null_read"))
    reports(1)
    header, row = kube.kubectl("get", "crashreports", "-n", namespace).splitlines()
    assert header.split() == [
        "NAME", "WORKLOAD", "CONTAINER", "SIGNAL", "CAUSE", "TOP-FRAME", "COUNT", "LAST", "AGE"
    ]  # fmt: skip
    assert re.search(r"app +SIGSEGV +null pointer.* \S+ \(faults\.c:\d+\) +1 ", row)
    wide = kube.kubectl("get", "crashreports", "-n", namespace, "-o", "wide").splitlines()[0]
    assert wide.split()[-4:] == ["IMAGE", "NODE", "POD", "FINGERPRINT"]


def test_evidence_opens_in_every_debugger(
    kube: Kube, namespace: str, reports: Reports, tmp_path: Path
) -> None:
    kube.apply(namespace, victim("evidence", "null_read"))
    report = reports(1)[0]
    (sample,) = report["status"]["samples"].values()
    kube.run("bash", "-c", sample["fetch"], cwd=tmp_path)
    (core,) = tmp_path.glob("*/snapshot.core")
    frames = oracles.gdb_frames(CRASHER, core)
    assert frames == ["null_read", "main"], "gdb stops at main"
    assert frames == oracles.eu_stack_frames(CRASHER, core)[:2]
    assert frames == oracles.drgn_frames(CRASHER, core)[:2]
    assert report["status"]["topFrame"].startswith(frames[0])
    assert (core.parent / "report.txt").read_text().count("faults.c:")


def test_level_core_keeps_all_memory(
    kube: Kube, namespace: str, reports: Reports, tmp_path: Path
) -> None:
    kube.apply(namespace, victim("full", "null_read", capture="core"))
    report = reports(1)[0]
    (sample,) = report["status"]["samples"].values()
    assert sample["captured"] == "core", report["status"]
    kube.run("bash", "-c", sample["fetch"], cwd=tmp_path)
    (compressed,) = tmp_path.glob("*/full.core.zst")
    core = decompress(compressed, tmp_path / "full.core")
    assert oracles.gdb_frames(CRASHER, core) == ["null_read", "main"]


def test_ten_crashes_are_one_report_and_another_kind_a_second(
    kube: Kube, namespace: str, reports: Reports
) -> None:
    template = victim("storm", "null_read")
    for key in ("apiVersion", "kind"):
        del template[key]
    del template["metadata"]["name"]
    # Every index fails once: the Job's back-off between retries would take minutes.
    spec = {
        "completionMode": "Indexed",
        "completions": 10,
        "parallelism": 5,
        "backoffLimitPerIndex": 0,
        "template": template,
    }
    metadata = {"name": "storm"}
    kube.apply(
        namespace, {"apiVersion": "batch/v1", "kind": "Job", "metadata": metadata, "spec": spec}
    )
    (report,) = reports(10, seconds=120)
    assert report["status"]["count"] == 10
    assert len(report["status"]["samples"]) == 5
    kube.kubectl("delete", "job", "-n", namespace, "storm")
    kube.apply(namespace, victim("other", "abort_call"))
    assert sorted(r["spec"]["signal"] for r in reports(11)) == ["SIGABRT", "SIGSEGV"]


@pytest.mark.parametrize(
    "death",
    ["null_read", "abort_call", "int3", "kill_self", "recovered", "handled", "handler_aborts"],
)
def test_exit_code_is_the_same_with_and_without_capture(
    kube: Kube, namespace: str, death: str
) -> None:
    kube.apply(namespace, victim("with", death), victim("without", death, capture=None))
    codes = [_exit_code(kube, namespace, name) for name in ("with", "without")]
    assert codes[0] == codes[1]


def _exit_code(kube: Kube, namespace: str, name: str) -> int:
    def ended() -> int | None:
        states = terminations(kube.get("pod", "-n", namespace, name))
        return 1000 + int(states[-1]["exitCode"]) if states else None

    return until(ended, f"pod {name} to end") - 1000


def test_pod_gets_an_event_that_names_the_report(
    kube: Kube, namespace: str, reports: Reports
) -> None:
    kube.apply(namespace, victim("event", "null_read"))
    name = reports(1)[0]["metadata"]["name"]

    def event() -> str:
        field = "--field-selector=reason=CrashCaptured,involvedObject.name=event"
        return kube.kubectl("get", "events", "-n", namespace, field)

    assert name in until(event, "the Event CrashCaptured")
