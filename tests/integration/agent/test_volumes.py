"""Volumes: noticed at once, never kept from the kubelet, and free while nothing happens.

Covers: the beacon's coming and going, the race with the kubelet's unmount,
leftovers at tear-down, the cost of idling.
"""

import time
from collections.abc import Callable

from tests.integration.agent.intake import Operator
from tests.integration.agent.node import Agent, ImagePod, Node, Pod, wait_until


def test_a_new_volume_is_watched_within_100_ms(agent: Agent, node: Node) -> None:
    elapsed = []
    for _ in range(5):
        pod = Pod(node)
        pod.set_up(marker=False)
        pod.mark()
        marked = time.monotonic()
        agent.wait_watching(pod)
        elapsed.append(time.monotonic() - marked)
    assert sorted(elapsed)[2] < 0.1, elapsed


def test_a_volume_without_the_kubelets_marker_is_not_held(agent: Agent, node: Node) -> None:
    unmarked, marked = Pod(node).set_up(marker=False), Pod(node).set_up()
    agent.wait_watching(marked)
    assert not agent.watching(unmarked)
    unmarked.mark()
    agent.wait_watching(unmarked)


def test_the_kubelet_can_always_unmount(agent: Agent, node: Node) -> None:
    """The first try may find the volume busy; the repetition half a second later may not."""
    pods = [Pod(node).set_up() for _ in range(20)]
    for pod in pods:
        agent.wait_watching(pod)
    at_once = 0
    for pod in pods:
        if pod.tear_down():
            at_once += 1
        else:
            wait_until("an unmount", pod.unmount, seconds=0.5)
    print(f"unmounted at the first try: {at_once} of {len(pods)}")
    wait_until("no directory", lambda: agent.metric("directories") == 0)


def test_a_volume_that_is_set_up_again_is_watched_again(agent: Agent, node: Node) -> None:
    pod = Pod(node).set_up()
    agent.wait_watching(pod)
    wait_until("an unmount", lambda: pod.tear_down() or pod.unmount())
    other = Pod(node, uid=pod.uid)
    node.run("mount", "-t", "tmpfs", "tmpfs", other._volume.path)
    other.mark()
    agent.wait_watching(other)


def test_what_is_left_at_tear_down_is_captured_first(
    node: Node, operator: Operator, start_agent: Callable[..., Agent]
) -> None:
    """The pod dies while no agent runs; its volume goes right after the next one came."""
    pod = Pod(node).set_up()
    pod.crash().wait(timeout=20)
    agent = start_agent().wait_ready()
    agent.wait_watching(pod)
    wait_until("an unmount", lambda: pod.tear_down() or pod.unmount())
    (report,) = operator.wait_reports(1)
    assert report.pod.uid == pod.uid


def test_idling_costs_nothing_per_pod(node: Node, start_agent: Callable[..., Agent]) -> None:
    pods = [(Pod if number % 2 else ImagePod)(node).set_up() for number in range(250)]
    agent = start_agent(sync_seconds=3600).wait_ready()
    for pod in pods:
        agent.wait_watching(pod)

    before, started = agent.switches(), time.monotonic()
    time.sleep(5)  # what is measured is that nothing happens in it
    per_second = (agent.switches() - before) / (time.monotonic() - started)
    resident = agent.memory_mib("VmRSS")
    print(f"{len(pods)} pods: {per_second:.2f} switches per second, {resident:.1f} MiB resident")
    assert per_second < 1
    assert resident <= 64
