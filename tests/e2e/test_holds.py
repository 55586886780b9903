"""What Kubernetes does to a pod whose process is held, and crashes of pods that are being deleted.

Aspects: a liveness probe that fails, within the grace period and beyond it; eviction, deletion by
force, and the drain of a node; crashes in the handler of SIGTERM, with a grace period of 0, 1 and
30 seconds; sockets of a held server.

A hold lasts as long as a full core takes, and one that is taken by a stopped process takes long.
"""

import json
import socket
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from typing import Any

import pytest

from tests.e2e.conftest import SYSTEM
from tests.e2e.victims import CRASH_ON_TERM, victim
from tests.support.cluster import Cluster
from tests.support.kube import Kube, Manifest, terminations, until

Reports = Callable[..., list[dict[str, Any]]]
SERVICE = {"image": "localhost/stillframe/demo:dev", "command": ["/segfault"]}
"""Answers GET / on port 8080, and dies of GET /crash."""
PROBE = {"httpGet": {"port": 8080, "path": "/"}, "periodSeconds": 1, "failureThreshold": 1}
SEGFAULT, KILLED = 139, 137
LONGEST_HOLD = 20
"""Seconds."""


@contextmanager
def _held(
    kube: Kube, namespace: str, nodes: Cluster, name: str, grace: int, **container: Any
) -> Iterator[str]:
    """A pod whose process has crashed and is held meanwhile; yields its node."""
    pod = victim(
        name,
        capture="core",
        restart="Always",
        container={**SERVICE, **container},
        terminationGracePeriodSeconds=grace,
    )
    pod["metadata"]["annotations"]["stillframe.dev/hold-timeout"] = f"{LONGEST_HOLD}s"
    kube.apply(namespace, pod)
    kube.wait(namespace, f"pod/{name}", "condition=Ready")
    started = kube.get("pod", "-n", namespace, name)
    node, uid = started["spec"]["nodeName"], started["metadata"]["uid"]
    tracers = ("sh", "-c", "pgrep -f '[s]tillframe.capture.tracer' || true")
    tracer = until(lambda: nodes.exec(node, *tracers).split(), "the agent's tracer to be ready")
    nodes.exec(node, "kill", "-STOP", *tracer)
    try:
        with socket.create_connection((started["status"]["podIP"], 8080)) as client:
            client.sendall(b"GET /crash HTTP/1.0\r\n\r\n")
        volume = f"/var/lib/kubelet/pods/{uid}/volumes/kubernetes.io~empty-dir/stillframe-shm"
        until(lambda: ".core" in nodes.exec(node, "ls", volume), f"{name} to crash")
        yield node
    finally:
        nodes.exec(node, "kill", "-CONT", *tracer)


def _require_report(reports: Reports, captured: str) -> dict[str, Any]:
    """The status of the one report that there is."""
    status: dict[str, Any] = reports(1)[0]["status"]
    (sample,) = status["samples"].values()
    assert status["topFrame"].startswith("parse_header (")
    assert sample["captured"] == captured
    assert ("no full core: the process was killed" in status["message"]) == (captured != "core")
    return status


def _verified(status: dict[str, Any]) -> str:
    """Why we believe whose crash it was, or do not."""
    conditions = {condition["type"]: condition["reason"] for condition in status["conditions"]}
    return str(conditions["Verified"])


@pytest.mark.parametrize("grace", [30, 1])
def test_a_failed_probe_ends_a_hold_with_the_grace_period(
    kube: Kube, namespace: str, reports: Reports, nodes: Cluster, grace: int
) -> None:
    code, captured = (SEGFAULT, "core") if grace > LONGEST_HOLD else (KILLED, "snapshot")

    def app() -> Manifest:
        pod = kube.get("pod", "-n", namespace, "probed")
        status: Manifest = pod["status"]["containerStatuses"][0]
        return status

    def killing() -> list[Manifest]:
        return kube.items("events", "-n", namespace, "--field-selector=reason=Killing")

    with _held(kube, namespace, nodes, "probed", grace, livenessProbe=PROBE):
        (event,) = until(killing, "the probe to fail")
        assert "failed liveness probe" in event["message"]
        if code == KILLED:
            until(lambda: app()["restartCount"], "a restart that waits for no agent")
        else:
            assert "running" in app()["state"]
    until(lambda: app()["restartCount"] and app()["ready"], "a restart")
    (ended,) = terminations(kube.get("pod", "-n", namespace, "probed"))
    assert (ended["exitCode"], ended["reason"]) == (code, "Error")
    _require_report(reports, captured)


