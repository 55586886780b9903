"""The warnings of the chart's policy on a real API server.

Aspects: each thing a newcomer tries first gets the command that works, what has an effect is not
warned about, and what other people wrote is never repeated in a command.
"""

import itertools
import json
import re
import shlex
from typing import Any

import pytest

from stillframe.names import ANNOTATION_CAPTURE
from tests.support.kube import Kube, Manifest, until

POD_SPEC = {"containers": [{"name": "app", "image": "none"}], "automountServiceAccountToken": False}


@pytest.fixture(scope="module", autouse=True)
def enforced(release: Kube) -> None:
    """The API server takes a policy over some time after it was made."""
    values = itertools.count()
    until(
        lambda: annotate(release, "default", "namespace/default", f"try-{next(values)}"),
        "the policy to be enforced",
    )


def workload(kind: str, annotations: Manifest | None = None) -> Manifest:
    """A Deployment, StatefulSet, DaemonSet, Job or CronJob; ``annotations`` go to its pods."""
    labels = {"app": "cart"}
    template: Manifest = {
        "metadata": {"labels": labels, "annotations": annotations or {}},
        "spec": POD_SPEC,
    }
    spec: Manifest = {"template": template, "selector": {"matchLabels": labels}}
    if kind in ("Job", "CronJob"):
        template["spec"] = {**POD_SPEC, "restartPolicy": "Never"}
        del spec["selector"]
    if kind == "StatefulSet":
        spec["serviceName"] = "cart"
    if kind == "CronJob":
        spec = {"schedule": "0 0 1 1 *", "jobTemplate": {"spec": spec}}
    return {
        "apiVersion": "batch/v1" if kind in ("Job", "CronJob") else "apps/v1",
        "kind": kind,
        "metadata": {"name": "cart"},
        "spec": spec,
    }


def pod(owner: tuple[str, str] | None = None) -> Manifest:
    metadata: Manifest = {"name": "cart-pod"}
    if owner:
        kind, name = owner
        reference = {"apiVersion": "apps/v1", "kind": kind, "name": name, "uid": "1"}
        metadata["ownerReferences"] = [reference | {"controller": True}]
        metadata["labels"] = {"pod-template-hash": "6d4b"}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": POD_SPEC}


def annotate(kube: Kube, namespace: str, what: str, value: str) -> str:
    """Warnings that ``kubectl annotate`` shows."""
    setting = f"{ANNOTATION_CAPTURE}={value}" if value else f"{ANNOTATION_CAPTURE}-"
    return kube.run("kubectl", "annotate", "-n", namespace, "--overwrite", what, setting).stderr


def remedy(warning: str) -> list[str]:
    """The command in a warning, as a shell would split it."""
    found = re.search(r"kubectl .*", warning)
    assert found, f"no command in: {warning}"
    return shlex.split(found[0])


@pytest.mark.parametrize("kind", ["Deployment", "StatefulSet", "DaemonSet", "CronJob"])
def test_a_workloads_own_metadata(release: Kube, namespace: str, kind: str) -> None:
    release.apply(namespace, workload(kind))
    said = annotate(release, namespace, f"{kind}/cart", "core")
    assert f"no effect on the metadata of {kind.lower()}s" in said
    # What is printed works as it stands.
    release.run(*remedy(said))
    spec: Any = release.get(kind, "-n", namespace, "cart")["spec"]
    template = (spec["jobTemplate"]["spec"] if kind == "CronJob" else spec)["template"]
    assert template["metadata"]["annotations"] == {ANNOTATION_CAPTURE: "core"}


def test_a_workload_created_that_way(release: Kube, namespace: str) -> None:
    manifest = workload("Deployment")
    manifest["metadata"]["annotations"] = {ANNOTATION_CAPTURE: "snapshot"}
    assert "no effect on the metadata of deployments" in release.apply(namespace, manifest)


def test_a_job_cannot_be_patched(release: Kube, namespace: str) -> None:
    release.apply(namespace, workload("Job"))
    said = annotate(release, namespace, "job/cart", "snapshot")
    assert "no effect on the metadata of jobs" in said
    assert "create them again" in said


def test_a_running_pod_of_a_deployment(release: Kube, namespace: str) -> None:
    release.apply(namespace, workload("Deployment"), pod(("ReplicaSet", "cart-6d4b")))
    said = annotate(release, namespace, "pod/cart-pod", "snapshot")
    assert "no effect on a running pod" in said
    release.run(*remedy(said))
    deployment = release.get("deployment", "-n", namespace, "cart")
    annotations = deployment["spec"]["template"]["metadata"]["annotations"]
    assert annotations == {ANNOTATION_CAPTURE: "snapshot"}


@pytest.mark.parametrize("kind", ["StatefulSet", "DaemonSet"])
def test_a_running_pod_of_another_owner(release: Kube, namespace: str, kind: str) -> None:
    release.apply(namespace, pod((kind, "cart")))
    said = annotate(release, namespace, "pod/cart-pod", "snapshot")
    assert f"{kind.lower()}s/cart" in remedy(said)


def test_a_running_pod_without_owner(release: Kube, namespace: str) -> None:
    release.apply(namespace, pod())
    said = annotate(release, namespace, "pod/cart-pod", "snapshot")
    assert "create them again" in said
    assert "kubectl" not in said


def test_opting_a_running_pod_out(release: Kube, namespace: str) -> None:
    manifest = pod()
    manifest["metadata"]["annotations"] = {ANNOTATION_CAPTURE: "snapshot"}
    assert release.apply(namespace, manifest) == ""
    assert "no effect on a running pod" in annotate(release, namespace, "pod/cart-pod", "")


def test_a_namespaces_annotation(release: Kube, namespace: str) -> None:
    said = annotate(release, namespace, f"namespace/{namespace}", "snapshot")
    assert "no effect as an annotation of a namespace" in said
    release.run(*remedy(said))
    labels = release.get("namespace", namespace)["metadata"]["labels"]
    assert labels[ANNOTATION_CAPTURE] == "snapshot"


def test_what_has_an_effect_is_not_warned_about(release: Kube, namespace: str) -> None:
    for kind in ("Deployment", "CronJob"):
        manifest = workload(kind, {ANNOTATION_CAPTURE: "snapshot"})
        manifest["metadata"]["annotations"] = {ANNOTATION_CAPTURE: "snapshot"}
        assert release.apply(namespace, manifest) == ""


def test_other_changes_are_not_warned_about(release: Kube, namespace: str) -> None:
    release.apply(namespace, workload("Deployment"))
    assert annotate(release, namespace, "deployment/cart", "snapshot")
    label = ("kubectl", "label", "-n", namespace, "deployment/cart", "team=shop")
    assert release.run(*label).stderr == ""
    assert annotate(release, namespace, "deployment/cart", "") == ""


def test_foreign_words_are_never_part_of_a_command(release: Kube, namespace: str) -> None:
    """People paste what a warning says."""
    release.apply(namespace, workload("Deployment"), pod(("StatefulSet", "x;reboot")))
    said = annotate(release, namespace, "deployment/cart", "'; reboot #")
    assert "reboot" not in said
    template = json.loads(remedy(said)[-1])["spec"]["template"]
    assert template["metadata"]["annotations"] == {ANNOTATION_CAPTURE: "snapshot"}
    said = annotate(release, namespace, "pod/cart-pod", "snapshot")
    assert "no effect on a running pod" in said
    assert "reboot" not in said
