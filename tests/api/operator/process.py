"""The operator as it runs in its pod: a process with its service account's token."""

import contextlib
import json
import os
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.api.operator.cluster import SYSTEM
from tests.support.kube import Kube, until

ROOT = Path(__file__).resolve().parents[3]


@dataclass(frozen=True)
class Replica:
    """One running operator."""

    process: "subprocess.Popen[bytes]"
    webhook_port: int
    intake_port: int
    http_port: int
    log: Path

    def get(self, path: str) -> tuple[int, str]:
        """Status and body of its plain http port; 0 while nobody listens."""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.http_port}{path}") as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()
        except urllib.error.URLError:
            return 0, ""

    def metric(self, name: str) -> float:
        """Value of one sample, such as ``stillframe_leader``; 0 when it was never set."""
        lines = [line.rpartition(" ") for line in self.get("/metrics")[1].splitlines()]
        return sum(float(value) for key, _, value in lines if key == name)

    @property
    def leads(self) -> bool:
        return self.metric("stillframe_leader") == 1

    def end(self) -> int:
        """Send SIGTERM; return the exit status."""
        self.process.terminate()
        return self.process.wait(30)


@contextlib.contextmanager
def replica(
    kube: Kube, directory: Path, name: str, server: str = "", **settings: object
) -> Iterator[Replica]:
    """Run an operator until the context is left; ``server``: URL of another way to the API."""
    ports = _free_ports(3)
    chosen = {
        "namespace": SYSTEM,
        "identity": name,
        "injector_image": "example/injector:1",
        "host": "127.0.0.1",
        **dict(zip(("webhook_port", "intake_port", "http_port"), ports, strict=True)),
        **settings,
    }
    environment = {f"STILLFRAME_OPERATOR_{k.upper()}": str(v) for k, v in chosen.items()}
    kubeconfig = directory / f"{name}.kubeconfig"
    kubeconfig.write_text(_kubeconfig(kube, server))
    log = directory / f"{name}.log"
    packages = os.pathsep.join(str(ROOT / part) for part in ("src", "operator"))
    with log.open("wb") as stderr:
        process = subprocess.Popen(
            [sys.executable, "-m", "stillframe_operator"],
            env={
                "PATH": os.environ["PATH"],
                "PYTHONPATH": packages,
                "KUBECONFIG": str(kubeconfig),
                **environment,
            },
            stderr=stderr,
        )
    made = Replica(process, ports[0], ports[1], ports[2], log)
    try:
        until(lambda: made.get("/readyz")[0] == 200 or _died(made), f"{name} to be ready", 30)
        yield made
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()


def _died(made: Replica) -> bool:
    assert made.process.poll() is None, made.log.read_text()
    return False


def _free_ports(count: int) -> list[int]:
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]


def _kubeconfig(kube: Kube, server: str) -> str:
    """The operator's own rights, as the chart grants them, and nothing more."""
    token = kube.kubectl("create", "token", "stillframe-operator", "-n", SYSTEM).strip()
    admin = json.loads(kube.kubectl("config", "view", "--raw", "-o", "json"))
    if server:
        admin["clusters"][0]["cluster"]["server"] = server
    return json.dumps(
        {
            **admin,
            "users": [{"name": "operator", "user": {"token": token}}],
            "contexts": [
                {
                    "name": "operator",
                    "context": {"cluster": admin["clusters"][0]["name"], "user": "operator"},
                }
            ],
            "current-context": "operator",
        }
    )
