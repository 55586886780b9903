"""Evidence that outlives its node, on a real cluster with a real S3 server.

Aspects: the chart's values and its Secret make agents upload; the report says where a sample is,
and what each file must hash to; the evidence comes out of the store when the node has deleted its
own, and then the report has no command that could not work.
"""

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import obstore
import pytest
from obstore.store import S3Store

from stillframe import names
from tests.e2e.conftest import SYSTEM, install
from tests.e2e.victims import victim
from tests.support import oracles
from tests.support.cluster import Cluster
from tests.support.kube import Kube, Manifest, until
from tests.support.s3 import KEY, REGION, SECRET, S3Server

CRASHER = Path(__file__).resolve().parents[2] / "build/crashers/glibc/crasher"
NO_ROOM = str(1 << 60)
"""Bytes of free space that no disk has: agents keep nothing that they may delete."""
Reports = Callable[..., list[dict[str, Any]]]


@dataclass(frozen=True)
class Uploads:
    """A release that uploads to a server."""

    kube: Kube
    server: S3Server

    def upgrade(self, **settings: str) -> None:
        """Make the release one that uploads, with more settings of its agents."""
        install(
            self.kube,
            "agent.upload.url=s3://evidence/e2e",
            f"agent.upload.endpoint={self.server.endpoint}",
            f"agent.upload.region={REGION}",
            "agent.upload.credentialsSecret=evidence",
            *(f"agent.settings.{name}={value}" for name, value in settings.items()),
        )

    def download(self, url: str) -> dict[str, bytes]:
        """All files below ``url``, as somebody with the right to read gets them."""
        store = S3Store.from_url(
            url,
            config={
                "endpoint": self.server.endpoint,
                "region": REGION,
                "access_key_id": KEY,
                "secret_access_key": SECRET,
            },
            client_options={"allow_http": True},
        )
        found = [entry["path"] for batch in obstore.list(store) for entry in batch]
        return {path: bytes(obstore.get(store, path).bytes()) for path in found}


@pytest.fixture
def uploads(kube: Kube, tmp_path: Path) -> Iterator[Uploads]:
    """The server is reachable from pods, by the nodes' gateway; the release ends as it was."""
    node = kube.items("nodes")[0]
    (address,) = [a["address"] for a in node["status"]["addresses"] if a["type"] == "InternalIP"]
    server = S3Server(tmp_path, ".".join([*address.split(".")[:3], "1"]))
    server.make_bucket("evidence")
    file = f"--from-file={server.credentials / 'credentials'}"
    kube.kubectl("create", "secret", "generic", "evidence", "-n", SYSTEM, file)
    with server:
        try:
            yield Uploads(kube, server)
        finally:
            install(kube)
            kube.kubectl("delete", "secret", "evidence", "-n", SYSTEM)


def test_evidence_is_found_by_its_report_when_the_node_has_it_no_more(
    namespace: str, reports: Reports, nodes: Cluster, uploads: Uploads, tmp_path: Path
) -> None:
    kube = uploads.kube
    uploads.upgrade()
    kube.apply(namespace, victim("uploaded", "null_read"))

    def sample() -> Manifest:
        (only,) = reports(1)[0]["status"]["samples"].values()
        result: Manifest = only
        return result

    until(lambda: sample().get("url"), "the report to say where its sample is")
    (report_id,) = reports(1)[0]["status"]["samples"]
    there = sample()
    assert there["url"] == f"s3://evidence/e2e/{namespace}/{report_id}/"
    assert report_id in there["fetch"]
    assert available(reports) == ("True", "OnNode")

    uploads.upgrade(ARTIFACTS_FREE_BYTES=NO_ROOM)
    until(lambda: "expires" not in sample(), "the report to say that the node has deleted it")
    assert "fetch" not in sample()
    assert available(reports) == ("True", "InStore")
    left = f"find /var/lib/stillframe/artifacts -name '*{report_id}'"
    until(lambda: not nodes.exec(there["node"], "sh", "-c", left).strip(), "the node to forget it")

    files = uploads.download(sample()["url"])
    artifacts = sample()["artifacts"]
    assert set(files) == {*(one["file"] for one in artifacts), names.ARTIFACT_MANIFEST}
    for one in artifacts:
        assert len(files[one["file"]]) == one["bytes"]
        assert hashlib.sha256(files[one["file"]]).hexdigest() == one["sha256"]
    (tmp_path / "core").write_bytes(files[names.ARTIFACT_SNAPSHOT])
    assert oracles.gdb_frames(CRASHER, tmp_path / "core") == ["null_read", "main"]
    for agent in kube.items("pods", "-n", SYSTEM, "-l", "app.kubernetes.io/component=agent"):
        assert SECRET not in kube.kubectl("logs", "-n", SYSTEM, agent["metadata"]["name"])


def available(reports: Reports) -> tuple[str, str]:
    """Status and reason of the condition that tells whether artifacts can be had."""
    conditions = reports(1)[0]["status"]["conditions"]
    [said] = [c for c in conditions if c["type"] == "ArtifactsAvailable"]
    return said["status"], said["reason"]
