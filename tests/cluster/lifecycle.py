"""A cluster's life: up, down, and what is asked of it in between."""

import fcntl
import json
import shutil
import ssl
import subprocess
import tempfile
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from tests.cluster import host, imaging
from tests.cluster.layout import HERE, MAX_NODES, NETS, Layout, cache_root
from tests.cluster.node import CTR, RunningNode
from tests.cluster.pki import CLIENT, SERVER, Authority
from tests.cluster.shell import ClusterError, need_root, run, run_together, wait_for

CLIENTS = {
    "coredns": "/O=system:masters/CN=coredns",
    "kube-controller-manager": "/CN=system:kube-controller-manager",
    "kube-proxy": "/CN=system:kube-proxy",
    "kube-scheduler": "/CN=system:kube-scheduler",
    "admin": "/O=system:masters/CN=admin",
}
"""Every user with a kubeconfig of its own, and who the API server takes it for.

The admin's is made last: where it is, all of them are.
"""

TOOLS = ("buildah", "conntrack", "containerd", "gcc", "ip", "nft", "nsenter", "openssl", "runc")
"""One program of each package without which a node fails late and obscurely."""
IMPORT = [*CTR, "images", "import", "-"]


def remove(name: str, state: Path | None, purge: bool) -> bool:
    """Takes the cluster down, with its image stores if ``purge``; false if it was not up."""
    directory = _state(name, state)
    up = _saved(directory) is not None
    if up:
        Cluster.find(name, state).down()
    if purge:
        shutil.rmtree(directory, ignore_errors=True)
    return up


