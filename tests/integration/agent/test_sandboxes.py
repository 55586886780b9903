"""Pods whose image has the library, and that have nothing of ours: no volume, no annotation.

Covers: a crash from its first moment to the report, what is left when no agent was there, a pod
that has our volume as well, other pods left alone, the runtime's unmount, whatever a pod may put
where the directory belongs, a flood beside it.  What idling costs is in test_volumes.py.
"""

import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from stillframe import names
from tests.integration.agent.intake import Operator
from tests.integration.agent.node import Agent, ImagePod, Node, Pod, wait_until

LOOKS = 'wakeups_total{source="containers"}'


def test_a_crash_is_held_attested_and_reported(
    agent: Agent, node: Node, operator: Operator
) -> None:
    pod = ImagePod(node).set_up()
    agent.wait_watching(pod)
    assert pod.directory.stat().st_mode & 0o7777 == 0o777
    victim = pod.crash("null_read", STILLFRAME_CLAIM_MS=20_000)
    assert victim.wait(timeout=20) == -signal.SIGSEGV
    (report,) = operator.wait_reports(1)
    assert report.attested
    assert report.release == "done"
    assert (report.pod.uid, report.pod.container) == (pod.uid, pod.container)
    assert report.pod.container_id == pod.container_id
    assert list(report.soft_errors) == []
    wait_until("an empty directory", lambda: pod.names() == [])


def test_a_bundle_that_is_written_slowly_is_read_when_it_is_complete(
    agent: Agent, node: Node
) -> None:
    quick, slow = ImagePod(node).set_up(), ImagePod(node).set_up(marker=False)
    agent.wait_watching(quick)
    config = (node.bundles / quick.container_id / "config.json").read_text()
    config = config.replace(quick.sandbox_id, slow.sandbox_id)
    bundle = node.bundles / slow.container_id
    looks = agent.metric(LOOKS)
    bundle.mkdir()
    (bundle / "config.json").write_text(config[:100])
    agent.wait_metric(LOOKS, looks + 3)
    (bundle / "config.json").write_text(config)
    agent.wait_watching(slow)


def test_what_happened_without_an_agent_is_picked_up(
    node: Node, operator: Operator, start_agent: Callable[..., Agent]
) -> None:
    """The library has made the directory itself."""
    pod = ImagePod(node).set_up()
    assert pod.crash().wait(timeout=20) == -signal.SIGSEGV
    (name,) = pod.names()
    assert name.endswith(names.SUFFIX_CORE)
    start_agent().wait_ready()
    (report,) = operator.wait_reports(1)
    assert (report.pod.uid, report.attested) == (pod.uid, False)
    wait_until("an empty directory", lambda: pod.names() == [])


def test_a_pod_with_our_volume_and_with_an_image_that_has_the_library_has_both(
    agent: Agent, node: Node, operator: Operator
) -> None:
    """The runtime makes the place for the volume in the sandbox's /dev/shm, for root only."""
    injected = Pod(node).set_up()
    image = ImagePod(node, uid=injected.uid, name="beside", container="other").set_up(marker=False)
    node.run("mkdir", "-m", "755", image._volume.path)
    image.mark()
    for pod in (injected, image):
        agent.wait_watching(pod)
        assert pod.crash().wait(timeout=20) == -signal.SIGSEGV
    assert image.directory.stat().st_mode & 0o7777 == 0o777
    reports = operator.wait_reports(2)
    assert {report.pod.container for report in reports} == {"app", "other"}
    assert all(report.attested for report in reports)


def test_pods_that_do_not_ask_are_left_alone(agent: Agent, node: Node) -> None:
    """No directory, no lock, no watch."""
    plain = ImagePod(node, env={names.ENV_PRELOAD: "/opt/libjemalloc.so"}).set_up()
    elsewhere = ImagePod(node, env={names.ENV_DIR: "/tmp/stillframe"}).set_up()
    asking = ImagePod(node).set_up()
    agent.wait_watching(asking)
    assert list(plain.seen_shm.iterdir()) == []
    assert list(elsewhere.seen_shm.iterdir()) == []
    assert agent.metric("directories") == 1


def test_nobody_looks_for_images_where_it_is_switched_off(
    node: Node, start_agent: Callable[..., Agent]
) -> None:
    pod = ImagePod(node).set_up()
    agent = start_agent(image_libraries=False).wait_ready()
    assert list(pod.seen_shm.iterdir()) == []
    assert agent.metric(LOOKS) == 0


