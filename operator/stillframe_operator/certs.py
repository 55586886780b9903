"""The certificate authority in its Secret, and this replica's leaf in memory.

Every replica does the same at start and once a minute: read the Secret (or
make it), rotate, publish the bundle to the agents' ConfigMap and into the
webhook configuration, renew its own leaf.  Replicas may race: the API server lets
one of them create or replace, the other reads again.
"""

import asyncio
import base64
import logging
import os
import ssl
from datetime import UTC, datetime
from typing import Final

import grpc

from stillframe import names
from stillframe.errors import PermanentError, StillframeError
from stillframe_operator import authority
from stillframe_operator.kube import Kube, path
from stillframe_operator.owned import Data, Owned
from stillframe_operator.settings import Settings

log = logging.getLogger(__name__)

CHECK_SECONDS: Final = 60.0


class Certificates:
    """What TLS servers of this process present; ``ready`` once clients can verify it."""

    def __init__(self, kube: Kube, owned: Owned, settings: Settings) -> None:
        self._kube = kube
        self._owned = owned
        self._settings = settings
        self._leaf: authority.KeyPair | None = None
        self._issuer: bytes = b""
        self._published = False
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        """For the webhook; renewed in place: new connections see the new leaf."""
        self.context.minimum_version = ssl.TLSVersion.TLSv1_2

    @property
    def ready(self) -> bool:
        """The leaf is valid and its authority is published."""
        return self._published and self._leaf is not None and self._leaf.expires > _now()

    def grpc_credentials(self) -> grpc.ServerCredentials:
        """Return credentials that follow the leaf; ``ensure`` has to have run."""

        def current() -> grpc.ServerCertificateConfiguration:
            assert self._leaf is not None
            pair = (self._leaf.key_pem, self._leaf.certificate_pem)
            return grpc.ssl_server_certificate_configuration([pair])

        return grpc.dynamic_ssl_server_credentials(current(), current)

    async def keep(self) -> None:
        """Ensure once a minute, for ever."""
        while True:
            await asyncio.sleep(CHECK_SECONDS)
            try:
                await self.ensure()
            except StillframeError as error:
                log.warning("certificates: %s; trying again in %d s", error, CHECK_SECONDS)

    async def ensure(self) -> None:
        """Make the authority, the published bundle and the leaf what they should be."""
        now = _now()
        authorities = await self._authorities(now)
        bundle = authority.bundle(authorities)
        await self._owned.update("configmaps", names.CA_CONFIGMAP, lambda _: {"ca.crt": bundle})
        await self._publish_webhooks(bundle)
        self._published = True
        signer = authority.signer(authorities, now)
        if self._leaf is None or self._leaf.worn(now) or self._issuer != signer.certificate_pem:
            self._renew_leaf(signer, now)

    def _renew_leaf(self, signer: authority.KeyPair, now: datetime) -> None:
        service, namespace = self._settings.service, self._settings.namespace
        full = f"{service}.{namespace}.svc"
        dns = [full, f"{full}.cluster.local", f"{service}.{namespace}", service, "localhost"]
        leaf = authority.new_leaf(signer, dns, now)
        load_chain(self.context, leaf.certificate_pem + leaf.key_pem)
        self._leaf, self._issuer = leaf, signer.certificate_pem
        log.info("certificate: leaf valid until %s", leaf.expires)

    async def _authorities(self, now: datetime) -> list[authority.KeyPair]:
        def rotated(old: Data) -> Data:
            return _encode(authority.rotated(_decode(old), now))

        return _decode(await self._owned.update("secrets", names.CA_SECRET, rotated))

    async def _publish_webhooks(self, bundle: str) -> None:
        name = self._settings.webhook_configuration
        if not name:
            return
        where = path("admissionregistration.k8s.io/v1", "mutatingwebhookconfigurations", None, name)
        encoded = base64.b64encode(bundle.encode()).decode()
        webhooks = (await self._kube.get(where)).get("webhooks") or []
        stale = [
            {"name": webhook["name"], "clientConfig": {"caBundle": encoded}}
            for webhook in webhooks
            if webhook["clientConfig"].get("caBundle") != encoded
        ]
        if stale:
            await self._kube.merge(where, {"webhooks": stale})


def _encode(authorities: list[authority.KeyPair]) -> Data:
    dumped = authority.dump(authorities)
    return {key: base64.b64encode(value).decode() for key, value in dumped.items()}


def _decode(data: Data) -> list[authority.KeyPair]:
    try:
        return authority.load({key: base64.b64decode(value) for key, value in data.items()})
    except (ValueError, KeyError) as error:
        raise PermanentError(
            f"Secret {names.CA_SECRET} does not hold our certificate authority: {error!r}",
            f"kubectl delete secret {names.CA_SECRET} lets the operator make a new one",
        ) from error


def load_chain(context: ssl.SSLContext, pem: bytes) -> None:
    """``load_cert_chain`` takes only file names: give it one that is memory."""
    fd = os.memfd_create("stillframe-leaf", os.MFD_CLOEXEC)
    try:
        os.write(fd, pem)
        context.load_cert_chain(f"/proc/self/fd/{fd}")
    finally:
        os.close(fd)


def _now() -> datetime:
    return datetime.now(UTC).replace(microsecond=0)
