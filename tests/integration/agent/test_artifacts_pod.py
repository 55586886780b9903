"""The process of the artifacts pod: unprivileged, patient, and gone at SIGTERM."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path

from tests.integration.agent.node import AGENT_GROUP, ROOT, wait_until


def ready(port: int) -> tuple[int, str] | None:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/readyz", timeout=5) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()
    except urllib.error.URLError:
        return None


def test_it_waits_until_the_agent_has_opened_the_directory(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    for path in (tmp_path, *tmp_path.parents[:2]):
        path.chmod(0o755)
    artifacts = tmp_path / "artifacts"
    artifacts.mkdir(mode=0o700)
    who = ("setpriv", f"--reuid={AGENT_GROUP}", f"--regid={AGENT_GROUP}", "--clear-groups")
    script = "from stillframe_agent.__main__ import main; main()"
    options = ("artifacts", f"--listen=127.0.0.1:{port}", f"--root={artifacts}")
    environment = {"PYTHONPATH": f"{ROOT / 'src'}:{ROOT / 'agent'}", "PATH": os.environ["PATH"]}
    process = subprocess.Popen([*who, sys.executable, "-c", script, *options], env=environment)
    with contextlib.ExitStack() as cleanup:
        cleanup.callback(process.kill)
        answer = wait_until("an answer", lambda: ready(port))
        assert answer[0] == 503
        assert str(artifacts) in answer[1]

        os.chown(artifacts, -1, AGENT_GROUP)
        artifacts.chmod(0o750)
        assert ready(port) == (200, "ready\n")
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=5) == 0
