"""From a real crash in a pod's cgroup to an acknowledged report.

Covers: attribution, the evidence on disk and who may read it, the original's
deletion, the privileges the agent has, crashes of several pods at once.
"""

import hashlib
import json
import signal
from collections.abc import Callable
from pathlib import Path

import pytest
from stillframe_agent.manifest import Phase

from stillframe import names
from tests.integration.agent.intake import Operator
from tests.integration.agent.node import AGENT_GROUP, CRASHERS, Agent, Node, Pod, wait_until
from tests.support.crashers import line_of


@pytest.mark.parametrize("init", [False, True], ids=["any", "pid-1"])
def test_a_crash_becomes_one_attributed_report(
    agent: Agent, pod: Pod, operator: Operator, init: bool
) -> None:
    agent.wait_watching(pod)
    victim = pod.crash("null_read", init=init)
    status = victim.wait(timeout=20)
    assert status in (-signal.SIGSEGV, 128 + signal.SIGSEGV)

    (report,) = operator.wait_reports(1)
    assert report.attested
    assert report.init_process == init
    assert (report.pod.namespace, report.pod.name) == (pod.namespace, pod.name)
    assert (report.pod.uid, report.pod.container) == (pod.uid, pod.container)
    assert report.pod.container_id == pod.container_id
    assert report.signal.name == "SIGSEGV"
    assert report.top_frame == line_of("null_read")
    assert report.cause.startswith("null pointer")
    assert (report.captured, report.release, report.node) == ("snapshot", "done", "node-1")
    assert 0 <= report.held_millis < 250
    assert list(report.soft_errors) == []


def test_the_evidence_is_kept_for_the_artifacts_pod_and_the_original_goes(
    agent: Agent, pod: Pod, operator: Operator
) -> None:
    agent.wait_watching(pod)
    pod.crash().wait(timeout=20)
    (report,) = operator.wait_reports(1)
    sample = agent.node.state / names.ARTIFACTS_DIR / report.id
    wait_until(
        "the acknowledgement in the manifest",
        lambda: [m for m in agent.manifests() if m.crash_report_uid],
    )

    assert {artifact.file for artifact in report.artifacts} == {
        names.ARTIFACT_SNAPSHOT,
        names.ARTIFACT_FACTS,
        names.ARTIFACT_REPORT_TEXT,
        names.ARTIFACT_REPORT_JSON,
    }
    for artifact in report.artifacts:
        data = (sample / artifact.file).read_bytes()
        assert len(data) == artifact.bytes
        assert hashlib.sha256(data).hexdigest() == artifact.sha256
    for path in (sample.parent, sample, *sample.iterdir()):
        status = path.stat()
        assert status.st_gid == AGENT_GROUP
        assert status.st_mode & 0o777 == (0o750 if path.is_dir() else 0o640), path
    assert json.loads((sample / names.ARTIFACT_REPORT_JSON).read_bytes())["signal"]["number"] == 11
    assert "null_read" in (sample / names.ARTIFACT_REPORT_TEXT).read_text()
    (manifest,) = agent.manifests()
    assert manifest.phase is Phase.REPORTED
    assert manifest.crash_report == f"{pod.namespace}/crash-1"
    assert manifest.crash_report_uid == f"uid-of-{report.fingerprint}"
    assert pod.names() == []
    spool = agent.node.state / names.SPOOL_DIR
    wait_until("the spool to be empty", lambda: not list(spool.glob("*.report")))


def test_the_log_of_a_jvm_is_kept_with_the_snapshot(
    agent: Agent, pod: Pod, operator: Operator, tmp_path: Path
) -> None:
    """As pid 1 of its namespace, under which it is called there."""
    agent.wait_watching(pod)
    script = (
        f"cd {tmp_path} && echo a log > hs_err_pid1.log && exec {CRASHERS}/glibc/crasher null_read"
    )
    pod.start("sh", "-c", script, init=True, preload=True).wait(timeout=20)
    (report,) = operator.wait_reports(1)

    (log,) = [artifact for artifact in report.artifacts if artifact.kind == "hs_err"]
    kept = agent.node.state / names.ARTIFACTS_DIR / report.id / log.file
    assert kept.read_text() == "a log\n"
    assert (kept.stat().st_gid, kept.stat().st_mode & 0o777) == (AGENT_GROUP, 0o640)
    assert log.sha256 == hashlib.sha256(b"a log\n").hexdigest()
    assert list(report.soft_errors) == []


def test_a_directory_that_the_kubelet_made_first_becomes_readable_for_the_artifacts_pod(
    node: Node, start_agent: Callable[..., Agent]
) -> None:
    artifacts = node.state / names.ARTIFACTS_DIR
    artifacts.mkdir(mode=0o755)
    start_agent().wait_ready()
    status = artifacts.stat()
    assert (status.st_gid, status.st_mode & 0o777) == (AGENT_GROUP, 0o750)


def test_it_works_with_two_capabilities_and_says_what_it_did(
    agent: Agent, pod: Pod, operator: Operator
) -> None:
    agent.wait_watching(pod)
    pod.crash().wait(timeout=20)
    operator.wait_reports(1)
    status = dict(
        line.split(":\t") for line in Path(f"/proc/{agent.pid}/status").read_text().splitlines()
    )
    assert status["CapEff"] == status["CapBnd"] == "0000000000080004"
    assert status["NoNewPrivs"] == "1"
    assert agent.get("/readyz") == (200, "ready\n")
    assert agent.get("/healthz")[0] == 200
    assert agent.get("/etc/passwd")[0] == 404
    assert agent.metric('captures_total{result="snapshot"}') == 1
    assert agent.metric("hold_seconds_count") == 1
    assert agent.metric('analyses_total{result="ok"}') == 1
    assert agent.metric('submissions_total{code="OK"}') == 1
    (line,) = agent.lines("crash")
    assert (line["pod"], line["top_frame"]) == (pod.name, line_of("null_read"))


def test_without_a_bundle_the_names_come_from_the_log_directory(
    agent: Agent, pod: Pod, operator: Operator
) -> None:
    bundle = agent.node.bundles / pod.container_id / "config.json"
    bundle.unlink()
    (agent.node.logs / f"{pod.namespace}_{pod.name}_{pod.uid}" / names.INIT_CONTAINER).mkdir()
    agent.wait_watching(pod)
    pod.crash().wait(timeout=20)
    (report,) = operator.wait_reports(1)
    assert report.attested
    assert (report.pod.namespace, report.pod.name) == (pod.namespace, pod.name)
    assert (report.pod.container, report.pod.container_id) == (pod.container, pod.container_id)


def test_crashes_of_several_pods_at_once_are_all_reported(
    agent: Agent, node: Node, operator: Operator
) -> None:
    pods = [Pod(node, name=f"cart-{number}").set_up() for number in range(4)]
    for pod in pods:
        agent.wait_watching(pod)
    victims = [pod.crash("thread_segv") for pod in pods for _ in range(4)]
    statuses = [victim.wait(timeout=20) for victim in victims]
    assert statuses == [-signal.SIGSEGV] * 16
    reports = operator.wait_reports(16, seconds=60)
    assert len(reports) == len(operator.calls) == 16
    for pod in pods:
        mine = [report for report in reports if report.pod.uid == pod.uid]
        assert len(mine) == 4
        assert all(report.attested and report.pod.name == pod.name for report in mine)
    assert all(pod.names() == [] for pod in pods)
