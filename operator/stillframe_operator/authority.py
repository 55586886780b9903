"""Our own certificate authority: who signs, who is trusted, when to rotate.  Pure but for keys.

At two thirds of its life an authority gets a successor.  The successor is
trusted at once and signs only ``PUBLICATION`` later, when every agent has the new
bundle; the old one stays trusted until it expires.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from stillframe_operator.text import rfc3339

CA_LIFE: Final = timedelta(days=365)
LEAF_LIFE: Final = timedelta(days=7)
PUBLICATION: Final = timedelta(minutes=10)
"""The kubelet refreshes a mounted ConfigMap within about two minutes."""
_SKEW: Final = timedelta(minutes=5)
"""Certificates start in the past: clocks differ."""


@dataclass(frozen=True)
class KeyPair:
    """A certificate with its private key."""

    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey

    @property
    def born(self) -> datetime:
        """When it was made."""
        return self.certificate.not_valid_before_utc + _SKEW

    @property
    def expires(self) -> datetime:
        """End of its life."""
        return self.certificate.not_valid_after_utc

    def worn(self, now: datetime) -> bool:
        """Return whether two thirds of its life are over."""
        return now >= self.born + (self.expires - self.born) * 2 / 3

    @property
    def certificate_pem(self) -> bytes:
        """The certificate, PEM."""
        return self.certificate.public_bytes(serialization.Encoding.PEM)

    @property
    def key_pem(self) -> bytes:
        """The private key, PEM (PKCS #8, not encrypted)."""
        return self.key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )


def new_authority(now: datetime) -> KeyPair:
    """Make a self-signed authority."""
    key = ec.generate_private_key(ec.SECP256R1())
    # Two authorities must differ in name: some verifiers pick the issuer by it.
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"stillframe {rfc3339(now)}")])
    usage = x509.KeyUsage(
        digital_signature=True,
        key_cert_sign=True,
        crl_sign=True,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )
    certificate = (
        _builder(name, name, key.public_key(), now, CA_LIFE)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(usage, critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(key, hashes.SHA256())
    )
    return KeyPair(certificate, key)


def new_leaf(authority: KeyPair, dns_names: Sequence[str], now: datetime) -> KeyPair:
    """Make a server certificate for ``dns_names``; the first is its common name."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, dns_names[0][:64])])
    issuer = authority.certificate.subject
    life = min(LEAF_LIFE, authority.expires - now)
    certificate = (
        _builder(name, issuer, key.public_key(), now, life)
        .add_extension(
            x509.SubjectAlternativeName([x509.DNSName(dns) for dns in dns_names]), critical=False
        )
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(authority.key.public_key()),
            critical=False,
        )
        .sign(authority.key, hashes.SHA256())
    )
    return KeyPair(certificate, key)


def rotated(authorities: Sequence[KeyPair], now: datetime) -> list[KeyPair]:
    """Return the authorities as they should be now: none expired, the youngest not worn.

    Returns the same authorities when nothing has to change.
    """
    alive = [authority for authority in authorities if authority.expires > now]
    if not alive or max(alive, key=_birth).worn(now):
        alive.append(new_authority(now))
    return sorted(alive, key=_birth)


def signer(authorities: Sequence[KeyPair], now: datetime) -> KeyPair:
    """Return the youngest authority that everybody trusts by now, else the oldest."""
    published = [a for a in authorities if now >= a.born + PUBLICATION]
    return max(published, key=_birth) if published else min(authorities, key=_birth)


def bundle(authorities: Sequence[KeyPair]) -> str:
    """Return all certificates to trust, PEM, oldest first."""
    return b"".join(a.certificate_pem for a in sorted(authorities, key=_birth)).decode()


def dump(authorities: Sequence[KeyPair]) -> dict[str, bytes]:
    """Return the Secret's data: ``0.crt``, ``0.key``, ``1.crt``, ..., oldest first."""
    data = {}
    for index, authority in enumerate(sorted(authorities, key=_birth)):
        data[f"{index}.crt"] = authority.certificate_pem
        data[f"{index}.key"] = authority.key_pem
    return data


def load(data: Mapping[str, bytes]) -> list[KeyPair]:
    """Return what ``dump`` wrote; raises ValueError when it is something else."""
    pairs = []
    for name in sorted(key for key in data if key.endswith(".crt")):
        key = serialization.load_pem_private_key(data[name.removesuffix("crt") + "key"], None)
        if not isinstance(key, ec.EllipticCurvePrivateKey):
            raise ValueError(f"{name}: the key is not an elliptic curve key")
        pairs.append(KeyPair(x509.load_pem_x509_certificate(data[name]), key))
    return pairs


def _birth(pair: KeyPair) -> datetime:
    return pair.born


def _builder(
    subject: x509.Name,
    issuer: x509.Name,
    key: ec.EllipticCurvePublicKey,
    now: datetime,
    life: timedelta,
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _SKEW)
        .not_valid_after(now + life)
    )