def build_binaries() -> Path:
    """Builds Kubernetes and Helm unless the cache has them; returns the directory of programs."""
    done = subprocess.run([HERE / "build"], stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode != 0:
        raise ClusterError("tests/cluster/build failed; it said why above")
    return Path(done.stdout.strip())


@dataclass(frozen=True)
class Cluster:
    """One cluster by name, up or not."""

    layout: Layout

    @classmethod
    def find(cls, name: str, state: Path | None = None) -> "Cluster":
        """The cluster that is up under ``name``; `ClusterError` when there is none."""
        directory = _state(name, state)
        saved = _saved(directory)
        if saved is None:
            raise ClusterError(
                f"no cluster {name!r} is up; try: tests/cluster/cluster up --name {name}"
            )
        return cls(Layout.make(name, *saved, directory))

    @classmethod
    def find_or_choose(
        cls,
        name: str,
        net: int | None = None,
        pods: str | None = None,
        services: str | None = None,
        state: Path | None = None,
    ) -> "Cluster":
        """The cluster ``name``: as it was made, or new with what was chosen and a free octet."""
        need_root()
        missing = [tool for tool in TOOLS if shutil.which(tool) is None]
        if missing:
            raise ClusterError(f"missing: {', '.join(missing)}; run tests/cluster/install-packages")
        directory = _state(name, state)
        with _lock(cache_root() / "clusters" / ".lock"):
            saved = _saved(directory)
            if saved is None:
                free = _free_net() if net is None else net
                layout = Layout.make(name, free, pods, services, directory)
            elif net in (None, saved[0]):
                layout = Layout.make(name, *saved, directory)
            else:
                raise ClusterError(f"{name!r} is up on --net {saved[0]}; take it down first")
            layout.run.mkdir(parents=True, exist_ok=True)
            chosen = (layout.net, str(layout.pods), str(layout.services))
            (layout.run / "cluster.json").write_text(json.dumps(chosen))
            # Made under the lock, so that the next caller sees this octet as taken.
            host.make_bridge(layout)
        return cls(layout)

    def nodes(self) -> list[RunningNode]:
        """Every node that was started, dead or alive."""
        indexes = range(1, MAX_NODES + 1)
        nodes = [self.layout.node(index) for index in indexes]
        return [RunningNode(self.layout, node) for node in nodes if node.directory.exists()]

    def node(self, which: str) -> RunningNode:
        """The node with this index or name."""
        for node in self.nodes():
            if which in (str(node.node.index), node.node.name):
                return node
        names = ", ".join(node.node.name for node in self.nodes())
        raise ClusterError(f"no node {which!r}; there are: {names}")

    def up(self, count: int) -> bool:
        """Brings ``count`` nodes up and Ready to run pods; false when that was so already."""
        if not 1 <= count <= MAX_NODES:
            raise ClusterError(f"--nodes {count}: use 1 to {MAX_NODES}")
        with _lock(self._lock_file):
            wanted = [self.layout.node(index) for index in range(1, count + 1)]
            nodes = [RunningNode(self.layout, node) for node in wanted]
            if all(node.alive() for node in nodes) and self._answers():
                return False
            binaries, images = build_binaries(), imaging.cluster_images()
            if not self.layout.kubeconfig.exists():
                self._make_pki()
            for node in nodes:
                if not node.alive():
                    node.start(binaries)
            apiserver = nodes[0].node.log("kube-apiserver")
            wait_for(self._answers, "the API server to be ready", seconds=120, log=apiserver)
            for node in nodes:
                node.api_ready()
            self._wait_ready(nodes, binaries)
            self.import_images(images)
            return True

    def down(self) -> None:
        """Removes everything but the image stores; the host is as it was before."""
        with _lock(self._lock_file):
            nodes = self.nodes()
            for node in nodes:
                node.kill()
            wait_for(
                lambda: host.remove(self.layout, [node.node for node in nodes]),
                f"the processes of cgroup {self.layout.cgroup} and their interfaces to go",
                seconds=20,
                log=self.layout.node(1).log("init"),
            )
            shutil.rmtree(self.layout.run)

    def import_archive(self, archive: Path) -> None:
        """Imports an OCI or docker archive on all nodes at once."""
        run_together([node.enter() + IMPORT for node in self.nodes()], stdin=archive)

    def import_images(self, images: imaging.Built) -> None:
        """Gives every node the images that it does not have in this very version."""
        with tempfile.TemporaryDirectory(dir=self.layout.state) as scratch:
            archive = Path(scratch) / "images.tar"
            with imaging.locked():
                digests = images.store.digests()
                current = {name: digests[name] for name in images.references}.items()
                outdated = [node for node in self.nodes() if not current <= node.images().items()]
                if not outdated:
                    return
                for node in outdated:
                    node.keep_previous(images.references)
                everywhere = frozenset.intersection(*(node.blobs() for node in outdated))
                images.store.archive(images.references, present=everywhere, to=archive)
            run_together([node.enter() + IMPORT for node in outdated], stdin=archive)

    @property
    def _lock_file(self) -> Path:
        return self.layout.state.with_name(f"{self.layout.state.name}.lock")

    def _answers(self) -> bool:
        if not self.layout.kubeconfig.exists():
            return False
        return api_ready(self.layout.api_url, self.layout.pki)

    def _make_pki(self) -> None:
        layout, authority = self.layout, Authority(self.layout.pki)
        # A half-made one, of an `up` that was interrupted.
        shutil.rmtree(layout.pki, ignore_errors=True)
        authority.create()
        names = ["kubernetes.default.svc.cluster.local", "kubernetes.default.svc"]
        addresses = [f"DNS:{name}" for name in [*names, "kubernetes.default", "kubernetes"]]
        addresses += [f"IP:{layout.control_plane_ip}", f"IP:{layout.service_ip}", "IP:127.0.0.1"]
        authority.issue("apiserver", "/CN=kube-apiserver", SERVER, addresses)
        authority.issue("apiserver-kubelet", "/O=system:masters/CN=apiserver-kubelet", CLIENT)
        for user, subject in CLIENTS.items():
            authority.issue(user, subject, CLIENT)
            path = layout.run / f"{user}.kubeconfig"
            authority.kubeconfig(path, layout.api_url, user)

    def _wait_ready(self, nodes: list[RunningNode], binaries: Path) -> None:
        kubectl = (binaries / "kubectl", f"--kubeconfig={self.layout.kubeconfig}")
        ready = 'jsonpath={.status.conditions[?(@.type=="Ready")].status}'
        for node in nodes:
            get = (*kubectl, "get", "node", "--ignore-not-found", node.node.name, "-o", ready)
            wait_for(
                partial(_prints, get, "True"),
                f"{node.node.name} to be Ready",
                seconds=120,
                log=node.node.log("kubelet"),
            )
        account = (*kubectl, "get", "serviceaccount", "--ignore-not-found", "-o", "name", "default")
        wait_for(
            partial(_prints, account, "serviceaccount/default"),
            "the default service account",
            seconds=60,
            log=self.layout.node(1).log("kube-controller-manager"),
        )


def _prints(command: tuple[str | Path, ...], text: str) -> bool:
    return run(*command).strip() == text


def api_ready(url: str, pki: Path) -> bool:
    """Whether the API server at ``url`` says that it is ready."""
    context = ssl.create_default_context(cafile=str(pki / "ca.crt"))
    try:
        with urllib.request.urlopen(f"{url}/readyz", timeout=2, context=context) as answer:
            return bool(answer.status == 200)
    except OSError:  # refused, timed out, or an HTTP error: not yet
        return False


def _state(name: str, state: Path | None) -> Path:
    return state.absolute() if state else cache_root() / "clusters" / name


def _saved(state: Path) -> tuple[int, str, str] | None:
    """Octet, pods and services of the cluster that is up in ``state``."""
    try:
        net, pods, services = json.loads((state / "run" / "cluster.json").read_text())
    except FileNotFoundError:
        return None
    return net, pods, services


def _free_net() -> int:
    taken = run("ip", "-4", "route", "show")
    for net in NETS:
        if f"10.99.{net}.0/24" not in taken:
            return net
    raise ClusterError("every 10.99.0.0/24 to 10.99.49.0/24 is taken; take a cluster down")


@contextmanager
def _lock(path: Path) -> Iterator[None]:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
