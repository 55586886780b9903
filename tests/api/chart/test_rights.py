"""The real operator with the environment and the rights that the chart gives it.

Whatever it may not do ends in its log as a refusal of the API server.
"""

import base64
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pytest

from stillframe import names
from tests.support.kube import Kube, Manifest, until

ROOT = Path(__file__).resolve().parents[3]
SYSTEM = "stillframe"
"""Namespace of the release."""
REPORT = {
    "apiVersion": names.API_VERSION,
    "kind": "CrashReport",
    "metadata": {"name": "gone"},
    "spec": {
        "workload": {"apiVersion": "v1", "kind": "Pod", "name": "p", "ref": "pod/p"},
        "container": "app",
        "signal": "SIGSEGV",
        "fingerprint": "v1:00",
    },
}


@dataclass(frozen=True)
class Operator:
    """A running operator and its log."""

    kube: Kube
    log: Path

    def object(self, what: str) -> Manifest:
        return self.kube.get(what, "-n", SYSTEM)


def kubeconfig_of(kube: Kube, account: str, path: Path) -> Path:
    """A kubeconfig at ``path`` for a service account of the release."""
    config = json.loads(kube.kubeconfig.read_text())
    token = kube.kubectl("create", "token", account, "-n", SYSTEM).strip()
    config["users"][0]["user"] = {"token": token}
    path.write_text(json.dumps(config))
    return path


@pytest.fixture(scope="module")
def operator(release: Kube, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Operator]:
    """The operator as its Deployment starts it, but for the ports and the kubelet."""
    directory = tmp_path_factory.mktemp("operator")
    pod = release.get("deployment", "stillframe-operator", "-n", SYSTEM)["spec"]["template"]["spec"]
    given = {entry["name"]: entry.get("value", "") for entry in pod["containers"][0]["env"]}
    given["STILLFRAME_OPERATOR_NAMESPACE"] = SYSTEM
    given["STILLFRAME_OPERATOR_IDENTITY"] = "replica"
    given |= {f"STILLFRAME_OPERATOR_{port}_PORT": "0" for port in ("WEBHOOK", "INTAKE", "HTTP")}
    kubeconfig = kubeconfig_of(release, "stillframe-operator", directory / "kubeconfig")
    folders = (str(ROOT / "src"), str(ROOT / "operator"))
    environment = os.environ | given
    environment |= {"KUBECONFIG": str(kubeconfig), "PYTHONPATH": os.pathsep.join(folders)}
    log = directory / "log"
    with log.open("wb") as output:
        command = [sys.executable, "-m", "stillframe_operator"]
        process = subprocess.Popen(command, env=environment, stdout=output, stderr=output)
        try:
            yield Operator(release, log)
        finally:
            process.terminate()
            process.wait(30)


def test_it_fills_in_the_ca(operator: Operator) -> None:
    def bundles() -> list[str]:
        found = operator.kube.get("mutatingwebhookconfiguration", "stillframe")["webhooks"]
        return [w["clientConfig"].get("caBundle", "") for w in found]

    until(lambda: all(bundles()), "the CA in both webhooks")
    public = operator.object(f"configmap/{names.CA_CONFIGMAP}")["data"]["ca.crt"]
    assert {base64.b64decode(b).decode() for b in bundles()} == {public}


def test_what_it_makes_goes_with_the_release(operator: Operator) -> None:
    """Kubernetes removes what is owned by the Deployment; there is no controller here to do it."""
    deployment = operator.object("deployment/stillframe-operator")
    for what in (
        f"secret/{names.CA_SECRET}",
        f"configmap/{names.CA_CONFIGMAP}",
        f"lease/{names.LEASE}",
    ):
        made = until(partial(operator.object, what), what)
        owners = [o["uid"] for o in made["metadata"]["ownerReferences"]]
        assert owners == [deployment["metadata"]["uid"]]


def delete_until_buried(operator: Operator) -> None:
    """Deletes reports until one is seen to go: kopf does not watch yet when the operator starts."""
    uids: list[str] = []

    def buried() -> bool:
        operator.kube.apply("default", REPORT)
        uids.append(operator.kube.get("crash", "gone", "-n", "default")["metadata"]["uid"])
        operator.kube.kubectl("delete", "crash", "gone", "-n", "default")
        tombstones = operator.object(f"configmap/{names.TOMBSTONES_CONFIGMAP}")
        return any(uid in tombstones.get("data", {}) for uid in uids)

    until(buried, "a tombstone")


def test_it_leads_and_is_refused_nothing(operator: Operator) -> None:
    delete_until_buried(operator)
    lines = operator.log.read_text().splitlines()
    assert [line for line in lines if "forbidden" in line.lower()] == []
