"""A node, an operator, an agent: real ones, fresh for each test."""

import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.integration.agent.intake import Operator
from tests.integration.agent.node import ROOT, Agent, Node, Pod, node_in


@pytest.fixture(scope="session", autouse=True)
def built() -> None:
    for directory in ("preload", "tests/crashers"):
        subprocess.run(
            ["make", "-s", "-C", ROOT / directory], check=True, stdout=subprocess.DEVNULL
        )


@pytest.fixture
def node(tmp_path: Path) -> Iterator[Node]:
    directory = tmp_path / "node"
    directory.mkdir()
    with node_in(directory) as node:
        yield node


@pytest.fixture
def operator(tmp_path: Path) -> Iterator[Operator]:
    credentials = tmp_path / "credentials"
    credentials.mkdir()
    operator = Operator(credentials).start()
    yield operator
    operator.stop()


@pytest.fixture
def start_agent(node: Node, operator: Operator) -> Callable[..., Agent]:
    """Starts agents of the one node; they end with it."""

    def start(**settings: object) -> Agent:
        return Agent(node, operator.address, operator.credentials, **settings)

    return start


@pytest.fixture
def agent(start_agent: Callable[..., Agent]) -> Agent:
    """A running agent."""
    return start_agent().wait_ready()


@pytest.fixture
def pod(node: Node) -> Pod:
    """A pod whose volume is mounted."""
    return Pod(node).set_up()
