"""The API form of the test cluster is a real API server that tests can rely on.

Aspects: quick, defaults that admission depends on, tokens, webhooks by URL, a server that goes
down and comes back, nothing left behind.
"""

import base64
import json
import ssl
import subprocess
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from tests.cluster.pki import SERVER, Authority
from tests.support.cluster import ApiServer, api_server
from tests.support.kube import Manifest, until

UP_SECONDS = 5.0


@pytest.fixture(scope="module")
def server() -> Iterator[ApiServer]:
    with api_server() as running:
        yield running


@pytest.fixture
def namespace(server: ApiServer, request: pytest.FixtureRequest) -> str:
    name = str(request.node.name).replace("_", "-")[:63].strip("-")
    server.kubectl("create", "namespace", name)
    server.kubectl("create", "serviceaccount", "default", "-n", name)
    return name


def processes_of(directory: Path) -> list[str]:
    """Names of the programs that were given a path in ``directory``."""
    command = ["pgrep", "--full", "--list-full", "--", str(directory)]
    listed = subprocess.run(command, capture_output=True, text=True, check=False).stdout
    return sorted(Path(line.split()[1]).name for line in listed.splitlines())


def pod(**spec: object) -> Manifest:
    containers = [{"name": "app", "image": "none"}]
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "pod"},
        "spec": {"containers": containers, **spec},
    }


def test_is_up_within_five_seconds_and_gone_afterwards() -> None:
    before = time.monotonic()
    with api_server() as running:
        took = time.monotonic() - before
        directory = running.kubeconfig.parent
        assert running.get("namespace", "default")["metadata"]["name"] == "default"
        assert processes_of(directory) == ["etcd", "kube-apiserver"]
    assert took < UP_SECONDS
    assert not directory.exists()
    assert processes_of(directory) == []


def test_a_token_of_one_audience_is_reviewed_for_that_audience_only(
    server: ApiServer, namespace: str
) -> None:
    token = server.kubectl("create", "token", "default", "-n", namespace, "--audience=intake")

    def review(audience: str) -> Manifest:
        body = {
            "apiVersion": "authentication.k8s.io/v1",
            "kind": "TokenReview",
            "spec": {"token": token.strip(), "audiences": [audience]},
        }
        answer = server.kubectl("create", "-o", "json", "-f", "-", stdin=json.dumps(body))
        status: Manifest = json.loads(answer)["status"]
        return status

    assert review("intake")["authenticated"] is True
    assert "authenticated" not in review("another")


def test_pod_security_is_enforced(server: ApiServer, namespace: str) -> None:
    level = "pod-security.kubernetes.io/enforce=restricted"
    server.kubectl("label", "namespace", namespace, level)
    command = ("kubectl", "create", "-n", namespace, "-f", "-")
    refused = server.run(*command, stdin=json.dumps(pod(hostPID=True)), check=False)
    assert 'violates PodSecurity "restricted' in refused.stderr


def test_a_validating_admission_policy_warns(server: ApiServer, namespace: str) -> None:
    policy = {
        "apiVersion": "admissionregistration.k8s.io/v1",
        "kind": "ValidatingAdmissionPolicy",
        "metadata": {"name": namespace},
        "spec": {
            "matchConstraints": {
                "resourceRules": [
                    {
                        "apiGroups": [""],
                        "apiVersions": ["v1"],
                        "operations": ["CREATE"],
                        "resources": ["configmaps"],
                    }
                ]
            },
            "validations": [{"expression": "false", "message": "seen by the policy"}],
        },
    }
    binding = {
        "apiVersion": "admissionregistration.k8s.io/v1",
        "kind": "ValidatingAdmissionPolicyBinding",
        "metadata": {"name": namespace},
        "spec": {"policyName": namespace, "validationActions": ["Warn"]},
    }
    server.apply(namespace, policy, binding)
    create = ("kubectl", "create", "configmap", "any", "--dry-run=server", "-n", namespace)
    until(lambda: "seen by the policy" in server.run(*create).stderr, "the policy's warning", 10)
    kinds = "validatingadmissionpolicy,validatingadmissionpolicybinding"
    server.kubectl("delete", kinds, namespace)


class Labeller(BaseHTTPRequestHandler):
    """A mutating webhook that labels what it is shown."""

    def do_POST(self) -> None:
        review = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        patch = [{"op": "add", "path": "/metadata/labels", "value": {"seen": "yes"}}]
        review["response"] = {
            "uid": review["request"]["uid"],
            "allowed": True,
            "patchType": "JSONPatch",
            "patch": base64.b64encode(json.dumps(patch).encode()).decode(),
        }
        body = json.dumps(review).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_request(self, code: int | str = "-", size: int | str = "-") -> None:
        """Nothing: pytest shows what failed."""


def test_a_mutating_webhook_by_url_is_called(
    server: ApiServer, namespace: str, tmp_path: Path
) -> None:
    authority = Authority(tmp_path / "pki")
    authority.create()
    authority.issue("hook", "/CN=hook", SERVER, ["IP:127.0.0.1"])
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(authority.directory / "hook.crt", authority.directory / "hook.key")
    with HTTPServer(("127.0.0.1", 0), Labeller) as hook:
        hook.socket = context.wrap_socket(hook.socket, server_side=True)
        threading.Thread(target=hook.serve_forever, daemon=True).start()
        configuration = {
            "apiVersion": "admissionregistration.k8s.io/v1",
            "kind": "MutatingWebhookConfiguration",
            "metadata": {"name": namespace},
            "webhooks": [
                {
                    "name": "labeller.test.example",
                    "admissionReviewVersions": ["v1"],
                    "sideEffects": "None",
                    "clientConfig": {
                        "url": f"https://127.0.0.1:{hook.server_address[1]}/",
                        "caBundle": base64.b64encode(authority.certificate.read_bytes()).decode(),
                    },
                    "rules": [
                        {
                            "apiGroups": [""],
                            "apiVersions": ["v1"],
                            "operations": ["CREATE"],
                            "resources": ["pods"],
                        }
                    ],
                }
            ],
        }
        server.apply(namespace, configuration)
        create = ("create", "--dry-run=server", "-o", "json", "-n", namespace, "-f", "-")

        def labels() -> Manifest:
            made = json.loads(server.kubectl(*create, stdin=json.dumps(pod())))
            return dict(made["metadata"].get("labels", {}))

        assert until(labels, "the webhook to be called", 10) == {"seen": "yes"}
        server.kubectl("delete", "mutatingwebhookconfiguration", namespace)
        hook.shutdown()


def test_a_stopped_api_server_comes_back_with_its_objects(
    server: ApiServer, namespace: str
) -> None:
    server.kubectl("create", "configmap", "kept", "-n", namespace)
    server.stop()
    refused = server.run("kubectl", "get", "ns", check=False)
    assert "refused" in refused.stderr
    server.start()
    assert server.get("configmap", "kept", "-n", namespace)["metadata"]["name"] == "kept"
