"""Debug bundles of the agent: made of the pod's own files, while they can be had."""

import hashlib
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from stillframe import names
from tests.integration.agent.intake import Operator
from tests.integration.agent.node import CRASHERS, Agent, Node, Pod
from tests.support.bundles import debug, frames, libraries, unpack

ASKED = {names.ENV_CAPTURE: "core", names.ENV_HOLD_MS: "10000"}


@pytest.mark.parametrize("env", [{}, ASKED], ids=["snapshot", "core"])
def test_a_bundle_opens_where_the_program_never_was(
    start_agent: Callable[..., Agent],
    node: Node,
    operator: Operator,
    tmp_path: Path,
    env: dict[str, str],
) -> None:
    agent = start_agent(bundle_bytes=1 << 30).wait_ready()
    pod = Pod(node, env=env).set_up()
    agent.wait_watching(pod)
    program = Path(shutil.copy(CRASHERS / "glibc/crasher", tmp_path / "program"))
    pod.start(program, "with_threads", 3, preload=True, **env).wait(timeout=20)
    (report,) = operator.wait_reports(1)
    program.unlink()
    (kept,) = (artifact for artifact in report.artifacts if artifact.kind == "bundle")
    path = node.state / names.ARTIFACTS_DIR / report.id / kept.file
    assert hashlib.sha256(path.read_bytes()).hexdigest() == kept.sha256
    assert path.stat().st_mode & 0o777 == 0o640
    laptop = unpack(path, tmp_path / "laptop")
    assert laptop.name == report.id
    text = debug(laptop, "info sharedlibrary", "bt")
    assert frames(text)[:3] == ["null_read", "with_threads", "main"]
    assert [path for path in libraries(text) if not path.is_relative_to(laptop)] == []
    assert "libc.so.6" in {path.name for path in libraries(text)}
    assert list(report.soft_errors) == []


@pytest.mark.parametrize(
    "limits",
    [
        {"bundle_bytes": 1 << 20},
        {"bundle_bytes": 1 << 30, "artifacts_bytes": 1 << 20},  # the namespace's room
    ],
)
def test_a_bundle_that_would_be_too_large_is_none_and_the_report_says_so(
    start_agent: Callable[..., Agent], node: Node, operator: Operator, limits: dict[str, int]
) -> None:
    agent = start_agent(**limits).wait_ready()
    pod = Pod(node).set_up()
    agent.wait_watching(pod)
    pod.crash().wait(timeout=20)
    (report,) = operator.wait_reports(1)
    assert "bundle" not in [artifact.kind for artifact in report.artifacts]
    (said,) = report.soft_errors
    too_large = "no debug bundle: core and binaries have more than the [0-9]+ bytes it may have"
    assert re.fullmatch(too_large, said)
