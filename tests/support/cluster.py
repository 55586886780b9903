"""The test cluster as tests use it: nodes with `Cluster`, an API server alone with `api_server`.

Both are context managers; what they start is gone when they end. `tests/cluster/README.md` has
what is inside.
"""

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.cluster import apiserver
from tests.support.kube import Kube

CLI = Path(__file__).parents[1] / "cluster" / "cluster"


@dataclass(frozen=True)
class ApiServer(Kube):
    """An API server without nodes, controllers or kubelets."""

    server: apiserver.ApiServer

    def stop(self) -> None:
        """Kills the API server as abruptly as a crash would; etcd keeps the objects."""
        self.server.stop()

    def start(self) -> None:
        """Brings it back on the same port, ready."""
        self.server.start()


@contextmanager
def api_server() -> Iterator[ApiServer]:
    """etcd and kube-apiserver on loopback: webhooks by URL, RBAC, CRDs, Leases, TokenReviews."""
    with apiserver.api_server() as server:
        yield ApiServer(server.binaries, server.kubeconfig, server)


@dataclass(frozen=True)
class Cluster:
    """A cluster of ``nodes`` nodes for the length of a ``with``; its image stores stay."""

    name: str
    nodes: int = 1

    def __enter__(self) -> Self:
        self._cli("up", "--nodes", str(self.nodes))
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._cli("down")

    @property
    def kube(self) -> Kube:
        """kubectl and helm for this cluster."""
        binaries = subprocess.run([CLI, "bin"], stdout=subprocess.PIPE, text=True, check=True)
        return Kube(Path(binaries.stdout.strip()), Path(self._cli("kubeconfig").strip()))

    def kubectl(self, *arguments: str, stdin: str | None = None) -> str:
        """Standard output of kubectl."""
        return self.kube.kubectl(*arguments, stdin=stdin)

    def helm(self, *arguments: str) -> str:
        """Standard output of helm."""
        return self.kube.run("helm", *arguments).stdout

    def exec(self, node: int | str, *command: str) -> str:
        """Standard output of a command inside a node, by index or name."""
        return self._cli("exec", str(node), *command)

    def import_archive(self, *archives: Path) -> None:
        """Imports image archives on all nodes."""
        self._cli("import", *map(str, archives))

    def import_images(self, *, examples: bool = False) -> None:
        """Builds the project's images where they changed, and gives them to all nodes.

        ``examples``: those of examples/languages, which must have been built, instead.
        """
        self._cli("images", *(["--examples"] if examples else []))

    def stop(self, node: int | str, daemon: str) -> None:
        """Kills a daemon (``kubelet``, ``kube-apiserver``…) until `start`."""
        self._cli("stop", str(node), daemon)

    def start(self, node: int | str, daemon: str) -> None:
        """Lets a stopped daemon start again."""
        self._cli("start", str(node), daemon)

    def _cli(self, verb: str, *arguments: str) -> str:
        command = [str(CLI), verb, "--name", self.name, *arguments]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, f"cluster {verb}: {done.stdout}{done.stderr}"
        return done.stdout
