"""One API server without nodes for all API tests."""

from collections.abc import Iterator

import pytest

from tests.support.cluster import ApiServer, api_server


@pytest.fixture(scope="session")
def kube() -> Iterator[ApiServer]:
    """etcd and kube-apiserver on loopback; objects of one test are there for the next."""
    with api_server() as running:
        yield running
