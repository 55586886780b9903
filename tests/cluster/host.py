"""What a cluster puts on the host: one bridge, a veth a node, routes and cgroups."""

import contextlib
import os
from collections.abc import Iterable, Iterator
from pathlib import Path

from tests.cluster.layout import Layout, Node
from tests.cluster.shell import run

CGROUP_ROOT = Path("/sys/fs/cgroup")


def make_bridge(layout: Layout) -> None:
    """Makes the bridge and the route to the services, through node 1; may be there already."""
    if not _link_exists(layout.bridge):
        run("ip", "link", "add", layout.bridge, "type", "bridge")
    run("ip", "address", "replace", f"{layout.host_ip}/24", "dev", layout.bridge)
    run("ip", "link", "set", layout.bridge, "up")
    via = str(layout.control_plane_ip)
    run("ip", "route", "replace", str(layout.services), "via", via, "dev", layout.bridge)


def connect(layout: Layout, node: Node, pid: int) -> None:
    """Gives the node whose pid 1 is ``pid`` its ``eth0``, and the host a route to its pods."""
    run("ip", "link", "add", node.veth, "type", "veth", "peer", "name", "eth0", "netns", str(pid))
    run("ip", "link", "set", node.veth, "master", layout.bridge, "up")
    route = ("replace", str(node.pods), "via", str(node.ip), "dev", layout.bridge)
    run("ip", "route", *route)


def make_cgroups(layout: Layout, node: Node) -> list[Path]:
    """Makes the node's cgroup in every hierarchy and returns them."""
    cgroups = []
    for hierarchy in _hierarchies():
        parent = hierarchy
        for part in (layout.cgroup, node.cgroup):
            child = parent / part
            child.mkdir(exist_ok=True)
            _hand_down(parent, child)
            parent = child
        cgroups.append(parent)
    return cgroups


def remove(layout: Layout, nodes: Iterable[Node]) -> bool:
    """Removes what it can, once the nodes are dead; false while the kernel still ends something.

    A veth goes with its node's network namespace, routes go with the bridge, and a cgroup can be
    removed when its last process has been reaped.
    """
    for hierarchy in _hierarchies():
        for directory, _, _ in os.walk(hierarchy / layout.cgroup, topdown=False):
            with contextlib.suppress(OSError):
                Path(directory).rmdir()
    if _link_exists(layout.bridge):
        run("ip", "link", "delete", layout.bridge)
    cgroups = any((hierarchy / layout.cgroup).exists() for hierarchy in _hierarchies())
    return not cgroups and not any(_link_exists(node.veth) for node in nodes)


def _hierarchies() -> Iterator[Path]:
    if (CGROUP_ROOT / "cgroup.controllers").exists():
        yield CGROUP_ROOT
        return
    for line in Path("/proc/self/mounts").read_text().splitlines():
        _, point, kind, *_ = line.split()
        if kind == "cgroup":
            yield Path(point)


def _hand_down(parent: Path, child: Path) -> None:
    # v1: a new cpuset allows no cpu and no memory node, so nothing could be moved into it.
    for file in ("cpuset.cpus", "cpuset.mems"):
        if (parent / file).exists() and not (parent / "cgroup.controllers").exists():
            (child / file).write_text((parent / file).read_text())
    # v2: a child has the controllers that its parent hands down.
    available = parent / "cgroup.controllers"
    if available.exists():
        for controller in available.read_text().split():
            (parent / "cgroup.subtree_control").write_text(f"+{controller}")


def _link_exists(name: str) -> bool:
    return (Path("/sys/class/net") / name).exists()
