"""Facts of crashes in pods: one artifact, in the report, never on the wire.

Covers: what the node knows of the container, its log, secrets in every file of a
sample, switches, a log that cannot be had, who may read them.
"""

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from stillframe import names
from tests.integration.agent.intake import Operator
from tests.integration.agent.node import AGENT_GROUP, Agent, Node, Pod

SECRET = "correct-horse-battery"
TIME = "2024-01-01T00:00:00.000000001Z"


def write_log(pod: Pod, restarts: int, *lines: str) -> None:
    directory = pod.node.logs / f"{pod.namespace}_{pod.name}_{pod.uid}" / pod.container
    text = "".join(f"{TIME} stderr F {line}\n" for line in lines)
    (directory / f"{restarts}.log").write_text(text)


def add_annotation(pod: Pod, key: str, value: str) -> None:
    config = pod.node.bundles / pod.container_id / "config.json"
    bundle = json.loads(config.read_text())
    bundle["annotations"][key] = value
    config.write_text(json.dumps(bundle))


def sample_of(node: Node, operator: Operator) -> tuple[Path, dict[str, Any]]:
    """The directory of the only sample, and its facts."""
    (report,) = operator.wait_reports(1)
    directory = node.state / names.ARTIFACTS_DIR / report.id
    return directory, json.loads((directory / names.ARTIFACT_FACTS).read_bytes())


def test_a_sample_has_the_facts_of_process_and_container(
    agent: Agent, pod: Pod, operator: Operator
) -> None:
    add_annotation(pod, "io.kubernetes.cri.image-name", "shop/cart@sha256:abc")
    write_log(pod, 0, "an earlier life")
    write_log(pod, 2, "listening", "assertion failed: a == b")
    agent.wait_watching(pod)
    pod.crash("null_read", LC_ALL="C").wait(timeout=20)
    directory, facts = sample_of(agent.node, operator)

    assert facts["missing"].keys() <= {"cgroup"}
    assert facts["command"]["arguments"][-1] == "null_read"
    assert facts["environment"]["values"]["LC_ALL"] == "C"
    assert facts["container"] == {
        "image": "shop/cart@sha256:abc",
        "image_digest": "sha256:abc",
        "restarts": 2,
    }
    assert facts["log"] == {
        "lines": [f"{TIME} stderr listening", f"{TIME} stderr assertion failed: a == b"],
        "complete": True,
    }
    assert facts["process"]["threads"] == 1
    text = (directory / names.ARTIFACT_REPORT_TEXT).read_text()
    for line in ("  Restarts:    2\n", "  Image:       shop/cart@sha256:abc", "LC_ALL=C\n"):
        assert line in text
    assert f"    {TIME} stderr assertion failed: a == b\n" in text

    (report,) = operator.wait_reports(1)
    (artifact,) = [artifact for artifact in report.artifacts if artifact.kind == "facts"]
    path = directory / artifact.file
    assert artifact.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    assert (path.stat().st_gid, path.stat().st_mode & 0o777) == (AGENT_GROUP, 0o640)
    assert list(report.soft_errors) == []


def test_a_secret_is_in_no_file_but_cores_and_not_on_the_wire_or_in_the_log(
    agent: Agent, pod: Pod, operator: Operator
) -> None:
    write_log(pod, 0, f"connecting with {SECRET}", f"password={SECRET[:7]}")
    agent.wait_watching(pod)
    pod.crash("null_read", SECRET, DB_PASSWORD=SECRET, LANG=SECRET).wait(timeout=20)
    directory, facts = sample_of(agent.node, operator)

    assert facts["log"]["lines"][0] == f"{TIME} stderr connecting with [redacted]"
    assert facts["log"]["lines"][1] == f"{TIME} stderr password=[redacted]"
    assert facts["command"]["arguments"][-1] == "[redacted]"
    assert "DB_PASSWORD" in facts["environment"]["names"]
    for path in directory.iterdir():
        has_it = SECRET.encode() in path.read_bytes()
        assert has_it == (path.name == names.ARTIFACT_SNAPSHOT), path
    (report,) = operator.wait_reports(1)
    wire = report.SerializeToString()
    assert SECRET.encode() not in wire
    assert b"DB_PASSWORD" not in wire
    assert b"connecting" not in wire
    assert SECRET not in agent.log.read_text()


def test_what_an_operator_switches_off_is_not_there(
    start_agent: Callable[..., Agent], pod: Pod, operator: Operator
) -> None:
    agent = start_agent(facts="-log,-command", facts_env_allow="APP_*").wait_ready()
    write_log(pod, 0, "a line")
    agent.wait_watching(pod)
    pod.crash("null_read", APP_ENV="prod").wait(timeout=20)
    directory, facts = sample_of(agent.node, operator)
    assert facts["log"] is None
    assert facts["command"] is None
    assert (facts["missing"]["log"], facts["missing"]["command"]) == ("switched off",) * 2
    assert facts["environment"]["values"]["APP_ENV"] == "prod"
    text = (directory / names.ARTIFACT_REPORT_TEXT).read_text()
    assert "a line" not in text
    assert "APP_ENV=prod" in text


def test_a_container_without_a_log_has_the_reason_and_all_other_facts(
    agent: Agent, pod: Pod, operator: Operator
) -> None:
    agent.wait_watching(pod)
    pod.crash().wait(timeout=20)
    _, facts = sample_of(agent.node, operator)
    assert facts["missing"]["log"] == "the node has no log of the container"
    assert facts["container"] == {"image": "", "image_digest": "", "restarts": None}
    assert facts["limits"]
