"""Pods of every shape: each crashes once, and its report names the container.

Aspects: an init container, a native sidecar, a pid namespace that containers share, the node's pid
namespace, a pod whose image has the library, with nothing of ours, and that it ends in time; a
user namespace, which this cluster's runtime refuses.  A Job with restartPolicy Never is in
test_main_job.py.
"""

from collections.abc import Callable
from typing import Any

from tests.e2e.victims import CRASHER, IDLE, victim
from tests.support.kube import Kube, Manifest, until

Reports = Callable[..., list[dict[str, Any]]]
CRASH_ONCE = ("sh", "-c", f"mkdir /dev/shm/crashed && exec {CRASHER} null_read; exec sleep 1000")


def _container(name: str, *command: str, **fields: Any) -> Manifest:
    (container,) = victim("", command=command)["spec"]["containers"]
    return {**container, "name": name, **fields}


def _of_containers(named: str, pod: Manifest) -> Manifest:
    """The same pod, of which the named containers are captured."""
    pod["metadata"]["annotations"]["stillframe.dev/containers"] = named
    return pod


def _init_container() -> Manifest:
    migrate = _container("migrate", CRASHER, "null_read")
    pod = victim("init-container", command=IDLE, initContainers=[migrate])
    return _of_containers("app,migrate", pod)


def _sidecar() -> Manifest:
    proxy = _container("proxy", *CRASH_ONCE, restartPolicy="Always")
    return _of_containers("proxy", victim("sidecar", command=IDLE, initContainers=[proxy]))


def _shared_pids() -> Manifest:
    """PID 1 of all containers is the sandbox's."""
    pod = victim("shared-pids", command=IDLE, shareProcessNamespace=True)
    pod["spec"]["containers"].append(_container("second", CRASHER, "null_read"))
    return pod


def _ships_the_library(name: str, *death: str, **fields: Any) -> Manifest:
    """Asks for nothing, and has nothing of ours but the library and variables.

    As an image with the library in it does; here an init container fetches it.
    """
    library = {"name": "library", "mountPath": "/opt/stillframe"}
    fetch = _container("fetch", image="localhost/stillframe/injector:dev", volumeMounts=[library])
    del fetch["command"]
    env = {
        "LD_PRELOAD": "/opt/stillframe/libstillframe.so",
        "STILLFRAME_CAPTURE": "core",
        "STILLFRAME_HOLD_MS": "10000",
    }
    app = {
        "env": [{"name": name, "value": value} for name, value in env.items()],
        "volumeMounts": [library],
    }
    return victim(
        name,
        *death,
        capture=None,
        container=app,
        initContainers=[{**fetch, "args": ["/opt/stillframe"]}],
        volumes=[{"name": "library", "emptyDir": {}}],
        **fields,
    )


def test_each_shape_of_pod_has_its_report(kube: Kube, namespace: str, reports: Reports) -> None:
    crashed = [
        (_init_container(), "migrate"),
        (_sidecar(), "proxy"),
        (_shared_pids(), "second"),
        (victim("host-pids", "null_read", hostPID=True), "app"),
        (_ships_the_library("ships-the-library", "null_read"), "app"),
    ]
    _allow_host_pids(kube, namespace)
    kube.apply(namespace, *(pod for pod, _ in crashed))
    told = [(report["spec"], report["status"]) for report in reports(len(crashed))]
    containers = {pod["metadata"]["name"]: container for pod, container in crashed}
    assert {spec["workload"]["name"]: spec["container"] for spec, _ in told} == containers
    for _, status in told:
        assert status["topFrame"] == "null_read (faults.c:10)"
        reasons = {condition["type"]: condition["reason"] for condition in status["conditions"]}
        assert reasons["Verified"] == "Attested"
        level = "Core" if status["lastPod"] == "ships-the-library" else "Snapshot"
        assert reasons["Captured"] == level


def test_a_pod_whose_image_has_the_library_goes_in_time_when_it_is_deleted(
    kube: Kube, namespace: str
) -> None:
    """The agent has the sandbox's /dev/shm open until the runtime unmounts it."""
    pods = [
        _ships_the_library("ships-the-library", command=IDLE),
        victim("plain", command=IDLE, capture=None),
    ]
    kube.apply(namespace, *pods)
    names = [pod["metadata"]["name"] for pod in pods]
    for name in names:
        kube.kubectl("wait", "-n", namespace, f"pod/{name}", "--for=condition=Ready")
    directory = "/dev/shm/stillframe"
    kube.kubectl("exec", "-n", namespace, names[0], "-c", "app", "--", "test", "-w", directory)
    assert "none" in kube.kubectl(
        "exec", "-n", namespace, names[1], "--", "sh", "-c", f"test -e {directory} || echo none"
    )
    kube.kubectl("delete", "pod", "-n", namespace, "--timeout=20s", *names)


def test_a_user_namespace_is_refused_by_the_runtime_not_by_us(kube: Kube, namespace: str) -> None:
    """Once it is not, this pod belongs to those above."""
    kube.apply(namespace, victim("user-namespace", "null_read", hostUsers=False))

    def refused() -> list[str]:
        field = "--field-selector=reason=FailedCreatePodSandBox"
        return [event["message"] for event in kube.items("events", "-n", namespace, field)]

    assert until(refused, "the kubelet's word")[0].endswith(
        "can't set `spec.hostUsers: false`, runtime does not support user namespaces"
    )
    labels = kube.get("pod", "-n", namespace, "user-namespace")["metadata"]["labels"]
    assert labels["stillframe.dev/injected"] == "true"


def _allow_host_pids(kube: Kube, namespace: str) -> None:
    """PodSecurity's other levels forbid them."""
    level = "pod-security.kubernetes.io/enforce=privileged"
    kube.kubectl("label", "namespace", namespace, level, "--overwrite")
