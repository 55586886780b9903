"""The command line of every daemon. Computes only; `node` and `apiserver` start them."""

from dataclasses import dataclass
from pathlib import Path

from tests.cluster.layout import Layout, Node

BEFORE_API = ("containerd", "etcd", "kube-apiserver")
"""Started at once; the others when the API server answers, which spares them retries."""


def etcd(binaries: Path, directory: Path) -> list[str]:
    """etcd that keeps its data in ``directory`` and listens on sockets there, so on no port.

    Not syncing is right for data that never outlives the machine's boot.
    """
    # A name that no socket can give: nobody listens there, and a single member asks nobody.
    advertised = "http://localhost:2380"
    return [
        f"{binaries}/etcd",
        "--name=etcd",
        f"--data-dir={directory}/etcd",
        "--unsafe-no-fsync",
        "--log-level=warn",
        f"--listen-client-urls=unix://{directory}/etcd.sock",
        f"--advertise-client-urls={advertised}",
        f"--listen-peer-urls=unix://{directory}/peer.sock",
        f"--initial-advertise-peer-urls={advertised}",
        f"--initial-cluster=etcd={advertised}",
    ]


def kube_apiserver(binaries: Path, directory: Path, pki: Path, services: str) -> list[str]:
    """The API server on ``directory``'s etcd, as both forms of the cluster start it."""
    return [
        f"{binaries}/kube-apiserver",
        f"--etcd-servers=unix://{directory}/etcd.sock",
        f"--cert-dir={directory}",
        f"--tls-cert-file={pki}/apiserver.crt",
        f"--tls-private-key-file={pki}/apiserver.key",
        f"--client-ca-file={pki}/ca.crt",
        "--service-account-issuer=https://kubernetes.default.svc.cluster.local",
        f"--service-account-key-file={pki}/sa.pub",
        f"--service-account-signing-key-file={pki}/sa.key",
        f"--service-cluster-ip-range={services}",
        "--authorization-mode=Node,RBAC",
        # On top of the defaults, which hold the webhooks, the policies and PodSecurity.
        "--enable-admission-plugins=NodeRestriction",
        "--allow-privileged=true",
        "--profiling=false",
    ]


@dataclass(frozen=True)
class NodeDaemons:
    """The daemons of one node; paths are as the node sees them, which is as the host does."""

    binaries: Path
    layout: Layout
    node: Node

    def commands(self) -> dict[str, list[str]]:
        """Name → argv of everything this node runs."""
        commands = {
            "containerd": ["containerd", f"--config={self._conf('containerd.toml')}"],
            "kubelet": self._kubelet(),
            "kube-proxy": [
                f"{self.binaries}/kube-proxy",
                f"--config={self._conf('kube-proxy.yaml')}",
            ],
        }
        if self.node.index == 1:
            commands["etcd"] = etcd(self.binaries, self.node.directory)
            commands["kube-apiserver"] = self._apiserver()
            commands["kube-controller-manager"] = self._controller_manager()
            commands["kube-scheduler"] = self._controller("kube-scheduler")
            commands["coredns"] = [f"{self.binaries}/coredns", "-conf", self._conf("Corefile")]
        return commands

    def _conf(self, file: str) -> str:
        return f"{self.node.directory}/conf/{file}"

    def _apiserver(self) -> list[str]:
        pki = self.layout.pki
        common = kube_apiserver(self.binaries, self.node.directory, pki, str(self.layout.services))
        return [
            *common,
            "--secure-port=6443",
            f"--advertise-address={self.node.ip}",
            f"--kubelet-client-certificate={pki}/apiserver-kubelet.crt",
            f"--kubelet-client-key={pki}/apiserver-kubelet.key",
            f"--kubelet-certificate-authority={pki}/ca.crt",
            "--kubelet-preferred-address-types=InternalIP",
        ]

    def _controller(self, name: str) -> list[str]:
        kubeconfig = f"{self.layout.run}/{name}.kubeconfig"
        return [
            f"{self.binaries}/{name}",
            f"--kubeconfig={kubeconfig}",
            f"--authentication-kubeconfig={kubeconfig}",
            f"--authorization-kubeconfig={kubeconfig}",
            "--leader-elect=false",
            "--bind-address=127.0.0.1",
            f"--cert-dir={self.node.directory}",
            # With the default rate the first service account appeared 5 s late.
            "--kube-api-qps=1000",
            "--kube-api-burst=2000",
        ]

    def _controller_manager(self) -> list[str]:
        pki = self.layout.pki
        return [
            *self._controller("kube-controller-manager"),
            f"--service-account-private-key-file={pki}/sa.key",
            f"--root-ca-file={pki}/ca.crt",
            f"--cluster-signing-cert-file={pki}/ca.crt",
            f"--cluster-signing-key-file={pki}/ca.key",
            f"--cluster-cidr={self.layout.pods}",
            f"--service-cluster-ip-range={self.layout.services}",
            "--use-service-account-credentials=true",
        ]

    def _kubelet(self) -> list[str]:
        return [
            f"{self.binaries}/kubelet",
            f"--config={self._conf('kubelet.yaml')}",
            f"--kubeconfig={self.layout.run}/kubelet-{self.node.name}.kubeconfig",
            f"--hostname-override={self.node.name}",
            f"--node-ip={self.node.ip}",
            f"--cert-dir={self.node.directory}",
            "-v=2",
        ]
