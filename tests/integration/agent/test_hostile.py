"""What a pod may put into its volume, and what comes of it: a counted reason, nothing else.

Covers: every kind of forged file, a process of another pod, a process of no
pod, a snapshot that claims to be another process's, a pod that floods.
"""

import os
import shutil
import signal
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.integration.agent.intake import Operator
from tests.integration.agent.node import Agent, Node, Pod, wait_until

NAME = "0123456789abcdef0123456789abcdef.core"
_NOTE_PID_OFFSET = 32
"""Of ``pid`` in struct sf_note (preload/src/note.h)."""


FORGER = """
import fcntl, pathlib, signal, sys
data, directory = pathlib.Path(sys.argv[1]).read_bytes(), pathlib.Path(sys.argv[2])
held = []
for number in range(int(sys.argv[4])):
    path = directory / f".{number:032x}"
    held.append(path.open("xb", buffering=0))
    fcntl.lockf(held[-1], fcntl.LOCK_EX, 1)
    held[-1].write(data)
    path.rename(directory / f"{number:032x}{sys.argv[3]}")
signal.pause()
"""
"""Writes so many copies of a file under final names, holds their locks and lives on."""


def _symlink(path: Path) -> None:
    path.symlink_to("/etc/shadow")


def _sparse(path: Path) -> None:
    with path.open("wb") as file:
        file.truncate(1 << 30)


def _truncated_elf(path: Path) -> None:
    path.write_bytes(Path("/bin/true").read_bytes()[:100])


def _own_executable(path: Path) -> None:
    shutil.copy("/bin/true", path)


FORGERIES: dict[str, tuple[Callable[[Path], None], str]] = {
    "symlink": (_symlink, "Symlink"),
    "fifo": (os.mkfifo, "NotRegular"),
    "sparse": (_sparse, "TooLarge"),
    "empty": (Path.touch, "NotElf"),
    "text": (lambda path: path.write_text("core " * 1000) and None, "NotElf"),
    "truncated": (_truncated_elf, "Truncated"),
    "executable": (_own_executable, "NotCore"),
    "directory": (Path.mkdir, "NotRegular"),
}


@pytest.mark.parametrize("kind", FORGERIES)
def test_a_forged_file_is_refused_with_its_reason(
    agent: Agent, pod: Pod, operator: Operator, kind: str
) -> None:
    forge, reason = FORGERIES[kind]
    agent.wait_watching(pod)
    forge(pod.directory / f".{NAME}")
    (pod.directory / f".{NAME}").rename(pod.directory / NAME)
    agent.wait_metric(f'refusals_total{{reason="{reason}"}}')
    if kind != "directory":
        wait_until("an empty directory", lambda: pod.names() == [])
    assert agent.manifests() == []

    pod.crash().wait(timeout=20)
    (report,) = operator.wait_reports(1)
    assert report.attested


def test_a_process_of_another_pod_is_refused(agent: Agent, node: Node, operator: Operator) -> None:
    mine, other = Pod(node).set_up(), Pod(node, name="other").set_up()
    agent.wait_watching(mine)
    intruder = Pod(node, uid=other.uid, container_id=other.container_id)
    intruder._volume = mine._volume
    assert intruder.crash().wait(timeout=20) == -signal.SIGSEGV
    agent.wait_metric('refusals_total{reason="OtherPod"}')
    assert agent.manifests() == []
    assert operator.calls == []


def test_a_process_of_no_pod_is_refused(agent: Agent, node: Node, operator: Operator) -> None:
    pod = Pod(node).set_up()
    agent.wait_watching(pod)
    pod.container_id = "not-a-container"
    pod.cgroup.mkdir()
    assert pod.crash().wait(timeout=20) == -signal.SIGSEGV
    agent.wait_metric('refusals_total{reason="NoPod"}')
    assert operator.calls == []


def test_a_snapshot_that_claims_another_process_is_not_attributed(
    agent: Agent, pod: Pod, operator: Operator
) -> None:
    agent.wait_watching(pod)
    pod.crash().wait(timeout=20)
    (first,) = operator.wait_reports(1)
    genuine = agent.node.state / "artifacts" / first.id / "snapshot.core"
    core = bytearray(genuine.read_bytes())
    pid_at = core.index(b"STILLFRAME\0\0") + 12 + _NOTE_PID_OFFSET
    core[pid_at : pid_at + 4] = (4242).to_bytes(4, "little")
    forged = agent.node.directory / "forged"
    forged.write_bytes(core)

    process = pod.start(sys.executable, "-c", FORGER, forged, pod._volume.path, ".core", 1)
    reports = operator.wait_reports(2)
    process.kill()
    (second,) = (report for report in reports if report.id != first.id)
    assert not second.attested
    assert second.pod.uid == pod.uid
    assert any("4242" in error for error in second.soft_errors)


def test_a_flood_is_cut_off_and_others_are_served(
    agent: Agent, node: Node, operator: Operator
) -> None:
    flooding, other = Pod(node).set_up(), Pod(node, name="quiet").set_up()
    agent.wait_watching(flooding)
    agent.wait_watching(other)
    for number in range(1000):
        (flooding.directory / f"{number:032x}.core").write_text("junk")
    other.crash().wait(timeout=20)
    (report,) = operator.wait_reports(1)
    assert report.pod.uid == other.uid
    assert report.held_millis < 250
    wait_until("an empty directory", lambda: flooding.names() == [])
    reasons = ("PodRateLimited", "PodQueueFull", "NotElf")
    counted = [agent.metric(f'refusals_total{{reason="{reason}"}}') for reason in reasons]
    assert sum(counted) == 1000
    assert counted[2] <= 64, "more captured than the pod's burst"


def test_a_pod_that_never_completes_its_snapshots_does_not_delay_others(
    agent: Agent, node: Node, operator: Operator
) -> None:
    stalling, other = Pod(node).set_up(), Pod(node, name="quiet").set_up()
    agent.wait_watching(stalling)
    agent.wait_watching(other)
    stalling.start(sys.executable, "-c", FORGER, "/dev/null", stalling._volume.path, ".part", 40)
    wait_until("a queue", lambda: agent.metric("captures_waiting") >= 36)
    other.crash().wait(timeout=20)
    (report,) = operator.wait_reports(1)
    assert report.pod.uid == other.uid
    assert report.attested
    assert report.held_millis < 250
