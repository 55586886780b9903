"""A cluster's certificates and kubeconfigs, made with openssl; P-256 keys, valid for a year."""

import base64
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.cluster.shell import run

CLIENT = "clientAuth"
SERVER = "serverAuth"


@dataclass(frozen=True)
class Authority:
    """A CA in ``directory``, and what it signs there as ``NAME.crt`` and ``NAME.key``."""

    directory: Path

    @property
    def certificate(self) -> Path:
        return self.directory / "ca.crt"

    def create(self) -> None:
        """Makes the CA and the key pair that signs service-account tokens."""
        self.directory.mkdir(parents=True)
        self._request("ca", "/CN=stillframe-test-ca", ["basicConstraints=critical,CA:TRUE"])
        key, public = self.directory / "sa.key", self.directory / "sa.pub"
        run("openssl", "genrsa", "-out", key, "2048")
        run("openssl", "rsa", "-in", key, "-pubout", "-out", public)

    def issue(self, name: str, subject: str, usage: str, addresses: Sequence[str] = ()) -> None:
        """Signs a leaf for ``subject``, ``/O=…/CN=…``; ``addresses`` are ``DNS:…``, ``IP:…``."""
        extensions = ["basicConstraints=critical,CA:FALSE", f"extendedKeyUsage={usage}"]
        if addresses:
            extensions.append(f"subjectAltName={','.join(addresses)}")
        signer = ["-CA", str(self.certificate), "-CAkey", str(self.directory / "ca.key")]
        self._request(name, subject, extensions, signer)

    def kubeconfig(self, path: Path, server: str, user: str) -> None:
        """Writes a kubeconfig at ``path`` for the issued client certificate ``user``."""
        cluster = {"server": server, "certificate-authority-data": self._encoded("ca.crt")}
        credentials = {
            "client-certificate-data": self._encoded(f"{user}.crt"),
            "client-key-data": self._encoded(f"{user}.key"),
        }
        config = {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "test", "cluster": cluster}],
            "users": [{"name": user, "user": credentials}],
            "contexts": [{"name": "test", "context": {"cluster": "test", "user": user}}],
            "current-context": "test",
        }
        path.touch(mode=0o600)
        path.write_text(json.dumps(config))

    def _encoded(self, file: str) -> str:
        return base64.b64encode((self.directory / file).read_bytes()).decode()

    def _request(
        self, name: str, subject: str, extensions: Sequence[str], signer: Sequence[str] = ()
    ) -> None:
        # The distribution's openssl.cnf would add extensions of its own (CA:TRUE) to a leaf.
        config = self.directory / f"{name}.cnf"
        config.write_text(
            "\n".join(["[req]", "distinguished_name=dn", "x509_extensions=ext", "[dn]", "[ext]"])
            + "\n"
            + "\n".join(extensions)
        )
        run(
            *("openssl", "req", "-x509", "-config", config, "-days", "365", "-subj", subject),
            *("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"),
            *("-keyout", self.directory / f"{name}.key"),
            *("-out", self.directory / f"{name}.crt"),
            *signer,
        )
