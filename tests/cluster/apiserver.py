"""The cluster's other form: etcd and kube-apiserver alone, on loopback, for what needs no node.

Needs no root. There is no controller manager: nobody makes a namespace's default service account,
and nothing is garbage-collected.
"""

import ipaddress
import os
import socket
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from tests.cluster.daemons import etcd, kube_apiserver
from tests.cluster.lifecycle import api_ready, build_binaries
from tests.cluster.pki import CLIENT, SERVER, Authority
from tests.cluster.shell import ClusterError, wait_for

SERVICES = ipaddress.IPv4Network("10.199.0.0/24")
"""Addresses that Services get, where nothing listens."""


@dataclass
class ApiServer:
    """A running API server, its etcd, and the administrator's kubeconfig."""

    binaries: Path
    directory: Path
    port: int
    _running: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)

    @property
    def kubeconfig(self) -> Path:
        return self.directory / "admin.kubeconfig"

    @property
    def url(self) -> str:
        return f"https://127.0.0.1:{self.port}"

    def start(self) -> None:
        """Starts what is not running, and waits until the API server is ready."""
        pki = self.directory / "pki"
        local = [
            "--bind-address=127.0.0.1",
            f"--secure-port={self.port}",
            "--permit-port-sharing",  # with the socket that keeps the port ours, see `api_server`
            # An endpoint of the Service `kubernetes` cannot be on loopback: have none.
            "--advertise-address=127.0.0.1",
            "--endpoint-reconciler-type=none",
        ]
        self._spawn("etcd", etcd(self.binaries, self.directory))
        command = kube_apiserver(self.binaries, self.directory, pki, str(SERVICES))
        self._spawn("kube-apiserver", [*command, *local])
        wait_for(
            lambda: self._alive() and api_ready(self.url, pki),
            "the API server to be ready",
            seconds=120,
            log=self._log("kube-apiserver"),
        )

    def stop(self, daemon: str = "kube-apiserver") -> None:
        """Kills ``daemon`` as abruptly as a crash would; `start` brings it back, port and all."""
        process = self._running.pop(daemon)
        process.kill()
        process.wait()

    def stop_all(self) -> None:
        """Kills whatever runs."""
        for daemon in list(self._running):
            self.stop(daemon)

    def make_pki(self) -> None:
        """Makes the certificates and the kubeconfig."""
        authority = Authority(self.directory / "pki")
        authority.create()
        addresses = ["IP:127.0.0.1", "DNS:localhost", f"IP:{SERVICES[1]}"]
        authority.issue("apiserver", "/CN=kube-apiserver", SERVER, addresses)
        authority.issue("admin", "/O=system:masters/CN=admin", CLIENT)
        authority.kubeconfig(self.kubeconfig, self.url, "admin")

    def _spawn(self, daemon: str, command: Sequence[str]) -> None:
        if daemon in self._running:
            return
        with self._log(daemon).open("ab") as log:
            self._running[daemon] = subprocess.Popen(
                # It goes when the thread that started it goes, however that ends.
                ["setpriv", "--pdeathsig=KILL", *command],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )

    def _alive(self) -> bool:
        for daemon, process in self._running.items():
            if process.poll() is not None:
                end = self._log(daemon).read_text()[-2000:]
                raise ClusterError(f"{daemon} ended with {process.returncode}:\n{end}")
        return True

    def _log(self, daemon: str) -> Path:
        return self.directory / f"{daemon}.log"


@contextmanager
def api_server() -> Iterator[ApiServer]:
    """An API server of its own, which is gone with its data afterwards."""
    binaries = build_binaries()
    with (
        tempfile.TemporaryDirectory(prefix="stillframe-api-") as directory,
        socket.socket() as port,
    ):
        # Bound but not listening: nobody else can be given the port, now or between two starts.
        port.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        port.bind(("127.0.0.1", 0))
        server = ApiServer(binaries, Path(directory), port.getsockname()[1])
        server.make_pki()
        try:
            server.start()
            yield server
        finally:
            server.stop_all()


def run_with_api(command: Sequence[str]) -> int:
    """Runs ``command`` with ``KUBECONFIG`` and kubectl for a new API server; its exit status."""
    with api_server() as server:
        path = f"{server.binaries}:{os.environ['PATH']}"
        environment = {**os.environ, "KUBECONFIG": str(server.kubeconfig), "PATH": path}
        return subprocess.run(command, env=environment, check=False).returncode
