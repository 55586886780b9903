"""The examples on a real cluster: their pods as they are, and what a developer reads of each.

In a namespace that enforces PodSecurity *restricted*, with a read-only root.

With ``UPDATE_EXAMPLES=1`` docs/reference/examples.md is written anew from what is seen; read the
diff.
"""

import difflib
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.e2e import examples_page as page
from tests.e2e.conftest import restricted, wait_for_reports
from tests.support.cluster import Cluster
from tests.support.kube import Kube

ROOT = Path(__file__).resolve().parents[2]
LANGUAGES = ROOT / "examples/languages"
PAGE = ROOT / "docs/reference/examples.md"
UPDATE = os.environ.get("UPDATE_EXAMPLES") == "1"
Told = dict[str, dict[str, Any]]
READ = {
    "cpp": ("null pointer: read of 8 bytes at 0x20", "shop::Till::price(shop::Cart const&) (cart"),
    "rust": ("panic", "cart::shop::Till::price (cart.rs:"),
    # Debian's interpreter leaves the class out of a function's name up to CPython 3.10.
    "python": ("null pointer: read of 8 bytes at 0x0", "price (cart.py:"),
    "java": ("null pointer: read of 8 bytes at 0x0", "Cart.price(int) (bytecode"),
}
"""By language: how the cause begins, and what is in the stack."""


@pytest.fixture(scope="module")
def told(nodes: Cluster, kube: Kube) -> Iterator[Told]:
    """By language, the CrashReport of the program that was run as its manifest says."""
    subprocess.run(["make", "-s", "-C", LANGUAGES.parent, "languages"], check=True)
    nodes.import_images(examples=True)
    with restricted(kube, page.NAMESPACE):
        files = [f"--filename={LANGUAGES / name / 'pod.yaml'}" for name in READ]
        kube.kubectl("apply", "-n", page.NAMESPACE, *files)
        reports = wait_for_reports(kube, page.NAMESPACE, len(READ), seconds=90)
        yield {
            report["spec"]["workload"]["name"].removeprefix("cart-"): report for report in reports
        }


@pytest.mark.parametrize("language", READ)
def test_a_developer_reads_the_function_and_the_line(told: Told, language: str) -> None:
    status = told[language]["status"]
    cause, frame = READ[language]
    assert status["cause"].startswith(cause)
    assert [line for line in status["stack"] if frame in line], status["stack"]


def test_the_documented_reports_are_what_the_cluster_says(
    kube: Kube, told: Told, tmp_path: Path
) -> None:
    def ask(command: str, directory: Path) -> str:
        return kube.run("bash", "-c", command, cwd=directory).stdout

    asked = {}
    for example in page.EXAMPLES:
        report = told[example.name]
        (sample,) = report["status"]["samples"].values()
        commands = page.commands(example, report["metadata"]["name"], sample["fetch"])
        work = tmp_path / example.name
        work.mkdir()
        asked[example.name] = [(command, ask(command, work)) for command in commands]
    new = page.page(ask(page.LIST, tmp_path), asked)
    if UPDATE:
        PAGE.write_text(new)
    old, seen = page.compared(PAGE.read_text()), page.compared(new)
    diff = list(difflib.unified_diff(old, seen, str(PAGE), "the cluster", lineterm=""))
    assert not diff, "\n".join(diff)
