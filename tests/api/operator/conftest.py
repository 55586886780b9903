"""The operator on a real API server: the chart's objects, its own rights, real processes."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from functools import partial
from pathlib import Path

import pytest

from tests.api.operator.cluster import NODES, SYSTEM
from tests.api.operator.process import ROOT, Replica, replica
from tests.support.kube import Kube

RunReplica = Callable[..., AbstractContextManager[Replica]]


@pytest.fixture(scope="package")
def system(kube: Kube) -> Iterator[Kube]:
    """A cluster with the chart installed and two nodes that exist by name only."""
    chart = str(ROOT / "deploy/helm/stillframe")
    # The CRDs may be there already: other tests of this API server apply them with kubectl.
    options = ("-n", SYSTEM, "--create-namespace", "--take-ownership")
    kube.run("helm", "upgrade", "--install", SYSTEM, chart, *options)
    for name in NODES:
        kube.apply("default", {"apiVersion": "v1", "kind": "Node", "metadata": {"name": name}})
    yield kube
    kube.run("helm", "uninstall", SYSTEM, "-n", SYSTEM)


@pytest.fixture(scope="module")
def run_replica(system: Kube, tmp_path_factory: pytest.TempPathFactory) -> RunReplica:
    """Starts an operator: ``with run_replica("name", **settings) as replica``."""
    directory: Path = tmp_path_factory.mktemp("operator")
    return partial(replica, system, directory)
