"""Bad input and bad luck in real pods.

Aspects: agent down at the crash; operator down, and the pod gone by then; webhook down; a pod that
has its own LD_PRELOAD, its own /dev/shm, a full /dev/shm; a pod that lies about who it is; deaths
nobody could snapshot; deleted reports; moved artifacts pods.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from tests.e2e.conftest import SYSTEM
from tests.e2e.victims import CRASH_ON_GO, EAT_MEMORY, GO_FILE, IDLE, victim
from tests.support.cluster import Cluster
from tests.support.kube import Kube, terminations, until

Reports = Callable[..., list[dict[str, Any]]]


@contextmanager
def _no_agents(kube: Kube) -> Iterator[None]:
    """Every agent pod is gone meanwhile; afterwards all are back and Ready."""
    away = '{"spec":{"template":{"spec":{"nodeSelector":{"nowhere":"1"}}}}}'
    back = '{"spec":{"template":{"spec":{"nodeSelector":{"nowhere":null}}}}}'
    selector = "app.kubernetes.io/component=agent"
    kube.kubectl("patch", "-n", SYSTEM, "daemonset/stillframe-agent", "-p", away)
    until(lambda: not kube.items("pods", "-n", SYSTEM, "-l", selector), "agents to go")
    try:
        yield
    finally:
        kube.kubectl("patch", "-n", SYSTEM, "daemonset/stillframe-agent", "-p", back)
        kube.kubectl("rollout", "status", "-n", SYSTEM, "daemonset/stillframe-agent")


@contextmanager
def _no_operator(kube: Kube) -> Iterator[None]:
    """No replica of the operator runs meanwhile; afterwards two are Ready."""
    deployment = ("-n", SYSTEM, "deployment/stillframe-operator")
    selector = "app.kubernetes.io/component=operator"
    kube.kubectl("scale", *deployment, "--replicas=0")
    until(lambda: not kube.items("pods", "-n", SYSTEM, "-l", selector), "the operator to go")
    try:
        yield
    finally:
        kube.kubectl("scale", *deployment, "--replicas=2")
        kube.kubectl("rollout", "status", *deployment)


def _wait_terminated(kube: Kube, namespace: str, name: str) -> dict[str, Any]:
    def ended() -> list[dict[str, Any]]:
        return list(terminations(kube.get("pod", "-n", namespace, name)))

    return until(ended, f"{name} to end")[-1]


def test_crash_without_an_agent_is_picked_up_when_it_is_back(
    kube: Kube, namespace: str, reports: Reports
) -> None:
    # A second container keeps the pod, and so its volume, alive.
    stays = {**victim("x", command=IDLE)["spec"]["containers"][0], "name": "stays"}
    pod = victim("early", "null_read")
    pod["spec"]["containers"].append(stays)
    with _no_agents(kube):
        kube.apply(namespace, pod)
        assert _wait_terminated(kube, namespace, "early")["exitCode"] == 139
    (report,) = reports(1, seconds=60)
    # The process is gone, and with it the way to its files: the frame has module and offset.
    assert report["status"]["topFrame"].startswith("crasher+0x")
    assert report["status"]["samples"]


def test_operator_away_means_exactly_one_report_later_though_the_pod_is_gone(
    kube: Kube, namespace: str, reports: Reports, nodes: Cluster
) -> None:
    kube.apply(namespace, victim("gone", command=CRASH_ON_GO))
    kube.wait(namespace, "pod/gone", "condition=Ready")
    node = kube.get("pod", "-n", namespace, "gone")["spec"]["nodeName"]
    spooled = ("sh", "-c", "ls /var/lib/stillframe/spool | wc -l")
    until(lambda: int(nodes.exec(node, *spooled)) == 0, "the spool to be empty")
    with _no_operator(kube):
        kube.kubectl("exec", "-n", namespace, "gone", "--", "touch", GO_FILE)
        _wait_terminated(kube, namespace, "gone")
        until(lambda: int(nodes.exec(node, *spooled)) > 0, "the report to be spooled")
        kube.kubectl("delete", "pod", "-n", namespace, "gone")
    (report,) = reports(1, seconds=90)
    verified = {c["type"]: c for c in report["status"]["conditions"]}["Verified"]
    assert (verified["status"], verified["reason"]) == ("False", "PodGone")


def test_webhook_down_lets_the_pod_start_and_somebody_is_told(kube: Kube, namespace: str) -> None:
    with _no_operator(kube):
        kube.apply(namespace, victim("bare", command=IDLE))
        kube.wait(namespace, "pod/bare", "condition=Ready")
    labels = kube.get("pod", "-n", namespace, "bare")["metadata"].get("labels", {})
    assert "stillframe.dev/injected" not in labels

    def told() -> str:
        field = "--field-selector=involvedObject.name=bare,type=Warning"
        text = kube.kubectl("get", "events", "-n", namespace, field)
        return text if "stillframe" in text.lower() or "NotInjected" in text else ""

    assert until(told, "an Event that says the pod runs without capture", 90)


def test_pod_with_its_own_preload_keeps_it(kube: Kube, namespace: str, reports: Reports) -> None:
    env = [{"name": "LD_PRELOAD", "value": "libm.so.6"}]
    kube.apply(namespace, victim("both", "null_read", container={"env": env}))
    reports(1)
    pod = kube.get("pod", "-n", namespace, "both")
    values = {e["name"]: e.get("value") for e in pod["spec"]["containers"][0]["env"]}
    assert values["LD_PRELOAD"].endswith(":libm.so.6")


@pytest.mark.parametrize("read_only", [False, True])
def test_pod_with_its_own_shm_is_captured(
    kube: Kube, namespace: str, reports: Reports, read_only: bool
) -> None:
    mount = {"name": "own", "mountPath": "/dev/shm", "readOnly": read_only}
    volumes = [{"name": "own", "emptyDir": {"medium": "Memory"}}]
    pod = victim("shm", "null_read", container={"volumeMounts": [mount]}, volumes=volumes)
    kube.apply(namespace, pod)
    (report,) = reports(1)
    assert report["status"]["topFrame"]


def test_pod_that_writes_another_identity_is_attributed_to_itself(
    kube: Kube, namespace: str, reports: Reports
) -> None:
    kube.apply(namespace, victim("honest", command=IDLE))
    kube.wait(namespace, "pod/honest", "condition=Ready")
    honest = kube.get("pod", "-n", namespace, "honest")["metadata"]["uid"]
    lies = [
        {"name": name, "value": value}
        for name, value in {
            "POD_NAME": "honest", "POD_UID": honest, "HOSTNAME": "honest",
            "STILLFRAME_POD_NAME": "honest", "STILLFRAME_POD_UID": honest,
        }.items()
    ]  # fmt: skip
    liar = victim("liar", "null_read", container={"env": lies}, hostname="honest")
    kube.apply(namespace, liar)
    (report,) = reports(1)
    assert {s["pod"] for s in report["status"]["samples"].values()} == {"liar"}


def test_oom_kill_is_recorded_without_a_stack_but_with_a_remedy(
    kube: Kube, namespace: str, reports: Reports
) -> None:
    limits = {"resources": {"limits": {"memory": "32Mi"}}}
    kube.apply(namespace, victim("hungry", command=EAT_MEMORY, container=limits))
    (report,) = reports(1, seconds=90)
    assert "out of memory" in report["status"]["cause"]
    assert report["status"]["message"]
    assert not report["status"].get("stack")


def test_deleting_a_report_deletes_its_artifacts_on_the_node(
    kube: Kube, namespace: str, reports: Reports, nodes: Cluster
) -> None:
    kube.apply(namespace, victim("deleted", "null_read"))
    (report,) = reports(1)
    ((sample_id, sample),) = report["status"]["samples"].items()
    path = f"/var/lib/stillframe/artifacts/{sample_id}"
    shell = f"test -e {path} && echo there || echo gone"
    assert nodes.exec(sample["node"], "sh", "-c", shell).strip() == "there"
    kube.kubectl("delete", "crashreport", "-n", namespace, report["metadata"]["name"])
    until(
        lambda: nodes.exec(sample["node"], "sh", "-c", shell).strip() == "gone",
        "artifacts to go",
        45,
    )


def test_fetch_command_follows_the_artifacts_pod(
    kube: Kube, namespace: str, reports: Reports
) -> None:
    kube.apply(namespace, victim("moved", "null_read"))
    (sample,) = reports(1)[0]["status"]["samples"].values()
    pod = sample["fetch"].split()[4].split(":")[0]
    kube.kubectl("delete", "pod", "-n", SYSTEM, pod)

    def moved() -> bool:
        (now,) = reports(1)[0]["status"]["samples"].values()
        command = now.get("fetch", "")  # none, while no pod serves
        return bool(pod not in command and "kubectl cp" in command)

    until(moved, "the fetch command to name the new pod", 60)