@pytest.mark.parametrize("way", ["evict", "force"])
def test_a_pod_killed_during_a_hold_has_its_report(
    kube: Kube, namespace: str, reports: Reports, nodes: Cluster, way: str
) -> None:
    with _held(kube, namespace, nodes, "killed", grace=1) as node:
        if way == "evict":
            _evict(kube, namespace, "killed")
        else:
            kube.kubectl("delete", "pod", "-n", namespace, "killed", "--force", "--grace-period=0")
        until(lambda: not _processes(nodes, node), "the process to be killed")
    status = _require_report(reports, "snapshot")
    assert way == "evict" or _verified(status) == "PodGone"


def test_a_node_is_drained_when_the_hold_is_over(
    kube: Kube, namespace: str, reports: Reports, nodes: Cluster
) -> None:
    def deleted() -> str:
        pod = kube.get("pod", "-n", namespace, "drained")
        return str(pod["metadata"].get("deletionTimestamp", ""))

    options = ("--ignore-daemonsets", "--delete-emptydir-data", "--force", "--timeout=90s")
    with ExitStack() as afterwards:
        with _held(kube, namespace, nodes, "drained", grace=30) as node:
            afterwards.callback(_uncordon, kube, node)
            drain = kube.spawn("kubectl", "drain", node, *options)
            until(deleted, "the eviction")
            assert _processes(nodes, node)
            assert drain.poll() is None
        assert drain.wait() == 0
    _require_report(reports, "core")


def test_a_crash_on_sigterm_is_reported_whatever_the_grace_period(
    kube: Kube, namespace: str, reports: Reports
) -> None:
    graces = {"grace-0": 30, "grace-1": 1, "grace-30": 30}
    pods = [
        victim(name, command=CRASH_ON_TERM, terminationGracePeriodSeconds=seconds)
        for name, seconds in graces.items()
    ]
    kube.apply(namespace, *pods)
    for name in graces:
        kube.wait(namespace, f"pod/{name}", "condition=Ready")
    delete = ("delete", "pod", "-n", namespace)
    kube.kubectl(*delete, "grace-0", "--force", "--grace-period=0")
    kube.kubectl(*delete, "grace-1", "grace-30", "--wait=false")
    told = {report["status"]["lastPod"]: report["status"] for report in reports(3)}
    assert told.keys() == graces.keys()
    assert _verified(told["grace-0"]) == "PodGone"
    assert {status["topFrame"] for status in told.values()} == {"null_read (faults.c:10)"}


def _uncordon(kube: Kube, node: str) -> None:
    """Makes all as it was: the drain evicts one of the operator's replicas."""
    kube.kubectl("uncordon", node)
    kube.kubectl("rollout", "status", "-n", SYSTEM, "deployment/stillframe-operator")


def test_clients_of_a_held_server_fail_at_once_where_it_asks_for_that(
    kube: Kube, namespace: str, reports: Reports
) -> None:
    pod = victim("shut", capture="core", container=SERVICE)
    pod["metadata"]["annotations"]["stillframe.dev/on-hold"] = "shutdownSockets"
    kube.apply(namespace, pod)
    kube.wait(namespace, "pod/shut", "condition=Ready")
    address = kube.get("pod", "-n", namespace, "shut")["status"]["podIP"]
    with (
        socket.create_connection((address, 8080)) as client,
        socket.create_connection((address, 8080)) as waiting,
    ):
        client.sendall(b"GET /crash HTTP/1.0\r\n\r\n")
        with suppress(ConnectionResetError):
            assert waiting.recv(1) == b""
    status = _require_report(reports, "core")
    # The one that listens, and both clients', which its threads serve.
    assert "Note: sockets shut down while the process was held: 3" in status["message"]


def _evict(kube: Kube, namespace: str, pod: str) -> None:
    metadata = {"name": pod, "namespace": namespace}
    eviction = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": metadata}
    path = f"/api/v1/namespaces/{namespace}/pods/{pod}/eviction"
    kube.kubectl("create", "--raw", path, "-f", "-", stdin=json.dumps(eviction))


def _processes(nodes: Cluster, node: str) -> str:
    """The ids of `SERVICE`'s processes."""
    return nodes.exec(node, "sh", "-c", "pgrep -x segfault || true")
