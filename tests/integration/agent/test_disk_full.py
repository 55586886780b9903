"""A full disk at every write of a sample, by a small tmpfs below the state directory.

Inodes are what it runs out of: then the n-th file cannot be made, exactly, and
the refusal is the kernel's own ENOSPC.

Covers: each file from the sample's directory to the acknowledgement; a core
for which there is no room; a disk that somebody else fills.
"""

import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest
from stillframe_agent.manifest import Phase

from stillframe import names
from stillframe.corefile import CoreFile
from tests.integration.agent.intake import Operator
from tests.integration.agent.node import Agent, Node, Pod, wait_until

ASKED = {names.ENV_CAPTURE: "core", names.ENV_HOLD_MS: "10000"}
NO_SPACE = "No space left on device"
PLENTY = 10_000
FILES = (
    *("directory", "manifest", "snapshot", "core", "facts", "second manifest"),
    *("report.json", "third manifest", "last manifest"),
)
"""What a sample needs one more inode for, in the order of its writes; the manifests after the
first need theirs for a moment only, and these are then report.txt's and the spooled report's."""


class Disk:
    """The node's state directory on a filesystem of its own."""

    def __init__(self, node: Node, options: str = "size=64m") -> None:
        self._node = node
        self.root = node.seen(node.state)
        node.run("mount", "-t", "tmpfs", "-o", options, "state", node.state)

    def leave(self, inodes: int) -> None:
        """Have room for so many more files."""
        status = os.statvfs(self.root)
        limit = status.f_files - status.f_ffree + inodes
        self._node.run("mount", "-o", f"remount,nr_inodes={limit}", self._node.state)

    def unfinished(self) -> list[str]:
        """Names of temporary files."""
        names_ = (path.name for path in self.root.glob("*/**/.*"))
        return [name for name in names_ if name != ".lock"]


def refusals(agent: Agent) -> list[str]:
    return [str(line["message"]) for line in agent.lines() if NO_SPACE in str(line["message"])]


def copies(disk: Disk) -> list[Path]:
    """Snapshots in the state directory."""
    return sorted(disk.root.glob(f"{names.ARTIFACTS_DIR}/*/{names.ARTIFACT_SNAPSHOT}"))


def test_a_disk_that_is_full_at_any_write_loses_nothing_and_leaves_nothing_half(
    node: Node, operator: Operator, start_agent: Callable[..., Agent]
) -> None:
    disk = Disk(node)
    agent = start_agent(retry_seconds=0.2).wait_ready()
    pod = Pod(node, env=ASKED).set_up()
    agent.wait_watching(pod)
    captured = {}
    for room, refused in enumerate(FILES):
        known = {call.id for call in operator.calls}
        before = len(refusals(agent))
        disk.leave(room)
        victim = pod.crash("null_read", **ASKED)
        assert victim.wait(timeout=20) == -signal.SIGSEGV
        wait_until(f"a refused {refused}", lambda b=before: len(refusals(agent)) > b)
        ours = [path for path in copies(disk) if path.parent.name not in known]
        assert pod.names() or ours, refused
        for path in ours:
            assert not CoreFile.from_bytes(path.read_bytes()).truncated

        disk.leave(PLENTY)
        wait_until(f"a report after a refused {refused}", lambda k=known: new(operator, k))
        report = operator.reports[new(operator, known).pop()]
        wait_until("it to be done", lambda i=report.id: done(agent, i))
        assert pod.names() == []
        assert disk.unfinished() == []
        captured[refused] = report.captured
        if refused not in FILES[:3]:  # the process was still there, and so were its files
            assert report.attested
            assert report.top_frame.startswith("null_read")
        if refused in FILES[3:6]:
            assert [error for error in report.soft_errors if f"[Errno 28] {NO_SPACE}" in error]
    assert {captured[file] for file in FILES[3:6]} == {"snapshot"}
    assert {captured[file] for file in FILES[6:]} == {"core"}
    assert len(operator.reports) == len(agent.manifests()) == len(FILES)
    assert agent.process.poll() is None


def test_an_acknowledgement_that_cannot_be_written_down_comes_again(
    node: Node, operator: Operator, start_agent: Callable[..., Agent]
) -> None:
    disk = Disk(node)
    agent = start_agent(retry_seconds=0.2).wait_ready()
    pod = Pod(node).set_up()
    agent.wait_watching(pod)
    operator.stop()
    pod.crash().wait(timeout=20)
    wait_until("a spooled report", lambda: [m.phase for m in agent.manifests()] == ["reported"])
    disk.leave(0)
    operator.start()
    wait_until("a refusal", lambda: refusals(agent))
    assert "our disk refused an acknowledgement" in refusals(agent)[0]
    disk.leave(PLENTY)
    wait_until("an empty spool", lambda: agent.metric("spool_items") == 0)
    (report_id,) = operator.reports
    assert done(agent, report_id)


def test_without_room_for_a_core_there_is_a_snapshot_and_the_reason(
    node: Node, operator: Operator, start_agent: Callable[..., Agent]
) -> None:
    Disk(node, "size=12m")
    agent = start_agent(max_snapshot_bytes=1 << 20).wait_ready()
    pod = Pod(node, env=ASKED).set_up()
    agent.wait_watching(pod)
    pod.crash("null_read", **ASKED).wait(timeout=20)
    (report,) = operator.wait_reports(1)
    assert report.captured == "snapshot"
    assert list(report.soft_errors) == ["no full core: the node's disk has no room for it"]


@pytest.mark.parametrize("filler", ["others", "ours"])
def test_on_a_full_disk_the_snapshot_stays_in_the_pod_until_there_is_room(
    node: Node, operator: Operator, start_agent: Callable[..., Agent], filler: str
) -> None:
    """Room comes from others, who free some, or from samples of ours that may go."""
    disk = Disk(node, "size=12m")
    settings = {"max_snapshot_bytes": 1 << 20, "retry_seconds": 0.2}
    agent = start_agent(**settings).wait_ready()
    pod = Pod(node).set_up()
    agent.wait_watching(pod)
    pod.crash().wait(timeout=20)
    (first,) = operator.wait_reports(1)
    wait_until("it to be done", lambda: done(agent, first.id))
    (sample,) = (path.parent for path in copies(disk))
    weight = (sample if filler == "ours" else disk.root) / "weight"
    with weight.open("wb") as file:
        os.posix_fallocate(file.fileno(), 0, 11 << 20)
    agent.kill()
    if filler == "ours":
        agent = start_agent(**settings).wait_ready()
        pod.crash().wait(timeout=20)
        operator.wait_reports(2)
        agent.wait_metric('artifacts_deleted_total{why="free-space"}')
        assert not sample.exists()
        return
    agent = start_agent(**settings).wait_ready()
    pod.crash().wait(timeout=20)
    agent.wait_logged("the node's disk has no room for a snapshot")
    assert len(pod.names()) == 1
    assert len(operator.reports) == 1
    weight.unlink()
    operator.wait_reports(2)
    wait_until("an empty directory", lambda: pod.names() == [])


def new(operator: Operator, known: set[str]) -> set[str]:
    return set(operator.reports) - known


def done(agent: Agent, report_id: str) -> bool:
    """Whether a sample has come to its end on disk, and its report has left the spool."""
    return agent.metric("spool_items") == 0 and any(
        manifest.phase is Phase.REPORTED and bool(manifest.crash_report_uid)
        for manifest in agent.manifests()
        if manifest.report_id == report_id
    )
