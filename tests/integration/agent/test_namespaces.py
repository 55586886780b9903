"""Whose crash it is, whatever namespaces the pod has or shares.

hostPID is what `Pod.crash` has without ``init``; here are the others: a user namespace
(``hostUsers: false``), and a pid namespace that containers share.
"""

import pytest

from tests.integration.agent.intake import Operator
from tests.integration.agent.node import CRASHERS, Agent, Pod

USER = ("unshare", "--user", "--map-root-user", "--pid", "--fork", "--kill-child")
SHARED = ("unshare", "--pid", "--fork", "--kill-child", "sh", "-c", '"$@"; exit $?', "-")


@pytest.mark.parametrize(
    ("before", "init"), [(USER, True), (SHARED, False)], ids=["hostUsers", "shareProcessNamespace"]
)
def test_a_crash_in_other_namespaces_is_attested(
    agent: Agent, pod: Pod, operator: Operator, before: tuple[str, ...], init: bool
) -> None:
    agent.wait_watching(pod)
    victim = pod.start(*before, CRASHERS / "glibc/crasher", "null_read", preload=True)
    assert victim.wait(timeout=20) != 0
    # Without a shell around it unshare(1) dies as its child did, and may be reported first.
    reports = operator.wait_reports(2 if before is USER else 1)
    (report,) = (report for report in reports if report.process == "crasher")
    assert report.attested
    assert report.init_process == init
    assert (report.pod.name, report.pod.container) == (pod.name, pod.container)
    assert report.pod.container_id == pod.container_id
    assert [artifact.kind for artifact in report.artifacts if artifact.kind == "facts"]
    assert list(report.soft_errors) == []
