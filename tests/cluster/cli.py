"""The command lines of `tests/cluster/cluster` and `tests/cluster/images`."""

import argparse
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from tests.cluster import imaging
from tests.cluster.apiserver import run_with_api
from tests.cluster.lifecycle import Cluster, build_binaries, remove
from tests.cluster.shell import ClusterError, need_root

DEFAULT_NAME = "stillframe-test"


def main() -> int:
    """Runs one subcommand of `tests/cluster/cluster`; returns the exit status."""
    arguments = _parser().parse_args()
    try:
        status: int = arguments.run(arguments)
    except ClusterError as error:
        print(f"cluster: {error}", file=sys.stderr)
        return 1
    return status


def images() -> int:
    """Runs `tests/cluster/images`; returns the exit status."""
    parser = argparse.ArgumentParser(prog="images", description="The project's container images.")
    parser.add_argument("verb", choices=("context", "build", "examples"))
    make: dict[str, list[Callable[[], object]]] = {
        "context": [imaging.python_context],
        "build": [imaging.project_images, imaging.foreign_images],
        "examples": [imaging.example_images],
    }
    try:
        for step in make[parser.parse_args().verb]:
            step()
    except ClusterError as error:
        print(f"images: {error}", file=sys.stderr)
        return 1
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="cluster", description="Real Kubernetes on one machine.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    where = argparse.ArgumentParser(add_help=False)
    where.add_argument("--name", default=DEFAULT_NAME, help=f"cluster (default {DEFAULT_NAME})")
    where.add_argument("--state", type=Path, help="state directory (default: in the cache)")

    up = commands.add_parser("up", parents=[where], help="bring it up; prints an export line")
    up.add_argument("--nodes", type=int, default=1, help="how many (default 1)")
    up.add_argument("--net", type=int, help="nodes get 10.99.NET.0/24 (default: a free one)")
    up.add_argument("--pods", help="pod range (default 10.(100+NET).0.0/16)")
    up.add_argument("--services", help="service range (default 10.(150+NET).0.0/16)")
    up.set_defaults(run=_up)

    down = commands.add_parser("down", parents=[where], help="remove it; image stores stay")
    down.add_argument("--purge", action="store_true", help="remove the image stores as well")
    down.set_defaults(run=_down)

    inside = commands.add_parser("exec", parents=[where], help="run a command inside a node")
    inside.add_argument("node", help="index or name")
    inside.add_argument("command", nargs=argparse.REMAINDER)
    inside.set_defaults(run=_exec)

    load = commands.add_parser("import", parents=[where], help="import image archives")
    load.add_argument("archive", nargs="+", type=Path, help="OCI or docker archive")
    load.set_defaults(run=_import)

    ours = commands.add_parser("images", parents=[where], help="build and import our images")
    ours.add_argument("--examples", action="store_true", help="those of examples/languages")
    ours.set_defaults(run=_images)

    for verb, text in (("stop", "kill a daemon of a node for good"), ("start", "undo stop")):
        daemon = commands.add_parser(verb, parents=[where], help=text)
        daemon.add_argument("node", help="index or name")
        daemon.add_argument("daemon", help="kubelet, kube-apiserver, containerd, …")
        daemon.set_defaults(run=_daemon, verb=verb)

    api = commands.add_parser("api", help="run a command with etcd and kube-apiserver alone")
    api.add_argument("command", nargs=argparse.REMAINDER)
    api.set_defaults(run=lambda arguments: run_with_api(arguments.command))

    kubeconfig = commands.add_parser("kubeconfig", parents=[where], help="print its path")
    kubeconfig.set_defaults(run=_kubeconfig)
    status = commands.add_parser("status", parents=[where], help="nodes and pods")
    status.set_defaults(run=_status)
    binaries = commands.add_parser("bin", help="print the directory of kubectl and helm")
    binaries.set_defaults(run=_bin)
    return parser


def _up(arguments: argparse.Namespace) -> int:
    before = time.monotonic()
    cluster = Cluster.find_or_choose(
        arguments.name, arguments.net, arguments.pods, arguments.services, arguments.state
    )
    if cluster.up(arguments.nodes):
        took = time.monotonic() - before
        print(f"# {arguments.name}: {arguments.nodes} node(s) Ready after {took:.1f} s")
    else:
        print(f"# {arguments.name}: is up already")
    print(f"export KUBECONFIG={cluster.layout.kubeconfig}")
    return 0


def _down(arguments: argparse.Namespace) -> int:
    need_root()
    if not remove(arguments.name, arguments.state, arguments.purge):
        print(f"# {arguments.name}: is not up")
    return 0


def _exec(arguments: argparse.Namespace) -> int:
    enter = Cluster.find(arguments.name, arguments.state).node(arguments.node).enter()
    return subprocess.run([*enter, *arguments.command], check=False).returncode


def _import(arguments: argparse.Namespace) -> int:
    cluster = Cluster.find(arguments.name, arguments.state)
    for archive in arguments.archive:
        cluster.import_archive(archive)
    return 0


def _images(arguments: argparse.Namespace) -> int:
    before = time.monotonic()
    images = imaging.example_images() if arguments.examples else imaging.project_images()
    built = time.monotonic()
    Cluster.find(arguments.name, arguments.state).import_images(images)
    print(f"# built in {built - before:.1f} s, imported in {time.monotonic() - built:.1f} s")
    return 0


def _daemon(arguments: argparse.Namespace) -> int:
    node = Cluster.find(arguments.name, arguments.state).node(arguments.node)
    (node.stop_daemon if arguments.verb == "stop" else node.start_daemon)(arguments.daemon)
    return 0


def _kubeconfig(arguments: argparse.Namespace) -> int:
    print(Cluster.find(arguments.name, arguments.state).layout.kubeconfig)
    return 0


def _status(arguments: argparse.Namespace) -> int:
    kubeconfig = Cluster.find(arguments.name, arguments.state).layout.kubeconfig
    kubectl = (build_binaries() / "kubectl", f"--kubeconfig={kubeconfig}")
    shown = ("nodes,pods", "--all-namespaces", "--output=wide")
    return subprocess.run([*kubectl, "get", *shown], check=False).returncode


def _bin(arguments: argparse.Namespace) -> int:
    print(build_binaries())
    return 0
