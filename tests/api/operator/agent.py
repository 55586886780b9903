"""An agent as the operator sees it: a token, a node and gRPC over TLS."""

import uuid
from dataclasses import dataclass, field
from datetime import UTC, datetime

import grpc

from stillframe.rpc.v1 import intake_pb2, intake_pb2_grpc
from tests.support.kube import Kube, Manifest

DEADLINE = 40.0


def report(made: Manifest, **fields: object) -> intake_pb2.Report:
    """A report about a process in pod ``made``."""
    metadata = made["metadata"]
    result = intake_pb2.Report(
        id=uuid.uuid4().hex,
        pod=intake_pb2.Pod(
            namespace=metadata["namespace"],
            name=metadata["name"],
            uid=metadata["uid"],
            container="app",
            container_id="ab" * 32,
        ),
        signal=intake_pb2.Signal(number=11, name="SIGSEGV", code=1),
        fingerprint="v1:0123456789abcdef",
        cause="null pointer: read at 0x10",
        message="The process read from address 0x10.",
        top_frame="parse_header (app.c:42)",
        stack=["parse_header (app.c:42)", "main (app.c:77)"],
        captured="snapshot",
        held_millis=12,
        attested=True,
        artifacts=[
            intake_pb2.Artifact(
                kind="snapshot", file="snapshot.core", bytes=65536, sha256="ab" * 32
            )
        ],
    )
    result.crashed_at.FromDatetime(datetime.now(UTC))
    for name, value in fields.items():
        setattr(result, name, value)
    return result


def placed(
    crash: intake_pb2.Report, answer: intake_pb2.SubmitResponse, **fields: object
) -> intake_pb2.PlaceRequest:
    """Where the sample of ``crash`` is: in the store, unless ``fields`` say otherwise."""
    result = intake_pb2.PlaceRequest(
        report_id=crash.id,
        namespace=answer.namespace,
        name=answer.name,
        uid=answer.uid,
        url=f"s3://evidence/cluster-1/{answer.namespace}/{crash.id}/",
    )
    for name, value in fields.items():
        setattr(result, name, value)
    return result


@dataclass
class Agent:
    """Calls one replica with one token."""

    port: int
    ca: str
    token: str
    channel: grpc.aio.Channel = field(init=False)

    def __post_init__(self) -> None:
        credentials = grpc.ssl_channel_credentials(self.ca.encode())
        self.channel = grpc.aio.secure_channel(f"localhost:{self.port}", credentials)
        self.stub = intake_pb2_grpc.IntakeStub(self.channel)

    @property
    def _metadata(self) -> tuple[tuple[str, str], ...]:
        return (("authorization", f"Bearer {self.token}"),)

    async def submit(self, crash: intake_pb2.Report) -> intake_pb2.SubmitResponse:
        request = intake_pb2.SubmitRequest(report=crash)
        return await self.stub.Submit(request, metadata=self._metadata, timeout=DEADLINE)

    async def place(self, where: intake_pb2.PlaceRequest) -> None:
        await self.stub.Place(where, metadata=self._metadata, timeout=DEADLINE)

    async def sync(self, node: str = "") -> set[str]:
        request = intake_pb2.SyncRequest(node=node)
        answer = await self.stub.Sync(request, metadata=self._metadata, timeout=DEADLINE)
        return {tombstone.uid for tombstone in answer.tombstones}


def published_ca(kube: Kube, namespace: str) -> str:
    """The bundle that agents mount."""
    data: dict[str, str] = kube.get("configmap", "-n", namespace, "stillframe-ca")["data"]
    return data["ca.crt"]
