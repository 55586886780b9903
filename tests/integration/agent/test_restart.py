"""Bad luck: agents that die, operators that are away, and the report that comes once all the same.

Covers: no agent at the crash, an agent killed while it holds a process, an
agent killed at every stage, two agents, SIGTERM, a process killed while it
writes.
"""

import signal
import subprocess
import time
from collections.abc import Callable

import pytest
from stillframe_agent.manifest import Phase

from stillframe import names
from stillframe.corefile import CoreFile
from tests.integration.agent.intake import Operator
from tests.integration.agent.node import Agent, Node, Pod, wait_until


def test_a_crash_without_an_agent_is_picked_up_when_one_comes(
    pod: Pod, operator: Operator, start_agent: Callable[..., Agent]
) -> None:
    assert pod.crash().wait(timeout=20) == -signal.SIGSEGV
    assert len(pod.names()) == 1
    start_agent().wait_ready()
    (report,) = operator.wait_reports(1)
    assert not report.attested
    assert (report.release, report.held_millis) == ("no_agent", -1)
    assert (report.pod.uid, report.pod.name, report.pod.container) == (pod.uid, pod.name, "app")
    assert report.signal.name == "SIGSEGV"
    wait_until("an empty directory", lambda: pod.names() == [])


def test_an_agent_killed_while_holding_frees_the_process_and_loses_nothing(
    pod: Pod, operator: Operator, start_agent: Callable[..., Agent]
) -> None:
    first = start_agent().wait_ready()
    first.wait_watching(pod)
    victim = pod.crash("with_threads", 200, STILLFRAME_HOLD_MS=10_000)
    first.pause_at_claim(pod)
    wait_until("a complete snapshot", lambda: [n for n in pod.names() if n.endswith(".core")])
    assert victim.poll() is None, "not held"
    killed = time.monotonic()
    first.process.kill()
    assert victim.wait(timeout=20) == -signal.SIGSEGV
    first.process.wait()

    second = start_agent().wait_ready()
    (report,) = operator.wait_reports(1)
    assert report.signal.name == "SIGSEGV"
    wait_until("an empty directory", lambda: pod.names() == [])
    assert [manifest.report_id for manifest in second.manifests()] == [report.id]
    sample = second.node.state / names.ARTIFACTS_DIR / report.id
    note = CoreFile.from_bytes((sample / names.ARTIFACT_SNAPSHOT).read_bytes()).note
    assert note is not None
    # By the library's word: the end of 200 threads is not ours to time.
    assert note.fields.release_monotonic_ns / 1e9 - killed < 0.05


@pytest.mark.parametrize("delay_ms", [0, 2, 5, 10, 15, 20, 30, 50, 100, 150, 200])
def test_an_agent_killed_at_any_moment_leaves_exactly_one_report(
    pod: Pod, operator: Operator, start_agent: Callable[..., Agent], delay_ms: int
) -> None:
    first = start_agent().wait_ready()
    first.wait_watching(pod)
    victim = pod.crash("with_threads", 20)
    wait_until("the crash", lambda: pod.names() or first.manifests())
    time.sleep(delay_ms / 1000)  # the moment of death is what varies
    first.kill()
    assert victim.wait(timeout=20) == -signal.SIGSEGV

    second = start_agent().wait_ready()
    (report,) = operator.wait_reports(1)
    wait_until("an empty directory", lambda: pod.names() == [])
    wait_until("one sample", lambda: [m.phase for m in second.manifests()] == [Phase.REPORTED])
    assert second.manifests()[0].report_id == report.id
    assert {call.id for call in operator.calls} == {report.id}
    assert report.top_frame.startswith("null_read") or report.soft_errors


def test_an_agent_killed_before_the_analysis_resumes_it(
    pod: Pod, operator: Operator, start_agent: Callable[..., Agent]
) -> None:
    first = start_agent().wait_ready()
    first.wait_watching(pod)
    pod.crash()
    wait_until("a captured sample", lambda: _phases(first) == [Phase.CAPTURED])
    first.kill()
    assert operator.calls == []
    start_agent().wait_ready()
    (report,) = operator.wait_reports(1)
    assert report.attested
    assert report.pod.container_id == pod.container_id
    assert any("restarted before the analysis" in error for error in report.soft_errors)


