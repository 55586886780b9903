"""The examples of four languages: each dies as it says, and its report names the bug.

- the line of the bug and the language's own frames are in the report
- each can be run as a pod: its manifest asks for the capture that it takes, and its image is one
  that `tests/cluster/images examples` builds
"""

import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.cluster import imaging
from tests.integration.cli.conftest import Local

ROOT = Path(__file__).resolve().parents[3]
LANGUAGES = ROOT / "examples/languages"
BUILT = ROOT / "build/languages"
NO_CORE = ("prlimit", "--core=0")
NAMES = ("cpp", "rust", "python", "java")


@pytest.fixture(scope="module", autouse=True)
def programs() -> None:
    subprocess.run(["make", "-s", "-C", ROOT / "examples", "languages"], check=True)


@pytest.fixture
def local(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Local:
    monkeypatch.chdir(tmp_path)
    return Local(tmp_path / "evidence")


def manifest(name: str) -> dict[str, Any]:
    loaded: dict[str, Any] = yaml.safe_load((LANGUAGES / name / "pod.yaml").read_text())
    return loaded


def crashed(local: Local, name: str) -> dict[str, Any]:
    """The analysis of the crash, run with the command and the level of the manifest."""
    pod = manifest(name)
    (container,) = pod["spec"]["containers"]
    command = [part.replace("/app", str(BUILT / name)) for part in container["command"]]
    level = pod["metadata"]["annotations"]["stillframe.dev/capture"]
    local.run(*NO_CORE, *command, options=("--core",) if level == "core" else ())
    analysis: dict[str, Any] = local.report["analysis"]
    return analysis


def line_of(name: str, code: str) -> int:
    (source,) = (LANGUAGES / name).glob("[cC]art.*")
    (line,) = (n for n, text in enumerate(source.read_text().splitlines(), 1) if code in text)
    return line


def test_cpp_names_line_register_and_offset(local: Local) -> None:
    analysis = crashed(local, "cpp")
    line = line_of("cpp", "account->discount")
    assert analysis["top_frame"].endswith(f"price(shop::Cart const&) (cart.cpp:{line})")
    assert "null pointer: read of 8 bytes at 0x20, " in analysis["cause"]


def test_rust_has_the_stack_of_the_panic(local: Local) -> None:
    analysis = crashed(local, "rust")
    assert analysis["signal"]["name"] == "SIGABRT"
    line = line_of("rust", "expect(")
    assert any(f"price (cart.rs:{line})" in shown for shown in analysis["stack"])


def test_python_has_its_own_frames(local: Local) -> None:
    analysis = crashed(local, "python")
    line = line_of("python", "from_address(")
    assert f"Python was in Till.price (cart.py:{line})" in analysis["message"].replace(
        " price (",
        " Till.price (",  # without the class up to CPython 3.10
    )
    assert analysis["soft_errors"] == []


def test_java_has_its_own_frames(local: Local) -> None:
    analysis = crashed(local, "java")
    functions = [
        frame["function"] for frame in analysis["threads"][0]["frames"] if "function" in frame
    ]
    start = functions.index("Cart.price(int)")
    assert functions[start : start + 2] == ["Cart.price(int)", "Cart.total()"]
    assert analysis["java"]["thread"] == 'JavaThread "till"'


@pytest.mark.parametrize("name", NAMES)
def test_the_pod_runs_an_image_that_can_be_built(name: str) -> None:
    pod = manifest(name)
    (container,) = pod["spec"]["containers"]
    (image,) = (i for i in imaging.EXAMPLES if i.reference == container["image"])
    assert image.dockerfile.is_file()
    paths = [part for part in container["command"] if part.startswith("/app/")]
    assert paths
    for path in paths:
        assert Path(path.replace("/app", str(image.context))).exists()
