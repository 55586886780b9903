"""Level core: from what the webhook wrote to a core on the node's disk, or the reason why not."""

import hashlib
import signal
from collections.abc import Callable
from pathlib import Path

import pytest
from stillframe_agent.decide import SOCKETS_FORBIDDEN

from stillframe import names
from stillframe.corefile import CoreFile
from stillframe.rpc.v1.intake_pb2 import Report
from tests.integration.agent.intake import Operator
from tests.integration.agent.node import AGENT_GROUP, Agent, Node, Pod
from tests.support.zstdfile import decompress

ASKED = {names.ENV_CAPTURE: "core", names.ENV_HOLD_MS: "10000"}


def crash(
    start_agent: Callable[..., Agent],
    node: Node,
    operator: Operator,
    env: dict[str, str],
    variables: dict[str, str] | None = None,
    **settings: object,
) -> Report:
    """The report of a crash with 8 threads in a pod of such an environment."""
    agent = start_agent(**settings).wait_ready()
    pod = Pod(node, env=env).set_up()
    agent.wait_watching(pod)
    victim = pod.crash("with_threads", 8, **(variables or env))
    assert victim.wait(timeout=20) == -signal.SIGSEGV
    (report,) = operator.wait_reports(1)
    return report


def test_a_pod_that_asks_gets_a_core(
    start_agent: Callable[..., Agent], node: Node, operator: Operator, tmp_path: Path
) -> None:
    report = crash(start_agent, node, operator, ASKED)
    assert list(report.soft_errors) == []
    assert report.captured == "core"
    assert report.attested
    (kept,) = (artifact for artifact in report.artifacts if artifact.kind == "core")
    path = node.state / names.ARTIFACTS_DIR / report.id / kept.file
    assert kept.file == names.ARTIFACT_CORE
    assert hashlib.sha256(path.read_bytes()).hexdigest() == kept.sha256
    assert (path.stat().st_gid, path.stat().st_mode & 0o777) == (AGENT_GROUP, 0o640)
    core = CoreFile.from_bytes(decompress(path, tmp_path / "core").read_bytes())
    assert len(core.threads) == 9
    assert core.problems == []
    assert sum(segment.filesz for segment in core.segments) > 500_000


def test_a_core_is_stored_as_it_is_where_the_agent_is_told_so(
    start_agent: Callable[..., Agent], node: Node, operator: Operator
) -> None:
    report = crash(start_agent, node, operator, ASKED, core_compression="none")
    assert list(report.soft_errors) == []
    (kept,) = (artifact for artifact in report.artifacts if artifact.kind == "core")
    assert kept.file == names.ARTIFACT_CORE_PLAIN
    path = node.state / names.ARTIFACTS_DIR / report.id / kept.file
    assert len(CoreFile.from_bytes(path.read_bytes()).threads) == 9


def test_a_process_cannot_ask_for_itself(
    start_agent: Callable[..., Agent], node: Node, operator: Operator
) -> None:
    report = crash(start_agent, node, operator, {}, ASKED)
    assert report.captured == "snapshot"
    assert list(report.soft_errors) == []


SHUT = ASKED | {names.ENV_ON_HOLD: names.ON_HOLD_SHUTDOWN_SOCKETS}


def test_sockets_are_touched_where_pod_and_agent_say_so(
    start_agent: Callable[..., Agent], node: Node, operator: Operator
) -> None:
    """What becomes of them is in the capture's own tests; here it is no container's PID 1."""
    report = crash(start_agent, node, operator, SHUT, shutdown_sockets=True)
    assert report.captured == "core"
    none = "no socket was shut down while the process was held: it is not PID 1 of a container"
    assert list(report.soft_errors) == [none]


def test_an_agent_that_may_not_touch_sockets_says_so(
    start_agent: Callable[..., Agent], node: Node, operator: Operator
) -> None:
    report = crash(start_agent, node, operator, SHUT)
    assert report.captured == "core"
    assert list(report.soft_errors) == [SOCKETS_FORBIDDEN]


def test_a_process_cannot_ask_for_its_sockets(
    start_agent: Callable[..., Agent], node: Node, operator: Operator
) -> None:
    report = crash(start_agent, node, operator, ASKED, SHUT, shutdown_sockets=True)
    assert report.captured == "core"
    assert list(report.soft_errors) == []


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        ({"cores": 0}, "no full core: 0 others are being taken on this node"),
        ({"artifacts_bytes": 8 << 20}, "no full core: the node's disk has no room for it"),
    ],
)
def test_without_means_it_is_a_snapshot_and_the_reason(
    start_agent: Callable[..., Agent],
    node: Node,
    operator: Operator,
    settings: dict[str, object],
    reason: str,
) -> None:
    report = crash(start_agent, node, operator, ASKED, **settings)
    assert report.captured == "snapshot"
    assert list(report.soft_errors) == [reason]