def test_with_the_operator_away_reports_wait_on_disk_and_arrive_once(
    pod: Pod, operator: Operator, start_agent: Callable[..., Agent]
) -> None:
    operator.stop()
    first = start_agent().wait_ready()
    first.wait_watching(pod)
    for _ in range(3):
        pod.crash().wait(timeout=20)
    first.wait_metric("spool_items", 3)
    assert len(list((first.node.state / names.SPOOL_DIR).glob("*.report"))) == 3
    first.kill()
    wait_until("an unmount", lambda: pod.tear_down() or pod.unmount())
    second = start_agent().wait_ready()
    assert second.metric("spool_items") == 3
    operator.start()
    operator.wait_reports(3)
    wait_until("an empty spool", lambda: second.metric("spool_items") == 0)
    assert len(operator.calls) == 3


def test_a_second_agent_waits_for_the_first(
    pod: Pod, operator: Operator, start_agent: Callable[..., Agent]
) -> None:
    first = start_agent().wait_ready()
    first.wait_watching(pod)
    second = start_agent()
    second.wait_logged("another agent works on this node: waiting for its end")
    assert second.get("/readyz") == (503, "waiting for the spool\n")
    pod.crash().wait(timeout=20)
    operator.wait_reports(1)
    assert first.stop() == 0
    second.wait_ready().wait_watching(pod)
    pod.crash().wait(timeout=20)
    assert len(operator.wait_reports(2)) == 2


def test_sigterm_takes_the_beacons_away_and_ends_in_time(agent: Agent, pod: Pod) -> None:
    agent.wait_watching(pod)
    stopping = time.monotonic()
    assert agent.stop() == 0
    assert time.monotonic() - stopping < 5
    assert not agent.watching(pod)
    assert [line["message"] for line in agent.lines()][-1] == "stopped"


def test_sigterm_during_a_hold_still_finishes_the_capture(
    pod: Pod, operator: Operator, start_agent: Callable[..., Agent]
) -> None:
    first = start_agent().wait_ready()
    first.wait_watching(pod)
    victim = pod.crash("with_threads", 200, STILLFRAME_HOLD_MS=10_000)
    first.pause_at_claim(pod)
    first.process.send_signal(signal.SIGTERM)
    first.process.send_signal(signal.SIGCONT)
    assert victim.wait(timeout=20) == -signal.SIGSEGV
    assert first.process.wait(timeout=5) == 0
    start_agent().wait_ready()
    (report,) = operator.wait_reports(1)
    assert report.attested


def test_a_process_killed_while_it_writes_leaves_nothing_behind(
    agent: Agent, node: Node, operator: Operator
) -> None:
    """What it had written is reported if it says anything, and refused with a reason if not."""
    pod = Pod(node).set_up()
    agent.wait_watching(pod)
    missed = 0
    while not (victim := _killed_while_it_writes(pod)):
        missed += 1  # a whole snapshot, and a whole report
        assert missed < 20
    victim.wait(timeout=20)
    # ForgedLock: it died between the two looks that find a lock and its descriptor.
    reasons = ("Truncated", "NotElf", "ForgedLock")

    def refused() -> float:
        return sum(agent.metric(f'refusals_total{{reason="{reason}"}}') for reason in reasons)

    wait_until("a refusal or a report", lambda: refused() or len(operator.calls) > missed)
    wait_until("an empty directory", lambda: pod.names() == [])
    pod.crash().wait(timeout=20)
    assert operator.wait_reports(missed + (1 if refused() else 2))[-1].attested


def _killed_while_it_writes(pod: Pod) -> "subprocess.Popen[str] | None":
    """A process that was killed while there was a ``.part``; None when it was too fast for us."""
    victim = pod.crash("with_threads", 200)
    while victim.poll() is None:  # no pause: it takes 5 ms
        if any(name.endswith(".part") for name in pod.names()):
            victim.kill()
            return victim
    return None


def _phases(agent: Agent) -> list[Phase]:
    return [manifest.phase for manifest in agent.manifests()]
