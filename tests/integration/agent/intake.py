"""The operator's intake, as far as agents can tell: the real service over real TLS.

It answers as told and remembers every call; it records nothing in any API.
"""

import datetime
import ipaddress
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Self

import grpc
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from stillframe.rpc.v1.intake_pb2 import (
    PlaceRequest,
    PlaceResponse,
    Report,
    SubmitRequest,
    SubmitResponse,
    SyncRequest,
    SyncResponse,
    Tombstone,
)
from stillframe.rpc.v1.intake_pb2_grpc import IntakeServicer, add_IntakeServicer_to_server

SERVER_NAME = "stillframe-operator.stillframe.svc"
SECONDS = 20.0


class Authority:
    """A CA and the leaf it signed for `SERVER_NAME`."""

    def __init__(self) -> None:
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "test CA")])
        self.certificate = self._sign(self._name, self._key.public_key(), ca=True)
        leaf_key = ec.generate_private_key(ec.SECP256R1())
        leaf_name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, SERVER_NAME)])
        self.leaf = self._sign(leaf_name, leaf_key.public_key(), ca=False)
        self.leaf_key = leaf_key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )

    def _sign(self, name: x509.Name, key: ec.EllipticCurvePublicKey, ca: bool) -> bytes:
        now = datetime.datetime.now(datetime.UTC)
        alternatives = [
            x509.DNSName(SERVER_NAME),
            x509.IPAddress(ipaddress.ip_address("127.0.0.1")),
        ]
        certificate = (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(self._name)
            .public_key(key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(minutes=1))
            .not_valid_after(now + datetime.timedelta(days=1))
            .add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
            .add_extension(x509.SubjectAlternativeName(alternatives), critical=False)
            .sign(self._key, hashes.SHA256())
        )
        return certificate.public_bytes(serialization.Encoding.PEM)


class Operator(IntakeServicer):
    """Counts a report once per id, as the real one does."""

    def __init__(self, credentials: Path) -> None:
        self.credentials = credentials
        self.authority = Authority()
        (credentials / "ca.crt").write_bytes(self.authority.certificate)
        (credentials / "token").write_text("first-token\n")
        self.calls: list[Report] = []
        self.authorizations: list[object] = []
        self.tombstones: list[str] = []
        self.sample_kept = True
        self.group_of: Callable[[Report], str] = lambda report: report.fingerprint
        """What crashes of one CrashReport have in common."""
        self.refuse_with: Callable[[Report], grpc.StatusCode | None] = lambda _report: None
        self.places: list[PlaceRequest] = []
        """What was said of where samples are, and taken."""
        self.refuse_places_with: grpc.StatusCode | None = None
        self.places_refused = 0
        self.syncs = 0
        self.port = 0
        self._changed = threading.Condition()
        self._server: grpc.Server | None = None

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    @property
    def reports(self) -> dict[str, Report]:
        """What was acknowledged, by id."""
        with self._changed:
            return {report.id: report for report in self.calls}

    def start(self) -> Self:
        """Listen, on the same port as before."""
        self._server = grpc.server(ThreadPoolExecutor(8), options=[("grpc.so_reuseport", 0)])
        add_IntakeServicer_to_server(self, self._server)  # type: ignore[no-untyped-call]
        credentials = grpc.ssl_server_credentials([(self.authority.leaf_key, self.authority.leaf)])
        self.port = self._server.add_secure_port(f"127.0.0.1:{self.port}", credentials)
        self._server.start()
        return self

    def stop(self) -> None:
        if self._server is not None:
            self._server.stop(0).wait()
        self._server = None

    def new_authority(self) -> None:
        """Rotate the CA: server and file."""
        self.stop()
        self.authority = Authority()
        self.start()
        (self.credentials / "ca.crt").write_bytes(self.authority.certificate)

    def wait_reports(self, count: int, seconds: float = SECONDS) -> list[Report]:
        """The acknowledged reports, when there are so many."""
        with self._changed:
            done = self._changed.wait_for(
                lambda: len({report.id for report in self.calls}) >= count, seconds
            )
            assert done, f"{len(self.calls)} of {count} reports after {seconds} s"
        return list(self.reports.values())

    def wait(self, what: str, done: Callable[[], bool]) -> None:
        """Until ``done``, which is asked after every call."""
        with self._changed:
            assert self._changed.wait_for(done, SECONDS), f"{what}: not within {SECONDS} s"

    def wait_places(self, count: int) -> list[PlaceRequest]:
        """What was said of where samples are, when it was said so often."""
        self.wait(f"{count} places", lambda: len(self.places) >= count)
        return self.places

    def wait_rounds(self, count: int) -> None:
        """Until the agent has gone through all that it has to say at least so often."""
        last = self.syncs + count + 1
        self.wait(f"{count} rounds", lambda: self.syncs >= last)

    def wait_change(self, seconds: float) -> None:
        """Until the next call, or for so long."""
        with self._changed:
            self._changed.wait(seconds)

    def Submit(  # noqa: N802 -- the protocol's name
        self, request: SubmitRequest, context: grpc.ServicerContext
    ) -> SubmitResponse:
        code = self.refuse_with(request.report)
        with self._changed:
            self.authorizations.append(dict(context.invocation_metadata()).get("authorization"))
            if code is None:
                self.calls.append(request.report)
            self._changed.notify_all()
        if code is not None:
            context.abort(code, "as the test wants it")
        return SubmitResponse(
            namespace=request.report.pod.namespace,
            name="crash-1",
            uid=f"uid-of-{self.group_of(request.report)}",
            sample_kept=self.sample_kept,
        )

    def Place(  # noqa: N802 -- the protocol's name
        self, request: PlaceRequest, context: grpc.ServicerContext
    ) -> PlaceResponse:
        code = self.refuse_places_with
        with self._changed:
            if code is None:
                self.places.append(request)
            else:
                self.places_refused += 1
            self._changed.notify_all()
        if code is not None:
            context.abort(code, "as the test wants it")
        return PlaceResponse()

    def Sync(  # noqa: N802 -- the protocol's name
        self, request: SyncRequest, context: grpc.ServicerContext
    ) -> SyncResponse:
        with self._changed:
            self.syncs += 1
            self._changed.notify_all()
        return SyncResponse(tombstones=[Tombstone(uid=uid) for uid in self.tombstones])

    def wait_authorization(self, token: str) -> None:
        with self._changed:
            assert self._changed.wait_for(
                lambda: f"Bearer {token}" in self.authorizations, SECONDS
            ), f"{token} never came"
