"""Where one cluster lives: its names, addresses and directories, all derived from name and octet.

Computes only. `lifecycle` makes what is described here, and removes it again.
"""

import ipaddress
import os
import re
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path
from typing import Self

from tests.cluster.shell import ClusterError

HERE = Path(__file__).parent
NETS = range(50)
"""Octets a cluster can have; 50 keeps the derived pod and service ranges inside one byte."""
MAX_NODES = 9
"""Node addresses are 10.99.NET.11 to .19."""


def cache_root() -> Path:
    """The cache outside the clone: built programs, images, and the state of running clusters."""
    own = os.environ.get("STILLFRAME_CACHE")
    if own:
        return Path(own).absolute()
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "stillframe"


@dataclass(frozen=True)
class Node:
    """One node: names and addresses on the host and inside."""

    index: int
    """From 1; node 1 also runs the control plane."""
    name: str
    ip: IPv4Address
    pods: IPv4Network
    """The node's own /24 of the cluster's pod range."""
    veth: str
    directory: Path
    """State on the host, at the same path inside the node; goes when the cluster goes down."""
    images: Path
    """containerd's root, with the images; kept when the cluster goes down."""

    @property
    def cgroup(self) -> str:
        """The node's cgroup below its cluster's; the node sees it as the root."""
        return self.name

    def log(self, daemon: str) -> Path:
        """Where ``daemon`` writes; ``init`` is the node's pid 1."""
        return self.directory / "log" / f"{daemon}.log"


@dataclass(frozen=True)
class Layout:
    """One cluster's places. Two clusters with different names and octets share nothing."""

    name: str
    net: int
    """Third octet of the bridge's network 10.99.NET.0/24."""
    pods: IPv4Network
    services: IPv4Network
    state: Path

    @classmethod
    def make(cls, name: str, net: int, pods: str | None, services: str | None, state: Path) -> Self:
        """Checks what the user chose and fills in the ranges that were not chosen."""
        if not re.fullmatch(r"[a-z][a-z0-9-]{0,30}", name):
            raise ClusterError(f"cluster name {name!r}: use a-z, 0-9 and -, at most 31 characters")
        if net not in NETS:
            raise ClusterError(f"--net {net}: use 0 to {NETS[-1]}")
        try:
            pod_range = ipaddress.IPv4Network(pods or f"10.{100 + net}.0.0/16")
            service_range = ipaddress.IPv4Network(services or f"10.{150 + net}.0.0/16")
        except ValueError as error:
            raise ClusterError(f"--pods, --services: {error}") from error
        if pod_range.prefixlen > 20:
            raise ClusterError(f"--pods {pod_range}: needs a /20 or larger, each node takes a /24")
        return cls(name, net, pod_range, service_range, state)

    @property
    def bridge(self) -> str:
        return f"sf{self.net}br"

    @property
    def host_ip(self) -> IPv4Address:
        """The host's address on the bridge: what a pod uses to reach a server in a test."""
        return IPv4Address(f"10.99.{self.net}.1")

    @property
    def control_plane_ip(self) -> IPv4Address:
        return self.node(1).ip

    @property
    def api_url(self) -> str:
        return f"https://{self.control_plane_ip}:6443"

    @property
    def service_ip(self) -> IPv4Address:
        """The address of the Service ``kubernetes``: the range's first."""
        return self.services[1]

    @property
    def cgroup(self) -> str:
        return f"stillframe-{self.name}"

    @property
    def run(self) -> Path:
        """Everything but the image stores."""
        return self.state / "run"

    @property
    def pki(self) -> Path:
        return self.run / "pki"

    @property
    def kubeconfig(self) -> Path:
        return self.run / "admin.kubeconfig"

    def peers(self, of: Node) -> list[Node]:
        """Every other node that the cluster has, or may get later."""
        nodes = [self.node(index) for index in range(1, MAX_NODES + 1)]
        return [node for node in nodes if node != of]

    def node(self, index: int) -> Node:
        """Node ``index``, whether it exists or not."""
        name = f"{self.name}-node-{index}"
        return Node(
            index=index,
            name=name,
            ip=IPv4Address(f"10.99.{self.net}.{10 + index}"),
            pods=IPv4Network((int(self.pods.network_address) + (index << 8), 24)),
            veth=f"sf{self.net}n{index}",
            directory=self.run / "nodes" / name,
            images=self.state / "images" / name,
        )
