"""Between agent and operator: who they are to each other, and what an answer means.

Covers: the token, the CA, each kind of refusal, samples nobody wants, deletion
by tombstone, samples that our quotas delete.
"""

from collections.abc import Callable
from pathlib import Path

import grpc
import pytest

from stillframe import names
from stillframe.rpc.v1.intake_pb2 import PlaceRequest, Report
from tests.integration.agent.intake import Operator
from tests.integration.agent.node import Agent, Pod, wait_until


def test_the_token_is_read_anew_for_every_call(agent: Agent, pod: Pod, operator: Operator) -> None:
    agent.wait_watching(pod)
    pod.crash().wait(timeout=20)
    operator.wait_reports(1)
    (operator.credentials / "token").write_text("second-token")
    pod.crash().wait(timeout=20)
    operator.wait_reports(2)
    assert operator.authorizations == ["Bearer first-token", "Bearer second-token"]


def test_a_rotated_authority_is_trusted_as_soon_as_its_file_changes(
    agent: Agent, pod: Pod, operator: Operator
) -> None:
    agent.wait_watching(pod)
    pod.crash().wait(timeout=20)
    operator.wait_reports(1)
    operator.new_authority()
    pod.crash().wait(timeout=20)
    operator.wait_reports(2)


def test_an_operator_with_the_wrong_authority_gets_no_token(
    pod: Pod, operator: Operator, start_agent: Callable[..., Agent], tmp_path: Path
) -> None:
    from tests.integration.agent.intake import Authority

    trusted = (operator.credentials / "ca.crt").read_bytes()
    (operator.credentials / "ca.crt").write_bytes(Authority().certificate)
    agent = start_agent().wait_ready()
    agent.wait_watching(pod)
    pod.crash().wait(timeout=20)
    agent.wait_metric('submissions_total{code="UNAVAILABLE"}')
    assert operator.authorizations == []
    (operator.credentials / "ca.crt").write_bytes(trusted)
    operator.wait_reports(1)


@pytest.mark.parametrize(
    "code",
    [
        grpc.StatusCode.UNAVAILABLE,
        grpc.StatusCode.UNAUTHENTICATED,
        grpc.StatusCode.RESOURCE_EXHAUSTED,
        grpc.StatusCode.INTERNAL,
    ],
)
def test_a_refusal_for_now_is_tried_again(
    agent: Agent, pod: Pod, operator: Operator, code: grpc.StatusCode
) -> None:
    refusals = iter([code, code])
    operator.refuse_with = lambda _report: next(refusals, None)
    agent.wait_watching(pod)
    pod.crash().wait(timeout=20)
    operator.wait_reports(1)
    assert agent.metric(f'submissions_total{{code="{code.name}"}}') == 2
    assert len(operator.calls) == 1


@pytest.mark.parametrize(
    "code", [grpc.StatusCode.PERMISSION_DENIED, grpc.StatusCode.INVALID_ARGUMENT]
)
def test_a_refusal_for_good_is_counted_and_told(
    agent: Agent, pod: Pod, operator: Operator, code: grpc.StatusCode
) -> None:
    operator.refuse_with = lambda _report: code
    agent.wait_watching(pod)
    pod.crash().wait(timeout=20)
    agent.wait_metric('spool_dropped_total{why="refused"}')
    wait_until("an empty spool", lambda: agent.metric("spool_items") == 0)
    assert [line for line in agent.lines() if "report dropped" in str(line["message"])]


def test_samples_of_a_group_that_has_enough_are_not_kept(
    agent: Agent, pod: Pod, operator: Operator
) -> None:
    operator.sample_kept = False
    agent.wait_watching(pod)
    pod.crash().wait(timeout=20)
    operator.wait_reports(1)
    agent.wait_metric('artifacts_deleted_total{why="surplus"}')
    assert agent.manifests() == []


def test_a_deleted_crash_report_takes_its_artifacts_along(
    agent: Agent, pod: Pod, operator: Operator
) -> None:
    agent.wait_watching(pod)
    for way in ("null_read", "div0"):
        pod.crash(way).wait(timeout=20)
    first, second = operator.wait_reports(2)
    wait_until("both acknowledged", lambda: all(m.crash_report_uid for m in agent.manifests()))
    operator.tombstones = [f"uid-of-{first.fingerprint}"]
    agent.wait_metric('artifacts_deleted_total{why="tombstone"}')
    assert [manifest.report_id for manifest in agent.manifests()] == [second.id]
    artifacts = agent.node.state / names.ARTIFACTS_DIR
    assert [path.name for path in artifacts.iterdir()] == [second.id]


def test_the_crash_report_is_told_once_of_a_sample_that_its_node_deleted(
    start_agent: Callable[..., Agent], pod: Pod, operator: Operator
) -> None:
    first = start_agent().wait_ready()
    first.wait_watching(pod)
    pod.crash().wait(timeout=20)
    (report,) = operator.wait_reports(1)
    wait_until("an empty spool", lambda: first.metric("spool_items") == 0)
    first.kill()
    assert operator.places == []

    operator.refuse_places_with = grpc.StatusCode.UNAVAILABLE
    second = start_agent(artifacts_age_seconds=1e-3)
    operator.wait("a refusal", lambda: operator.places_refused > 0)
    assert second.manifests() == []
    second.kill()
    operator.refuse_places_with = None
    third = start_agent().wait_ready()
    assert operator.wait_places(1) == [told(report)]
    operator.wait_rounds(1)
    assert len(operator.places) == 1
    third.kill()
    artifacts = third.node.seen(third.node.state) / names.ARTIFACTS_DIR
    assert list(artifacts.iterdir()) == []


def test_the_crash_report_is_told_of_a_sample_that_was_deleted_while_its_report_waited(
    start_agent: Callable[..., Agent], pod: Pod, operator: Operator
) -> None:
    operator.refuse_with = lambda _report: grpc.StatusCode.UNAVAILABLE
    agent = start_agent(artifacts_age_seconds=1e-3, retry_seconds=0.1).wait_ready()
    agent.wait_watching(pod)
    pod.crash().wait(timeout=20)
    agent.wait_metric('artifacts_deleted_total{why="age"}')
    operator.refuse_places_with = grpc.StatusCode.UNAVAILABLE
    operator.refuse_with = lambda _report: None
    operator.wait("a refusal", lambda: operator.places_refused > 0)
    assert agent.metric("spool_items") == 1
    operator.refuse_places_with = None
    assert operator.wait_places(1) == [told(operator.wait_reports(1)[0])]
    wait_until("an empty spool", lambda: agent.metric("spool_items") == 0)


def told(report: Report) -> PlaceRequest:
    """That the node has deleted its files."""
    return PlaceRequest(
        report_id=report.id,
        namespace=report.pod.namespace,
        name="crash-1",
        uid=f"uid-of-{report.fingerprint}",
        deleted=True,
    )
