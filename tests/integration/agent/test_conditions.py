"""What an agent says of itself while something is wrong, and that it goes on by itself.

Covers: a state directory that cannot be written to, credentials that are
missing, a spool and a disk that are full.
"""

from collections.abc import Callable

from tests.integration.agent.intake import Operator
from tests.integration.agent.node import Agent, Node, Pod, wait_until


def test_an_agent_that_cannot_write_waits_and_begins_as_soon_as_it_can(
    node: Node, pod: Pod, operator: Operator, start_agent: Callable[..., Agent]
) -> None:
    node.state.chmod(0o500)
    agent = start_agent()
    agent.wait_logged("the state directory cannot be written to: waiting until it can")
    status, text = agent.get("/readyz")
    assert status == 503
    assert f"StateDirectoryUnwritable: {node.state}: permission denied" in text
    assert agent.get("/healthz")[0] == 200

    node.state.chmod(0o755)
    agent.wait_ready().wait_watching(pod)
    assert agent.get("/readyz") == (200, "ready\n")
    pod.crash().wait(timeout=20)
    operator.wait_reports(1)

    node.state.chmod(0o500)
    assert agent.get("/readyz")[0] == 503
    assert agent.metric('condition{reason="StateDirectoryUnwritable"}') == 1


def test_an_agent_without_credentials_keeps_its_reports_and_says_what_is_missing(
    pod: Pod, operator: Operator, start_agent: Callable[..., Agent]
) -> None:
    token = (operator.credentials / "token").rename(operator.credentials / "later")
    agent = start_agent(spool_items=1, artifacts_free_bytes=1 << 60).wait_ready()
    status, text = agent.get("/readyz")
    assert status == 200
    assert {line.partition(":")[0] for line in text.splitlines()} == {
        *("ready", "TokenMissing", "DiskFull"),
    }
    token.rename(operator.credentials / "token")
    wait_until("no such condition", lambda: "TokenMissing" not in agent.get("/readyz")[1])
    assert agent.lines("a condition has gone")


def test_a_spool_that_is_full_says_so(
    pod: Pod, operator: Operator, start_agent: Callable[..., Agent]
) -> None:
    operator.stop()
    agent = start_agent(spool_items=1).wait_ready()
    agent.wait_watching(pod)
    for _ in range(2):
        pod.crash().wait(timeout=20)
    agent.wait_metric('spool_dropped_total{why="full"}')
    assert "SpoolFull: 100% of the spool" in agent.get("/readyz")[1]
    operator.start()
    operator.wait_reports(1)
    wait_until("no condition", lambda: agent.get("/readyz") == (200, "ready\n"))
