"""What the operator's tests ask of an API server without nodes: pods, deaths, tokens."""

import itertools
import json
from typing import Any

from tests.support.kube import Kube, Manifest

SYSTEM = "stillframe"
"""Namespace of the release."""
NODES = ("node-a", "node-b")
_numbers = itertools.count(1)


def namespace(kube: Kube, **labels: str) -> str:
    """Make a namespace with its default service account."""
    name = f"shop-{next(_numbers)}"
    metadata = {"name": name, "labels": labels}
    kube.apply("default", {"apiVersion": "v1", "kind": "Namespace", "metadata": metadata})
    kube.apply(name, account("default"))
    return name


def account(name: str) -> Manifest:
    return {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": name}}


def pod(name: str, node: str = NODES[0], *, injected: bool = False, **metadata: Any) -> Manifest:
    """A pod that fits *restricted*; ``injected`` as the webhook would have left it."""
    container: Manifest = {
        "name": "app",
        "image": "example/app:1",
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "capabilities": {"drop": ["ALL"]},
        },
    }
    spec: Manifest = {
        "nodeName": node,
        "containers": [container],
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": 1000,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
    }
    if injected:
        metadata.setdefault("labels", {})["stillframe.dev/injected"] = "true"
        container["volumeMounts"] = [{"name": "stillframe-shm", "mountPath": "/dev/shm/stillframe"}]
        spec["volumes"] = [{"name": "stillframe-shm", "emptyDir": {"medium": "Memory"}}]
    metadata["name"] = name
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec}


def created(kube: Kube, where: str, manifest: Manifest) -> Manifest:
    """Create ``manifest``; return it as the API server has it."""
    text = json.dumps(manifest)
    made = kube.kubectl("create", "-n", where, "-f", "-", "-o", "json", stdin=text)
    result: Manifest = json.loads(made)
    return result


def deployment_pod(kube: Kube, where: str, app: str, node: str = NODES[0]) -> Manifest:
    """A pod of Deployment ``app`` by way of its ReplicaSet, which it makes; once per namespace."""
    template = {
        "metadata": {"labels": {"app": app}},
        "spec": {"containers": [{"name": "app", "image": "example/app:1"}]},
    }
    replicas = created(
        kube,
        where,
        {
            "apiVersion": "apps/v1",
            "kind": "ReplicaSet",
            "metadata": {
                "name": f"{app}-5d4f8",
                "ownerReferences": [owner("apps/v1", "Deployment", app, "11-22")],
            },
            "spec": {"selector": {"matchLabels": {"app": app}}, "template": template},
        },
    )
    metadata = replicas["metadata"]
    owners = [owner("apps/v1", "ReplicaSet", metadata["name"], metadata["uid"])]
    name = f"{metadata['name']}-{next(_numbers):05d}"
    return created(kube, where, pod(name, node, ownerReferences=owners))


def owner(api_version: str, kind: str, name: str, uid: str) -> Manifest:
    return {
        "apiVersion": api_version,
        "kind": kind,
        "name": name,
        "uid": uid,
        "controller": True,
    }


def set_status(kube: Kube, made: Manifest, status: Manifest) -> None:
    """Write a pod's status, as its kubelet would."""
    metadata = made["metadata"]
    text = json.dumps({"status": status})
    where = ("-n", metadata["namespace"], metadata["name"])
    kube.kubectl("patch", "pod", *where, "--subresource=status", "--type=merge", "-p", text)


def forget(kube: Kube, made: Manifest) -> None:
    """Remove a pod at once: there is no kubelet to do it."""
    metadata = made["metadata"]
    options = ("--grace-period=0", "--force", "--wait=true")
    kube.kubectl("delete", "pod", "-n", metadata["namespace"], metadata["name"], *options)


def agent_token(
    kube: Kube, node: str, audience: str = "stillframe-intake", owner: str = "stillframe-agent"
) -> str:
    """A token as the kubelet would project it into the agent's pod on ``node``."""
    name = f"agent-{next(_numbers)}"
    manifest = pod(name, node)
    manifest["spec"]["serviceAccountName"] = owner
    made = created(kube, SYSTEM, manifest)
    bound = ("--bound-object-kind=Pod", f"--bound-object-name={name}")
    identity = f"--bound-object-uid={made['metadata']['uid']}"
    command = ("create", "token", owner, "-n", SYSTEM, f"--audience={audience}")
    return kube.kubectl(*command, *bound, identity).strip()


def events(kube: Kube, where: str, reason: str) -> list[Manifest]:
    return [event for event in listed(kube, where, "events") if event["reason"] == reason]


def crashreports(kube: Kube, where: str) -> list[Manifest]:
    return listed(kube, where, "crashreports")


def listed(kube: Kube, where: str, kind: str) -> list[Manifest]:
    items: list[Manifest] = kube.get(kind, "-n", where).get("items", [])
    return items
