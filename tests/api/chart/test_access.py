"""Who may do what, asked of the real authorizer and of Pod Security.

Aspects: people with the roles that aggregate to view and edit, the operator's account, the accounts
without rights, and which pods a *restricted* namespace takes.
"""

import json
import uuid
from pathlib import Path

import pytest
import yaml

from tests.support.kube import Kube, Manifest

EXAMPLE = Path(__file__).resolve().parents[3] / "examples/segfault.yaml"
SYSTEM = "stillframe"
"""Namespace of the release."""


def may(kube: Kube, user: str, verb: str, what: str, namespace: str = "default") -> bool:
    """Whether ``user`` may ``verb`` ``what``: resource, resource/name or resource:subresource."""
    resource, _, subresource = what.partition(":")
    command = ["kubectl", "auth", "can-i", verb, resource, "-n", namespace, "--as", user]
    if subresource:
        command += [f"--subresource={subresource}"]
    return kube.run(*command, check=False).stdout.strip() == "yes"


def account(component: str) -> str:
    return f"system:serviceaccount:{SYSTEM}:stillframe-{component}"


@pytest.fixture
def person(release: Kube) -> str:
    """A user without any role."""
    return f"person-{uuid.uuid4().hex[:8]}"


def bind(kube: Kube, user: str, *roles: str) -> None:
    for role in roles:
        name = f"{user}-{role}"
        options = (f"--clusterrole={role}", f"--user={user}", "-n", "default")
        kube.kubectl("create", "rolebinding", name, *options)


def test_view_reads_reports(release: Kube, person: str) -> None:
    bind(release, person, "stillframe-view")
    assert may(release, person, "list", "crashreports.stillframe.dev")
    for verb in ("create", "patch", "delete"):
        assert not may(release, person, verb, "crashreports.stillframe.dev")


def test_edit_triages_and_deletes_but_writes_no_report(release: Kube, person: str) -> None:
    bind(release, person, "stillframe-edit")
    for verb in ("patch", "update", "delete"):
        assert may(release, person, verb, "crashreports.stillframe.dev")
    assert not may(release, person, "create", "crashreports.stillframe.dev")
    assert not may(release, person, "patch", "crashreports.stillframe.dev:status")


def test_the_operator_reaches_its_own_secret_only(release: Kube) -> None:
    operator = account("operator")
    assert may(release, operator, "get", "secret/stillframe-ca", SYSTEM)
    assert not may(release, operator, "get", "secret/other", SYSTEM)
    assert not may(release, operator, "list", "secrets", SYSTEM)
    assert not may(release, operator, "get", "secret/stillframe-ca")


def test_the_operator_changes_nothing_but_reports(release: Kube) -> None:
    operator = account("operator")
    assert may(release, operator, "update", "crashreports.stillframe.dev:status")
    assert not may(release, operator, "update", "crashreports.stillframe.dev")
    for verb in ("create", "update", "patch", "delete"):
        assert not may(release, operator, verb, "pods")
    assert not may(release, operator, "create", "pods:exec")


@pytest.mark.parametrize("component", ["agent", "artifacts"])
def test_agent_and_artifacts_have_no_rights(release: Kube, component: str) -> None:
    rules = ("auth", "can-i", "--list", "--no-headers", "-n", SYSTEM, "--as", account(component))
    resources = [line.split()[0] for line in release.kubectl(*rules).splitlines()]
    anybody = ("selfsubject", "[/")
    assert [r for r in resources if not r.startswith(anybody)] == []


def restricted(kube: Kube, namespace: str, template: Manifest) -> str:
    """Complaints of a *restricted* namespace about a pod of ``template``; empty: it is taken."""
    enforce = "pod-security.kubernetes.io/enforce=restricted"
    kube.kubectl("label", "namespace", namespace, enforce)
    spec = {k: v for k, v in template["spec"].items() if not k.startswith("serviceAccount")}
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p"}, "spec": spec}
    command = ("kubectl", "create", "-n", namespace, "--dry-run=server", "-f", "-")
    return kube.run(*command, stdin=json.dumps(pod), check=False).stderr


def test_the_operator_fits_restricted(release: Kube, namespace: str) -> None:
    deployment = release.get("deployment", "stillframe-operator", "-n", SYSTEM)
    assert restricted(release, namespace, deployment["spec"]["template"]) == ""


def test_the_example_fits_restricted(release: Kube, namespace: str) -> None:
    deployment, _ = yaml.safe_load_all(EXAMPLE.read_text())
    assert restricted(release, namespace, deployment["spec"]["template"]) == ""


def test_the_agent_is_what_restricted_is_there_to_stop(release: Kube, namespace: str) -> None:
    agent = release.get("daemonset", "stillframe-agent", "-n", SYSTEM)
    assert "hostPID=true" in restricted(release, namespace, agent["spec"]["template"])
