"""The examples on a real cluster: their pods as they are, and what a developer reads of each.

In a namespace that enforces PodSecurity *restricted*, with a read-only root.
"""

import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.support.cluster import Cluster
from tests.support.kube import Kube

LANGUAGES = Path(__file__).resolve().parents[2] / "examples/languages"
Reports = Callable[..., list[dict[str, Any]]]
TOLD = {
    "cpp": ("null pointer: read of 8 bytes at 0x20", "shop::Till::price(shop::Cart const&) (cart"),
    "rust": ("panic", "cart::shop::Till::price (cart.rs:"),
    "python": ("null pointer: read of 8 bytes at 0x0", "py#0 Till.price (cart.py:"),
    "java": ("null pointer: read of 8 bytes at 0x0", "Cart.price(int) (bytecode"),
}
"""By language: how the cause begins, and what is in the stack."""


@pytest.fixture(scope="session")
def examples(nodes: Cluster) -> None:
    """Images of the four programs, on all nodes."""
    subprocess.run(["make", "-s", "-C", LANGUAGES.parent, "languages"], check=True)
    nodes.import_images(examples=True)


@pytest.mark.usefixtures("examples")
@pytest.mark.parametrize("language", TOLD)
def test_a_developer_reads_the_function_and_the_line(
    kube: Kube, namespace: str, reports: Reports, language: str
) -> None:
    pod = LANGUAGES / language / "pod.yaml"
    kube.kubectl("apply", "-n", namespace, "-f", str(pod))
    (report,) = reports(1, seconds=90)
    cause, frame = TOLD[language]
    assert report["status"]["cause"].startswith(cause)
    stack = report["status"]["stack"]
    # Debian's interpreter leaves the class out of a function's name up to CPython 3.10.
    assert [line for line in stack if frame in line or frame.replace("Till.", "") in line], stack
