"""The test cluster is a real Kubernetes, two of them get along, and neither leaves a trace.

Aspects: the host before and after, pods and Services across nodes, names, exec and logs, default
paths of a node, a daemon that is stopped, a second `up`.
"""

import difflib
import re
import subprocess
import time
from collections.abc import Iterator

import pytest

from tests.support.cluster import CLI, Cluster
from tests.support.kube import Kube, Manifest, until

BUSYBOX = "localhost/stillframe/busybox:dev"


def host_state() -> list[str]:
    """What a cluster could leave behind on the host, a line each.

    The whole host, but for the cgroups and mounts of integration tests that may run meanwhile.
    """
    commands = {
        "links": "ip -brief link",
        "addresses": "ip -brief address",
        "routes": "ip route show table all",
        "rules": "ip rule; nft list ruleset",
        "mounts": "cut -d' ' -f5- /proc/self/mountinfo",
        "cgroups": "find /sys/fs/cgroup -maxdepth 2 -type d",
        "sysctls": "sysctl -a --pattern '^(vm.overcommit|vm.panic|kernel.panic|net.netfilter)'",
        "run": "ls /run /var/lib /var/log /run/netns",
    }
    state = []
    for name, command in commands.items():
        done = subprocess.run(["sh", "-c", command], capture_output=True, text=True, check=False)
        state += [f"{name}: {line}" for line in done.stdout.splitlines()]
    return sorted(line for line in state if not re.search("pytest-of-|/stillframe-test-", line))


def processes_of(cluster: Cluster) -> str:
    """Processes that were given a path of the cluster's state."""
    pattern = f"/clusters/{cluster.name}/"
    command = ["pgrep", "--full", "--list-full", "--", pattern]
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    with Cluster("sfsmoke", nodes=2) as up:
        yield up


@pytest.fixture(scope="module")
def kube(cluster: Cluster) -> Kube:
    return cluster.kube


@pytest.fixture(scope="module")
def web(kube: Kube) -> Manifest:
    """A web server on each node, behind one Service; every answer is the pod's name."""
    serve = "mkdir /tmp/www && hostname > /tmp/www/index.html && exec httpd -f -p 8080 -h /tmp/www"
    container = {
        "name": "web",
        "image": BUSYBOX,
        "command": ["sh", "-c", f"echo serving; {serve}"],
        "readinessProbe": {"httpGet": {"port": 8080, "path": "/"}, "periodSeconds": 1},
    }
    labels = {"app": "web"}
    daemons: Manifest = {
        "apiVersion": "apps/v1",
        "kind": "DaemonSet",
        "metadata": {"name": "web"},
        "spec": {
            "selector": {"matchLabels": labels},
            "template": {
                "metadata": {"labels": labels},
                "spec": {"containers": [container], "terminationGracePeriodSeconds": 1},
            },
        },
    }
    service = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": "web"},
        "spec": {"selector": labels, "ports": [{"port": 80, "targetPort": 8080}]},
    }
    kube.apply("default", daemons, service)
    kube.kubectl("rollout", "status", "daemonset/web", "--timeout=60s")
    return kube.get("pods", "-l", "app=web")


def pod_names(web: Manifest) -> list[str]:
    names = [pod["metadata"]["name"] for pod in web["items"]]
    assert len(names) == 2, "one on each node"
    return names


def test_the_host_is_as_it_was_after_up_and_down() -> None:
    before = host_state()
    with Cluster("sftrace", nodes=2) as cluster:
        kube = cluster.kube
        kube.kubectl("run", "sleeper", f"--image={BUSYBOX}", "--", "sleep", "1000")
        kube.wait("default", "pod/sleeper", "condition=Ready")
        assert host_state() != before
        assert processes_of(cluster)
    assert processes_of(cluster) == ""
    changed = [line for line in difflib.ndiff(before, host_state()) if line[0] in "+-"]
    assert changed == []


def test_both_nodes_serve_behind_one_service(kube: Kube, web: Manifest) -> None:
    names = set(pod_names(web))
    proxied = "/api/v1/namespaces/default/services/web:80/proxy/"
    from_pod = ("exec", pod_names(web)[0], "--", "wget", "-qO-")
    by_name = (*from_pod, "http://web.default.svc.cluster.local/")
    for request in (("get", "--raw", proxied), by_name):
        answers = [kube.kubectl(*request).strip() for _ in range(16)]
        assert set(answers) == names


def test_a_pod_reaches_the_pod_on_the_other_node_from_its_own_address(
    kube: Kube, web: Manifest
) -> None:
    first, second = web["items"]
    url = f"http://{second['status']['podIP']}:8080/"
    answer = kube.kubectl("exec", first["metadata"]["name"], "--", "wget", "-qO-", url)
    assert answer.strip() == second["metadata"]["name"]


def test_logs_and_files_come_out(kube: Kube, web: Manifest) -> None:
    assert kube.kubectl("logs", pod_names(web)[0]) == "serving\n"


def test_a_node_has_the_default_paths_and_cgroups(
    cluster: Cluster, kube: Kube, web: Manifest
) -> None:
    pod = web["items"][0]
    name, uid, node = pod["metadata"]["name"], pod["metadata"]["uid"], pod["spec"]["nodeName"]
    assert f"default_{name}_{uid}" in cluster.exec(node, "ls", "/var/log/pods")
    assert uid in cluster.exec(node, "ls", "/var/lib/kubelet/pods")
    container = pod["status"]["containerStatuses"][0]["containerID"].removeprefix("containerd://")
    tasks = "/run/containerd/io.containerd.runtime.v2.task/k8s.io"
    pid = cluster.exec(node, "cat", f"{tasks}/{container}/init.pid")
    cgroups = cluster.exec(node, "cat", f"/proc/{pid.strip()}/cgroup")
    assert f"/kubepods/besteffort/pod{uid}/{container}" in cgroups


def test_an_api_server_that_is_stopped_is_down_until_it_is_started(
    cluster: Cluster, kube: Kube
) -> None:
    cluster.stop(1, "kube-apiserver")
    assert "refused" in kube.run("kubectl", "get", "nodes", check=False).stderr
    cluster.start(1, "kube-apiserver")
    ready = ("kubectl", "get", "--raw", "/readyz")
    until(lambda: kube.run(*ready, check=False).stdout == "ok", "the API server to be back", 20)


def test_up_again_is_quick_and_changes_nothing(cluster: Cluster, kube: Kube) -> None:
    def identity() -> list[str]:
        return [node["metadata"]["uid"] for node in kube.items("nodes")]

    nodes, before = identity(), time.monotonic()
    command = [str(CLI), "up", "--name", cluster.name, "--nodes", str(cluster.nodes)]
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert time.monotonic() - before < 2
    assert "is up already" in said
    assert f"export KUBECONFIG={kube.kubeconfig}\n" in said
    assert identity() == nodes


def test_a_cluster_that_is_not_up_says_how_to_bring_it_up() -> None:
    with pytest.raises(AssertionError, match="cluster up --name sfnone"):
        Cluster("sfnone").exec(1, "true")
