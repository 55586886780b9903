"""What the agent may do, and what is left when the release is deleted.

Aspects: the agent's rights as the API server and the kernel have them; the artifacts pod has none;
a deleted release leaves the CRD and the reports, and injected pods run on.
"""

import json
from collections.abc import Callable
from typing import Any

from tests.e2e.conftest import SYSTEM, install
from tests.e2e.victims import IDLE, victim
from tests.support.cluster import Cluster
from tests.support.kube import Kube, Manifest, until

Reports = Callable[..., list[dict[str, Any]]]
CAP_DAC_READ_SEARCH, CAP_SYS_PTRACE = 2, 19
KINDS = (
    "configmaps,secrets,leases,serviceaccounts,roles,rolebindings,services,deployments,daemonsets,"
    "pods,poddisruptionbudgets,networkpolicies"
)
CLUSTER_KINDS = (
    "clusterroles,clusterrolebindings,mutatingwebhookconfigurations,validatingadmissionpolicies,"
    "validatingadmissionpolicybindings,priorityclasses"
)
OF_EVERY_NAMESPACE = {"configmap/kube-root-ca.crt", "serviceaccount/default"}


def pod_of(kube: Kube, component: str) -> Manifest:
    selector = f"app.kubernetes.io/component={component}"
    return kube.items("pods", "-n", SYSTEM, "-l", selector)[0]


def test_agent_has_two_capabilities_and_no_api_credentials(kube: Kube, nodes: Cluster) -> None:
    pod = pod_of(kube, "agent")
    spec = pod["spec"]
    (container,) = spec["containers"]
    context = container["securityContext"]

    assert spec["automountServiceAccountToken"] is False
    tokens = [
        source["serviceAccountToken"]["audience"]
        for volume in spec["volumes"]
        for source in volume.get("projected", {}).get("sources", [])
    ]
    assert tokens == ["stillframe-intake"]
    assert not context.get("privileged")
    assert context["readOnlyRootFilesystem"] is True
    assert context["capabilities"]["drop"] == ["ALL"]
    identity = pod["status"]["containerStatuses"][0]["containerID"].partition("://")[2]
    ours = f"grep -l {identity} /proc/[0-9]*/cgroup | cut -d/ -f3 | head -n 1"
    shell = f"grep CapEff /proc/$({ours})/status"
    said = nodes.exec(spec["nodeName"], "sh", "-c", shell)
    assert int(said.split()[1], 16) == 1 << CAP_DAC_READ_SEARCH | 1 << CAP_SYS_PTRACE


def test_artifacts_pod_has_no_rights(kube: Kube) -> None:
    spec = pod_of(kube, "artifacts")["spec"]

    assert not spec.get("hostPID")
    assert spec["automountServiceAccountToken"] is False
    for container in spec["containers"]:
        assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}
        assert not container["securityContext"].get("privileged")


def test_deleted_release_leaves_the_crd_the_reports_and_running_pods(
    kube: Kube, namespace: str, reports: Reports
) -> None:
    kube.apply(namespace, victim("reported", "null_read"), victim("stays", command=IDLE))
    kube.wait(namespace, "pod/stays", "condition=Ready")
    (report,) = reports(1)

    kube.run("helm", "uninstall", "stillframe", "-n", SYSTEM, "--wait", "--timeout", "120s")
    until(lambda: _left(kube) == [], f"nothing to be left, but there is {_left(kube)}", 60)
    assert kube.get("crd", "crashreports.stillframe.dev")
    assert kube.get("crash", "-n", namespace, report["metadata"]["name"])
    stays = kube.get("pod", "-n", namespace, "stays")["status"]["containerStatuses"][0]
    assert stays["ready"]
    assert stays["restartCount"] == 0

    install(kube)  # for the tests that follow


def _left(kube: Kube) -> list[str]:
    names = kube.kubectl("get", KINDS, "-n", SYSTEM, "-o", "name").split()
    everywhere = json.loads(kube.kubectl("get", CLUSTER_KINDS, "-o", "json"))["items"]
    ours = [
        f"{item['kind']}/{item['metadata']['name']}"
        for item in everywhere
        if "stillframe" in item["metadata"]["name"]
    ]
    bare = {name.replace(".coordination.k8s.io", "") for name in names} - OF_EVERY_NAMESPACE
    return sorted(bare) + ours
