"""One node: its directory, its pid 1, and the ways in and out of it."""

import os
import resource
import select
import signal
import string
import subprocess
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from pathlib import Path

from tests.cluster import host
from tests.cluster.daemons import BEFORE_API, NodeDaemons
from tests.cluster.layout import HERE, Layout, Node
from tests.cluster.pki import CLIENT, SERVER, Authority
from tests.cluster.shell import ClusterError, run, wait_for

NAMESPACES = ("--mount", "--pid", "--net", "--ipc", "--uts", "--cgroup")
CTR = ("ctr", "--namespace=k8s.io")


@dataclass(frozen=True)
class RunningNode:
    """Starts, enters and ends one node of a cluster."""

    layout: Layout
    node: Node

    def alive(self) -> bool:
        """Whether the node's pid 1 is there, and is ours."""
        return self._pid() is not None

    def start(self, binaries: Path) -> None:
        """Starts pid 1 and the first daemons; the others wait for `api_ready`."""
        commands = NodeDaemons(binaries, self.layout, self.node).commands()
        self._write_directory(commands)
        self._issue_certificates()
        environment = {
            "PATH": os.environ["PATH"],
            "NODE": self.node.name,
            "NODE_IP": str(self.node.ip),
            "HOST_IP": str(self.layout.host_ip),
            "PEERS": " ".join(f"{peer.pods}={peer.ip}" for peer in self.layout.peers(self.node)),
            "STATE": str(self.layout.run),
            "IMAGES": str(self.node.images),
            "BINARIES": str(binaries),
            "CGROUPS": " ".join(map(str, host.make_cgroups(self.layout, self.node))),
            "FIRST": " ".join(name for name in commands if name in BEFORE_API),
            "LATER": " ".join(name for name in commands if name not in BEFORE_API),
        }
        unshare = ["unshare", "--mount", "--pid", "--net", "--ipc", "--uts", "--fork"]
        log = self.node.log("init")
        with log.open("wb") as file:
            subprocess.Popen(
                [*unshare, "--kill-child", "--", HERE / "node-init", "enter", self.node.directory],
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=file,
                start_new_session=True,
            )
        ready = self.node.directory / "wants-network"
        wait_for(ready.exists, f"{self.node.name} to make its root", seconds=60, log=log)
        host.connect(self.layout, self.node, self.pid())
        (self.node.directory / "has-network").touch()

    def api_ready(self) -> None:
        """Lets the daemons start that need the API server."""
        (self.node.directory / "api-ready").touch()

    def pid(self) -> int:
        """The node's pid 1 as the host sees it; `ClusterError` when the node is not up."""
        pid = self._pid()
        if pid is None:
            raise ClusterError(
                f"{self.node.name} is not up (see {self.node.log('init')}); "
                f"try: tests/cluster/cluster up --name {self.layout.name}"
            )
        return pid

    def enter(self) -> list[str]:
        """The command prefix that runs something inside the node."""
        return ["nsenter", f"--target={self.pid()}", *NAMESPACES, "--"]

    def images(self) -> dict[str, str]:
        """Image reference → digest, of the node's image store."""
        # REF TYPE DIGEST SIZE PLATFORMS LABELS, and the first line says so.
        lines = run(*self.enter(), *CTR, "images", "list").splitlines()[1:]
        return {reference: digest for reference, _, digest, *_ in map(str.split, lines)}

    def keep_previous(self, references: AbstractSet[str]) -> None:
        """Gives the images a second name until the next import.

        Else containerd's collector takes layers that the new version shares with the old one
        between the moment an import finds them and the moment it builds on them: "parent snapshot
        does not exist".
        """
        for reference in self.images().keys() & references:
            run(*self.enter(), *CTR, "images", "tag", "--force", reference, f"{reference}-before")

    def blobs(self) -> frozenset[str]:
        """Digests of everything in the node's content store."""
        return frozenset(run(*self.enter(), *CTR, "content", "list", "--quiet").split())

    def stop_daemon(self, daemon: str) -> None:
        """Kills ``daemon`` as abruptly as a crash would, and keeps it from starting again."""
        self._known(daemon)
        (self.node.directory / "stopped" / daemon).touch()
        pid = (self.node.directory / "pids" / daemon).read_text().strip()
        # That it is gone already is no error: gone is what was asked for.
        run(*self.enter(), "sh", "-c", f"kill -KILL {pid} 2>/dev/null || true")

    def start_daemon(self, daemon: str) -> None:
        """Lets a stopped ``daemon`` start again, within 0.2 s."""
        self._known(daemon)
        (self.node.directory / "stopped" / daemon).unlink(missing_ok=True)

    def kill(self) -> None:
        """Ends the node, and with pid 1 every process, mount and interface in it."""
        pid = self._pid()
        if pid is None:
            return
        handle = os.pidfd_open(pid)
        try:
            # Asked again with the handle open: the number may have been reused in between.
            if self._pid() != pid:
                return
            signal.pidfd_send_signal(handle, signal.SIGKILL)
            if not select.select([handle], [], [], 20)[0]:
                raise ClusterError(f"{self.node.name} (pid {pid}) did not die within 20 s")
        finally:
            os.close(handle)

    def _pid(self) -> int | None:
        try:
            pid = int((self.node.directory / "pid").read_text())
            arguments = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
        except (OSError, ValueError):
            return None
        return pid if os.fsencode(self.node.directory) in arguments else None

    def _known(self, daemon: str) -> None:
        names = sorted(path.name for path in (self.node.directory / "daemons").glob("*"))
        if daemon not in names:
            raise ClusterError(f"{self.node.name} runs no {daemon!r}; it runs {', '.join(names)}")

    def _write_directory(self, commands: dict[str, list[str]]) -> None:
        directory = self.node.directory
        for name in ("cni", "conf", "daemons", "log", "overlay", "pids", "stopped"):
            (directory / name).mkdir(parents=True, exist_ok=True)
        for name in ("lib/kubelet", "lib/cni", "log"):
            (directory / "var" / name).mkdir(parents=True, exist_ok=True)
        self.node.images.mkdir(parents=True, exist_ok=True)
        for stale in ("pid", "wants-network", "has-network", "api-ready"):
            (directory / stale).unlink(missing_ok=True)
        for name, command in commands.items():
            (directory / "daemons" / name).write_text("".join(f"{word}\0" for word in command))

        values = {
            "control_plane_ip": self.layout.control_plane_ip,
            "directory": directory,
            "node": self.node.name,
            "node_ip": self.node.ip,
            "node_pods": self.node.pods,
            "open_files": resource.getrlimit(resource.RLIMIT_NOFILE)[1],
            "pki": self.layout.pki,
            "pods": self.layout.pods,
            "run": self.layout.run,
        }
        for template in (HERE / "conf").iterdir():
            target = "cni" if template.suffix == ".conflist" else "conf"
            text = string.Template(template.read_text()).substitute(values)
            (directory / target / template.name).write_text(text)

    def _issue_certificates(self) -> None:
        name, authority = self.node.name, Authority(self.layout.pki)
        if (self.layout.pki / f"kubelet-{name}.crt").exists():
            return
        authority.issue(f"kubelet-{name}", f"/O=system:nodes/CN=system:node:{name}", CLIENT)
        addresses = [f"DNS:{name}", f"IP:{self.node.ip}", "IP:127.0.0.1"]
        authority.issue(f"kubelet-server-{name}", f"/CN={name}", SERVER, addresses)
        kubeconfig = self.layout.run / f"kubelet-{name}.kubeconfig"
        authority.kubeconfig(kubeconfig, self.layout.api_url, f"kubelet-{name}")
