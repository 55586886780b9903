"""What outlives everything: the node reboots, or its clock is set while the agent is away.

Covers: a node of which only the disk is left, a clock that is a day slow or a
year fast for one life of the agent.
"""

import signal
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from stillframe_agent.manifest import Phase

from stillframe import names
from tests.integration.agent.intake import Operator
from tests.integration.agent.node import Agent, Node, Pod, wait_until
from tests.integration.agent.test_hostile import FORGER

FAKETIME = next(Path("/usr/lib").glob("*/faketime/libfaketime.so.1"))
WRONG_CLOCK = """
import os, sys
os.environ |= {{"LD_PRELOAD": "{library}", "FAKETIME": "{offset}"}}
os.environ["FAKETIME_DONT_FAKE_MONOTONIC"] = "1"
os.execv(sys.executable, [sys.executable, "-m", "stillframe_agent", *sys.argv[1:]])
"""


def spooled(agent: Agent) -> list[str]:
    """The ids of the reports that wait."""
    return sorted(path.stem for path in (agent.node.state / names.SPOOL_DIR).glob("*.report"))


def two_reports_that_wait(agent: Agent, pod: Pod) -> list[str]:
    """Two crashes, analysed and spooled, with nobody to take their reports."""
    agent.wait_watching(pod)
    for way in ("null_read", "div0"):
        pod.crash(way).wait(timeout=20)
    agent.wait_metric("spool_items", 2)
    wait_until("both reported", lambda: {m.phase for m in agent.manifests()} == {Phase.REPORTED})
    return spooled(agent)


def test_after_a_reboot_what_was_on_the_disk_arrives_and_the_rest_is_forgotten(
    node: Node, pod: Pod, operator: Operator, start_agent: Callable[..., Agent]
) -> None:
    operator.stop()
    first = start_agent().wait_ready()
    waiting = two_reports_that_wait(first, pod)
    # A snapshot that is not complete for two seconds: the agent dies in the middle of its capture.
    writer = pod.start(sys.executable, "-c", FORGER, "/dev/null", pod._volume.path, ".part", 1)
    wait_until("a capture", lambda: Phase.CAPTURING in [m.phase for m in first.manifests()])
    first.kill()
    writer.kill()
    writer.wait(timeout=20)
    # Of what was in memory nothing is left; on the disk, what a power cut leaves half done.
    wait_until("an unmount", lambda: pod.tear_down() or pod.unmount())
    (node.bundles / pod.container_id / "config.json").unlink()
    (node.state / names.ARTIFACTS_DIR / ("e" * 32)).mkdir()
    (node.state / names.ARTIFACTS_DIR / ("e" * 32) / names.ARTIFACT_MANIFEST).touch()
    (node.state / names.SPOOL_DIR / f".{'e' * 32}.report").touch()

    for _ in range(2):  # the next one dies before it has told anybody
        second = start_agent().wait_ready()
        assert spooled(second) == waiting
        assert sorted(m.report_id for m in second.manifests()) == waiting
        second.kill()
    operator.start()
    last = start_agent().wait_ready()
    operator.wait_reports(2)
    assert sorted(operator.reports) == waiting
    wait_until("an empty spool", lambda: spooled(last) == [])
    artifacts = node.state / names.ARTIFACTS_DIR
    assert sorted(path.name for path in artifacts.iterdir()) == waiting

    new = Pod(node, name="after").set_up()
    last.wait_watching(new)
    assert new.crash("null_write").wait(timeout=20) == -signal.SIGSEGV
    operator.wait_reports(3)
    assert operator.calls[-1].attested


@pytest.mark.parametrize(("offset", "kept"), [("-1d", 2), ("+1y", 0)])
def test_a_clock_that_is_wrong_for_a_life_of_the_agent_loses_no_report(
    pod: Pod, operator: Operator, start_agent: Callable[..., Agent], offset: str, kept: int
) -> None:
    """No TLS with such a clock, so reports wait; samples go when they are too old by it."""
    operator.stop()
    first = start_agent().wait_ready()
    waiting = two_reports_that_wait(first, pod)
    assert first.stop() == 0
    operator.start()

    program = ("-c", WRONG_CLOCK.format(library=FAKETIME, offset=offset))
    wrong = Agent(first.node, operator.address, operator.credentials, program).wait_ready()
    wrong.wait_metric('submissions_total{code="UNAVAILABLE"}')
    assert str(wrong.lines("ready")[0]["time"])[:10] != str(first.lines("ready")[0]["time"])[:10]
    assert spooled(wrong) == waiting
    assert len(wrong.manifests()) == kept
    assert operator.calls == []
    assert wrong.stop() == 0

    start_agent().wait_ready()
    operator.wait_reports(2)
    assert sorted(operator.reports) == waiting
    assert len(operator.calls) == 2
