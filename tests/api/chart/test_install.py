"""The chart on a real API server: lint, schema, install, upgrade, uninstall.

There is no node here; whether its pods run is for the e2e tier.
"""

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.kube import Kube, Manifest

ROOT = Path(__file__).resolve().parents[3]
CHART = ROOT / "deploy/helm/stillframe"
VALUES = sorted((CHART / "ci").glob("*-values.yaml"))
KINDS = (
    "deployments,daemonsets,services,poddisruptionbudgets,roles,rolebindings,clusterroles,"
    "clusterrolebindings,mutatingwebhookconfigurations,validatingadmissionpolicies,"
    "validatingadmissionpolicybindings"
)


def helm(kube: Kube, *arguments: str, check: bool = True) -> "subprocess.CompletedProcess[str]":
    return kube.run("helm", *arguments, check=check)


def install(kube: Kube, namespace: str, *options: str) -> str:
    command = ("upgrade", "--install", "stillframe", str(CHART), "--create-namespace")
    return helm(kube, *command, "--namespace", namespace, *options).stdout


def ours(kube: Kube, namespace: str) -> list[str]:
    """Names of what a release has made, CRDs left out."""
    label = "app.kubernetes.io/name=stillframe"
    found = kube.kubectl("get", KINDS, "-n", namespace, "-l", label, "-o", "name")
    accounts = kube.kubectl("get", "serviceaccounts", "-n", namespace, "-l", label, "-o", "name")
    return [*found.split(), *accounts.split()]


@pytest.fixture
def namespace(kube: Kube) -> Iterator[str]:
    """A namespace for a release, which is gone afterwards: a cluster has room for one."""
    name = "stillframe"
    yield name
    helm(kube, "uninstall", "stillframe", "--namespace", name, "--ignore-not-found")


def test_lint_is_strict_and_clean(kube: Kube) -> None:
    for values in VALUES:
        helm(kube, "lint", "--strict", str(CHART), "--values", str(values))


def test_the_rendered_examples_are_current(kube: Kube) -> None:
    kube.run(str(ROOT / "deploy/helm/render-examples"), "--check")


@pytest.mark.parametrize(
    ("setting", "complaint"),
    [
        ("agnet.resources=1", "additional properties 'agnet' not allowed"),
        ("agent.privileged=true", "additional properties 'privileged' not allowed"),
        ("capture.holdMillis=60000", "maximum"),
        ("capture.onHold=shutdownSockets", "allowShutdownSockets"),
        ("agent.settings.logLevel=debug", "does not match pattern"),
        ("image.registry=example.org/", "does not match pattern"),
    ],
)
def test_a_value_that_nothing_reads_is_refused(kube: Kube, setting: str, complaint: str) -> None:
    command = ("template", str(CHART), "--kube-version", "1.30.0", "--set", setting)
    done = helm(kube, *command, check=False)
    assert done.returncode != 0
    assert complaint in done.stderr


def test_old_clusters_are_refused(kube: Kube) -> None:
    done = helm(kube, "template", str(CHART), "--kube-version", "1.29.9", check=False)
    assert done.returncode != 0
    assert "requires kubeVersion: >=1.30" in done.stderr


@pytest.mark.parametrize("values", VALUES, ids=lambda file: file.stem)
def test_the_api_server_accepts_every_object(kube: Kube, values: Path) -> None:
    command = ("template", "stillframe", str(CHART), "--namespace", "default")
    rendered = helm(kube, *command, "--kube-version", "1.34.0", "--values", str(values)).stdout
    apply = ("kubectl", "apply", "--server-side", "--validate=strict", "-f", "-")
    said = kube.run(*apply, stdin=rendered)
    kube.run("kubectl", "delete", "-f", "-", stdin=rendered)
    assert "Warning" not in said.stderr


def test_notes_name_the_next_three_commands(kube: Kube, namespace: str) -> None:
    notes = install(kube, namespace)
    commands = [line.strip() for line in notes.splitlines() if line.startswith("     kubectl")]
    assert len(commands) == 4
    assert commands[0].startswith("kubectl patch deployment -n shop cart -p ")
    json.loads(commands[0].partition("-p '")[2].rstrip("'"))
    assert commands[1] == "kubectl get crashreports -A"
    assert commands[2] == "kubectl describe crashreports -n shop"
    # Only where the API server refuses the agent's pods.
    assert commands[3].startswith("kubectl label namespace stillframe pod-security")


def webhooks(kube: Kube) -> list[Manifest]:
    found: list[Manifest] = kube.get("mutatingwebhookconfiguration", "stillframe")["webhooks"]
    return found


def test_an_upgrade_keeps_the_ca_that_the_operator_filled_in(kube: Kube, namespace: str) -> None:
    install(kube, namespace)
    assert not any("caBundle" in w["clientConfig"] for w in webhooks(kube))
    path = "/webhooks/{}/clientConfig/caBundle"
    operations = [{"op": "add", "path": path.format(i), "value": "Q0E="} for i in range(2)]
    patch = ("patch", "mutatingwebhookconfiguration", "stillframe", "--type=json", "-p")
    kube.kubectl(*patch, json.dumps(operations))

    install(kube, namespace, "--set", "excludedNamespaces={kube-system,vault}")
    for webhook in webhooks(kube):
        assert webhook["clientConfig"]["caBundle"] == "Q0E="
        excluded = webhook["namespaceSelector"]["matchExpressions"][0]["values"]
        assert excluded == ["kube-system", "vault", namespace]


def test_uninstall_leaves_the_crd_and_the_reports(kube: Kube, namespace: str) -> None:
    install(kube, namespace)
    assert ours(kube, namespace)
    kube.kubectl("wait", "crd/crashreports.stillframe.dev", "--for=condition=Established")
    report = {
        "apiVersion": "stillframe.dev/v1alpha1",
        "kind": "CrashReport",
        "metadata": {"name": "kept"},
        "spec": {
            "workload": {"apiVersion": "v1", "kind": "Pod", "name": "p", "ref": "pod/p"},
            "container": "app",
            "signal": "SIGSEGV",
            "fingerprint": "v1:00",
        },
    }
    kube.apply("default", report)

    helm(kube, "uninstall", "stillframe", "--namespace", namespace)
    assert ours(kube, namespace) == []
    assert kube.get("crd", "crashreports.stillframe.dev")
    assert kube.get("crash", "-n", "default", "kept")

    # And a second installation takes the CRD over again.
    install(kube, namespace)
    assert kube.get("crash", "-n", "default", "kept")
