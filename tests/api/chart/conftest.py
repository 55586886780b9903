"""The tests of the chart have an API server of their own: they remove and remake the CRD."""

import uuid
from collections.abc import Iterator

import pytest

from tests.api.chart.test_install import helm, install
from tests.support.cluster import api_server
from tests.support.kube import Kube


@pytest.fixture(scope="session")
def kube() -> Iterator[Kube]:
    """A cluster without nodes and controllers."""
    with api_server() as server:
        yield server


@pytest.fixture(scope="module")
def release(kube: Kube) -> Iterator[Kube]:
    """A cluster with the chart installed in namespace ``stillframe``."""
    install(kube, "stillframe")
    yield kube
    helm(kube, "uninstall", "stillframe", "--namespace", "stillframe")


@pytest.fixture
def namespace(release: Kube) -> str:
    """A new namespace that takes pods: no controller makes the account of one here."""
    name = f"t-{uuid.uuid4().hex[:8]}"
    release.kubectl("create", "namespace", name)
    release.kubectl("create", "serviceaccount", "default", "-n", name)
    return name
