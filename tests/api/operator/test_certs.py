"""The operator's own CA: made once however many replicas race, published, verified by TLS.

Aspects: races, who trusts what, renewal in running servers, ownership, health and logs.
"""

import asyncio
import base64
import contextlib
import json
import socket
import ssl
from concurrent.futures import ThreadPoolExecutor

import grpc
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from stillframe_operator import kube as operator_kube
from stillframe_operator.certs import Certificates
from stillframe_operator.owned import Owned
from stillframe_operator.settings import Settings

from tests.api.operator import cluster
from tests.api.operator.agent import published_ca
from tests.api.operator.conftest import RunReplica
from tests.api.operator.process import Replica
from tests.support.kube import Kube


def leaf(port: int, ca: str, name: str) -> dict[str, object]:
    """The certificate that ``port`` presents, verified against ``ca`` for ``name``."""
    trust = ssl.create_default_context(cadata=ca)
    with (
        socket.create_connection(("localhost", port), 5) as raw,
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


async def test_a_new_ca_reaches_running_servers_without_a_restart(
    system: Kube, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KUBECONFIG", str(system.kubeconfig))
    settings = Settings(namespace=cluster.SYSTEM, injector_image="injector:1")
    kube = await operator_kube.Kube.connect()
    certificates = Certificates(kube, await Owned.connect(kube, settings), settings)
    await certificates.ensure()
    web_server = TestServer(web.Application(), host="localhost", scheme="https")
    await web_server.start_server(ssl=certificates.context)
    grpc_server = grpc.aio.server()
    credentials = certificates.grpc_credentials()
    ports = [web_server.port or 0, grpc_server.add_secure_port("localhost:0", credentials)]
    await grpc_server.start()
    try:
        old = published_ca(system, cluster.SYSTEM)
        system.kubectl("delete", "secret", "-n", cluster.SYSTEM, "stillframe-ca")
        await certificates.ensure()
        new = published_ca(system, cluster.SYSTEM)
        for port in ports:
            assert await asyncio.to_thread(leaf, port, new, "localhost")
            with pytest.raises(ssl.SSLCertVerificationError):
                await asyncio.to_thread(leaf, port, old, "localhost")
    finally:
        await grpc_server.stop(None)
        await web_server.close()
        await kube.close()


@pytest.mark.parametrize("there", [False, True])
async def test_of_two_writers_at_once_neither_is_lost(
    system: Kube, monkeypatch: pytest.MonkeyPatch, there: bool
) -> None:
    monkeypatch.setenv("KUBECONFIG", str(system.kubeconfig))
    where, name = ("-n", cluster.SYSTEM), f"race-{there}".lower()
    if there:
        system.kubectl("create", "configmap", name, *where, "--from-literal=start=1")
    rounds = 0

    def add_ours(seen: dict[str, str]) -> dict[str, str]:
        nonlocal rounds
        rounds += 1
        if rounds == 1:  # between our reading and our writing
            theirs = {"metadata": {"name": name}, "data": {**seen, "theirs": "1"}}
            system.apply(cluster.SYSTEM, {"apiVersion": "v1", "kind": "ConfigMap", **theirs})
        return {**seen, "ours": "1"}

    kube = await operator_kube.Kube.connect()
    try:
        await Owned(kube, cluster.SYSTEM, []).update("configmaps", name, add_ours)
    finally:
        await kube.close()
    data = system.get("configmap", name, *where)["data"]
    assert {"ours", "theirs"} <= set(data)
    assert rounds == 2


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
        assert "stillframe_intake_calls_total" in replica.get("/metrics")[1]
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
