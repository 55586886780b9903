"""The operator's own CA: made once however many replicas race, published, verified by TLS.

Aspects: the race, who trusts what, ownership, the health endpoints.
"""

import base64
import contextlib
import json
import socket
import ssl
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.api.operator import cluster
from tests.api.operator.agent import published_ca
from tests.api.operator.conftest import RunReplica
from tests.api.operator.process import Replica
from tests.support.kube import Kube


def leaf(port: int, ca: str, name: str) -> dict[str, object]:
    """The certificate that ``port`` presents, verified against ``ca`` for ``name``."""
    trust = ssl.create_default_context(cadata=ca)
    with (
        socket.create_connection(("127.0.0.1", port), 5) as raw,
        trust.wrap_socket(raw, server_hostname=name) as tls,
    ):
        return dict(tls.getpeercert() or {})


def test_replicas_that_race_for_the_first_ca_agree(system: Kube, run_replica: RunReplica) -> None:
    for kind in ("secret", "configmap"):
        system.kubectl("delete", kind, "-n", cluster.SYSTEM, "stillframe-ca", "--ignore-not-found")
    with contextlib.ExitStack() as stack, ThreadPoolExecutor(3) as pool:
        names = ["a", "b", "c"]
        replicas = list(pool.map(lambda name: stack.enter_context(run_replica(name)), names))
        ca = published_ca(system, cluster.SYSTEM)
        assert ca.count("BEGIN CERTIFICATE") == 1
        for replica in replicas:
            for port in (replica.webhook_port, replica.intake_port):
                assert leaf(port, ca, f"stillframe-operator.{cluster.SYSTEM}.svc")
                with pytest.raises(ssl.SSLCertVerificationError):
                    leaf(port, ca, "example.org")
        webhooks = system.get("mutatingwebhookconfiguration", "stillframe")["webhooks"]
        assert [base64.b64decode(w["clientConfig"]["caBundle"]).decode() for w in webhooks] == [
            ca,
            ca,
        ]


def test_what_the_operator_makes_goes_with_its_deployment(
    system: Kube, run_replica: RunReplica
) -> None:
    deployment = system.get("deployment", "-n", cluster.SYSTEM, "stillframe-operator")
    with run_replica("owner"):
        for kind, name in (("secret", "stillframe-ca"), ("configmap", "stillframe-ca")):
            made = system.get(kind, "-n", cluster.SYSTEM, name)
            [owner] = made["metadata"]["ownerReferences"]
            assert owner["uid"] == deployment["metadata"]["uid"]


def test_health_is_plain_and_the_logs_hold_no_secret(system: Kube, run_replica: RunReplica) -> None:
    with run_replica("health") as replica:
        assert replica.get("/healthz") == (200, "ok")
        assert replica.get("/readyz") == (200, "ok")
        assert "stillframe_submits_total" in replica.get("/metrics")[1]
        assert replica.end() == 0
        secret = system.get("secret", "-n", cluster.SYSTEM, "stillframe-ca")["data"]
        check_log(replica, list(secret.values()))


def check_log(replica: Replica, secrets: list[str]) -> None:
    lines = replica.log.read_text().splitlines()
    assert len(lines) >= 2
    for line in lines:
        assert set(json.loads(line)) >= {"time", "level", "logger", "message"}
        assert "PRIVATE KEY" not in line
        assert "Bearer" not in line
        assert not any(secret[:64] in line for secret in secrets)
