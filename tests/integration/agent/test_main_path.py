"""From a real crash in a pod's cgroup to a report at the operator."""

import signal

from tests.integration.agent.intake import Operator
from tests.integration.agent.node import Agent, Pod


def test_a_crash_becomes_one_attributed_report(agent: Agent, pod: Pod, operator: Operator) -> None:
    agent.wait_watching(pod)
    victim = pod.crash("null_read")
    assert victim.wait(timeout=20) == -signal.SIGSEGV
    (report,) = operator.wait_reports(1)
    print(report, agent.log.read_text())
