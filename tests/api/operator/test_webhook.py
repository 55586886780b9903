"""The webhook as the API server calls it, in a namespace that enforces PodSecurity *restricted*.

Aspects: both webhooks of the chart, quota and LimitRange, mistakes, and that an absent webhook
never blocks a pod.
"""

import json
from collections.abc import Iterator

import pytest

from tests.api.operator import cluster
from tests.api.operator.conftest import RunReplica
from tests.api.operator.process import Replica
from tests.support.kube import Kube, Manifest

RESTRICTED = {"pod-security.kubernetes.io/enforce": "restricted"}
WANTED = {"stillframe.dev/capture": "snapshot"}


@pytest.fixture(scope="module")
def operator(system: Kube, run_replica: RunReplica) -> Iterator[Replica]:
    """A replica that the chart's webhooks reach by URL: there is no Service without nodes."""
    with run_replica("webhook") as replica:
        point_webhooks(system, replica.webhook_port)
        yield replica


def point_webhooks(kube: Kube, port: int) -> None:
    """Replace the Service of both webhooks by a URL; the caBundle stays the operator's."""
    found = kube.get("mutatingwebhookconfiguration", "stillframe")
    for webhook in found["webhooks"]:
        config = webhook["clientConfig"]
        path = (config.pop("service", None) or {}).get("path") or (
            "/" + config["url"].split("/", 3)[3]
        )
        config["url"] = f"https://localhost:{port}{path}"
    kube.kubectl("replace", "-f", "-", stdin=json.dumps(found))


def dry_run(kube: Kube, where: str, manifest: Manifest) -> tuple[Manifest, str]:
    """What the API server would store, and its warnings."""
    command = ("kubectl", "create", "-n", where, "-f", "-", "-o", "json", "--dry-run=server")
    done = kube.run(*command, stdin=json.dumps(manifest))
    return json.loads(done.stdout), done.stderr


def injected(made: Manifest) -> bool:
    inits = made["spec"].get("initContainers", [])
    return [container["name"] for container in inits] == ["stillframe-init"]


def test_restricted_admits_an_annotated_pod_with_everything_we_add(
    system: Kube, operator: Replica
) -> None:
    shop = cluster.namespace(system, **RESTRICTED)
    made, warnings = dry_run(system, shop, cluster.pod("web", annotations=WANTED))
    assert injected(made)
    assert made["metadata"]["labels"]["stillframe.dev/injected"] == "true"
    assert made["spec"]["containers"][0]["env"][0]["name"] == "LD_PRELOAD"
    assert made["status"]["qosClass"] == "BestEffort"
    assert warnings == ""


def test_a_namespace_label_is_enough_and_off_wins(system: Kube, operator: Replica) -> None:
    shop = cluster.namespace(system, **RESTRICTED, **{"stillframe.dev/capture": "core"})
    made, _ = dry_run(system, shop, cluster.pod("web"))
    assert injected(made)
    assert made["metadata"]["annotations"]["stillframe.dev/capture"] == "core"
    off = {"stillframe.dev/capture": "off"}
    assert not injected(dry_run(system, shop, cluster.pod("web", annotations=off))[0])


def test_a_pod_that_did_not_ask_never_reaches_us(system: Kube, operator: Replica) -> None:
    def reviewed() -> float:
        results = ("injected", "skipped", "unchanged", "error")
        name = "stillframe_admissions_total"
        return sum(operator.metric(f'{name}{{result="{result}"}}') for result in results)

    shop = cluster.namespace(system, **RESTRICTED)
    before = reviewed()
    assert not injected(dry_run(system, shop, cluster.pod("web"))[0])
    assert reviewed() == before
    dry_run(system, shop, cluster.pod("web", annotations=WANTED))
    assert reviewed() > before


def test_our_own_namespace_is_never_injected(system: Kube, operator: Replica) -> None:
    made, _ = dry_run(system, cluster.SYSTEM, with_account(cluster.pod("web", annotations=WANTED)))
    assert not injected(made)


def with_account(manifest: Manifest) -> Manifest:
    manifest["spec"]["serviceAccountName"] = "stillframe-agent"
    return manifest


def test_a_guaranteed_pod_stays_guaranteed_under_quota_and_limit_range(
    system: Kube, operator: Replica
) -> None:
    shop = cluster.namespace(system, **RESTRICTED)
    resources = {"cpu": "500m", "memory": "64Mi"}
    quota = {
        f"{kind}.{name}": v for name, v in resources.items() for kind in ("requests", "limits")
    }
    system.apply(
        shop,
        {
            "apiVersion": "v1",
            "kind": "ResourceQuota",
            "metadata": {"name": "q"},
            "spec": {"hard": quota},
        },
        {
            "apiVersion": "v1",
            "kind": "LimitRange",
            "metadata": {"name": "l"},
            "spec": {
                "limits": [
                    {
                        "type": "Container",
                        "min": {"cpu": "400m", "memory": "32Mi"},
                        "default": {"cpu": "1", "memory": "1Gi"},
                    }
                ]
            },
        },
    )
    system.kubectl(
        "patch", "resourcequota", "-n", shop, "q", "--subresource=status", "--type=merge",
        "-p", json.dumps({"status": {"hard": quota, "used": dict.fromkeys(quota, "0")}}),
    )  # fmt: skip
    manifest = cluster.pod("web", annotations=WANTED)
    manifest["spec"]["containers"][0]["resources"] = {"limits": resources}
    made, _ = dry_run(system, shop, manifest)
    assert injected(made)
    assert made["status"]["qosClass"] == "Guaranteed"


def test_a_mistake_is_answered_with_a_warning_and_the_pod_starts(
    system: Kube, operator: Replica
) -> None:
    shop = cluster.namespace(system)
    annotations = {"stillframe.dev/capture": "snapshots"}
    made, warnings = dry_run(system, shop, cluster.pod("web", annotations=annotations))
    assert not injected(made)
    assert made["metadata"]["annotations"]["stillframe.dev/skip-reason"] == "InvalidCapture"
    assert "InvalidCapture" in warnings


def test_sockets_that_may_not_be_shut_down_are_a_warning(system: Kube, operator: Replica) -> None:
    shop = cluster.namespace(system, **RESTRICTED)
    asked = {"stillframe.dev/capture": "core", "stillframe.dev/on-hold": "shutdownSockets"}
    made, warnings = dry_run(system, shop, cluster.pod("web", annotations=asked))
    env = {entry["name"]: entry.get("value") for entry in made["spec"]["containers"][0]["env"]}
    assert env["STILLFRAME_ON_HOLD"] == "none"
    assert "stillframe.dev/on-hold 'shutdownSockets' is not allowed in this cluster" in warnings


def test_with_the_webhook_down_pods_still_start(system: Kube, operator: Replica) -> None:
    shop = cluster.namespace(system, **RESTRICTED)
    point_webhooks(system, 1)
    try:
        made, _ = dry_run(system, shop, cluster.pod("web", annotations=WANTED))
    finally:
        point_webhooks(system, operator.webhook_port)
    assert not injected(made)
