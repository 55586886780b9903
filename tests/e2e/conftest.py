"""One two-node cluster with the chart installed for all e2e tests; a namespace for each test."""

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import pytest

from tests.support.cluster import Cluster
from tests.support.kube import Kube, Manifest, until

ROOT = Path(__file__).resolve().parents[2]
SYSTEM = "stillframe"
"""Namespace of the release."""


def install(kube: Kube, *values: str) -> None:
    """``helm install``, as the README says it, or an upgrade to ``values`` (``name=value``).

    Pods may ask for what the chart does not allow by default.
    """
    kube.run(
        "helm", "upgrade", "--install", "stillframe", str(ROOT / "deploy/helm/stillframe"),
        "--namespace", SYSTEM, "--create-namespace", "--wait", "--timeout", "180s",
        "--set", "image.registry=localhost/stillframe", "--set", "image.tag=dev",
        "--set", "capture.allowShutdownSockets=true",
        *(option for value in values for option in ("--set-string", value)),
    )  # fmt: skip
    for component in ("agent", "artifacts"):
        # Helm counts a DaemonSet as there while as many as may be unavailable are not.
        daemons = f"daemonset/stillframe-{component}"
        kube.kubectl("rollout", "status", "-n", SYSTEM, daemons, "--timeout=120s")


@pytest.fixture(scope="session")
def nodes() -> Iterator[Cluster]:
    """Two nodes with our images on them, and nothing installed."""
    with Cluster("sftest", nodes=2) as cluster:
        cluster.import_images()
        yield cluster


@pytest.fixture(scope="session")
def kube(nodes: Cluster) -> Kube:
    """The cluster with the chart installed."""
    kube = nodes.kube
    install(kube)
    return kube


@contextmanager
def restricted(kube: Kube, name: str) -> Iterator[None]:
    """A namespace that enforces PodSecurity *restricted*."""
    labels = {"pod-security.kubernetes.io/enforce": "restricted"}
    metadata = {"name": name, "labels": labels}
    kube.apply("default", {"apiVersion": "v1", "kind": "Namespace", "metadata": metadata})
    yield
    kube.kubectl("delete", "namespace", name, "--wait=false")


def wait_for_reports(
    kube: Kube, namespace: str, total: int = 1, seconds: float = 30.0
) -> list[Manifest]:
    """Waits until the namespace's reports count ``total`` crashes in all; returns them."""

    def found() -> list[Manifest] | None:
        items = kube.items("crashreports", "-n", namespace)
        counted = sum(item.get("status", {}).get("count", 0) for item in items)
        assert counted <= total, f"{counted} crashes were counted where {total} happened"
        return items if counted == total else None

    return until(found, f"{total} crash(es) to be counted in {namespace}", seconds)


@pytest.fixture
def namespace(kube: Kube, request: pytest.FixtureRequest) -> Iterator[str]:
    """A restricted namespace of the test's own."""
    name = re.sub(r"[^a-z0-9]+", "-", request.node.name.lower())[:60].strip("-")
    with restricted(kube, name):
        yield name


@pytest.fixture
def reports(kube: Kube, namespace: str) -> Callable[..., list[Manifest]]:
    """`wait_for_reports` of the test's namespace."""
    return partial(wait_for_reports, kube, namespace)