def test_the_runtime_unmounts_at_once_also_during_a_capture(
    agent: Agent, node: Node, operator: Operator
) -> None:
    pods = [ImagePod(node).set_up() for _ in range(10)]
    for pod in pods:
        agent.wait_watching(pod)
    pods[0].crash(STILLFRAME_HOLD_MS=20_000)
    agent.pause_at_claim(pods[0])
    for pod in pods:
        assert pod.tear_down()
        node.run("rmdir", pod.shm)
    agent.process.send_signal(signal.SIGCONT)
    (report,) = operator.wait_reports(1)
    assert report.attested
    wait_until("no directory", lambda: agent.metric("directories") == 0)
    wait_until("no descriptor", lambda: not _open_in(agent, node.sandbox_view))


def test_a_directory_that_the_pod_removed_is_found_again_with_the_next_container(
    agent: Agent, node: Node, operator: Operator
) -> None:
    pod = ImagePod(node).set_up()
    agent.wait_watching(pod)
    pod.directory.rmdir()
    assert pod.crash().wait(timeout=20) == -signal.SIGSEGV
    assert len(pod.names()) == 1, "the library's own, which nobody watches"
    pod.mark()
    (report,) = operator.wait_reports(1)
    assert report.pod.uid == pod.uid
    agent.wait_watching(pod)


def _symlink_to_node(path: Path) -> None:
    path.symlink_to("/tmp")


def _symlink_beside(path: Path) -> None:
    (path.parent / "other").mkdir()
    path.symlink_to("other")


@pytest.mark.parametrize(
    "put", [_symlink_to_node, _symlink_beside, Path.touch, os.mkfifo], ids=lambda put: put.__name__
)
def test_what_is_no_directory_is_told_and_harmless(
    agent: Agent, node: Node, operator: Operator, put: Callable[[Path], None]
) -> None:
    hostile, other = ImagePod(node).set_up(marker=False), ImagePod(node, name="quiet").set_up()
    put(hostile.directory)
    hostile.mark()
    agent.wait_metric("directories_failed_total")
    agent.wait_watching(other)
    assert "remove what the pod has put" in agent.get("/readyz")[1]
    assert other.crash().wait(timeout=20) == -signal.SIGSEGV
    (report,) = operator.wait_reports(1)
    assert report.attested
    assert hostile.tear_down()


def test_a_directory_that_is_full_already_costs_the_node_little(
    agent: Agent, node: Node, operator: Operator
) -> None:
    full, other = ImagePod(node).set_up(marker=False), ImagePod(node, name="quiet").set_up()
    full.directory.mkdir(mode=0o777)
    for number in range(20_000):
        (full.directory / f"junk{number}").touch()
    full.mark()
    for pod in (full, other):
        agent.wait_watching(pod)
    assert other.crash().wait(timeout=20) == -signal.SIGSEGV
    (report,) = operator.wait_reports(1)
    assert (report.pod.uid, report.attested) == (other.uid, True)
    assert agent.metric('refusals_total{reason="BadName"}') <= 1024


@pytest.mark.parametrize("watched", [False, True], ids=["before", "after"])
def test_a_mount_in_its_place_is_not_entered(agent: Agent, node: Node, watched: bool) -> None:
    """A privileged pod can mount with propagation to the node, also what never answers."""
    pod = ImagePod(node).set_up(marker=watched)
    if watched:
        agent.wait_watching(pod)
    else:
        node.run("mkdir", pod._volume.path)
    node.run("mount", "-t", "tmpfs", "tmpfs", pod._volume.path)
    pod.mark()
    agent.wait_metric("directories_failed_total")
    assert not agent.watching(pod)
    assert agent.metric("directories") == 0


def test_a_flood_beside_the_directory_does_not_even_wake_the_agent(
    start_agent: Callable[..., Agent], node: Node
) -> None:
    agent = start_agent(sync_seconds=3600).wait_ready()
    pod = ImagePod(node).set_up()
    agent.wait_watching(pod)
    before = agent.switches()
    for number in range(20_000):
        path = pod.seen_shm / f"torch_{number}"
        path.touch()
        path.unlink()
    assert agent.switches() - before < 20


def _open_in(agent: Agent, directory: Path) -> list[Path]:
    """What the agent has open below a directory, also when that is mounted no more."""
    links = []
    for fd in Path(f"/proc/{agent.pid}/fd").iterdir():
        try:
            links.append(fd.readlink())
        except FileNotFoundError:
            continue
    return [link for link in links if str(link).startswith((str(directory), "/stillframe"))]
