"""A cluster as tests use it: kubectl with JSON in and out, and waiting for what must come."""

import json
import os
import subprocess
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

T = TypeVar("T")
Manifest = dict[str, Any]
POLL_SECONDS = 0.1


def until(condition: Callable[[], T | None], what: str, seconds: float = 60.0) -> T:
    """What ``condition`` returns once it is true; fails naming ``what`` after ``seconds``."""
    end = time.monotonic() + seconds
    while True:
        value = condition()
        if value:
            return value
        assert time.monotonic() < end, f"waited {seconds:.0f} s for {what}"
        time.sleep(POLL_SECONDS)


@dataclass(frozen=True)
class Kube:
    """kubectl and helm against one cluster."""

    binaries: Path
    kubeconfig: Path

    @property
    def env(self) -> dict[str, str]:
        """An environment in which ``kubectl`` and ``helm`` are ours and find the cluster."""
        path = f"{self.binaries}:{os.environ['PATH']}"
        return {**os.environ, "PATH": path, "KUBECONFIG": str(self.kubeconfig)}

    def run(
        self, *command: str, stdin: str | None = None, check: bool = True, cwd: Path | None = None
    ) -> "subprocess.CompletedProcess[str]":
        """Runs any command in `env`; a failure shows what the command said."""
        done = subprocess.run(
            command, input=stdin, env=self.env, text=True, capture_output=True, check=False, cwd=cwd
        )
        said = f"{' '.join(command)}:\n{done.stdout}{done.stderr}"
        assert done.returncode == 0 or not check, said
        return done

    def spawn(self, *command: str) -> "subprocess.Popen[bytes]":
        """Starts any command in `env`, whose output nobody reads."""
        return subprocess.Popen(
            command, env=self.env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )

    def kubectl(self, *arguments: str, stdin: str | None = None, check: bool = True) -> str:
        """Standard output of kubectl."""
        return self.run("kubectl", *arguments, stdin=stdin, check=check).stdout

    def get(self, *arguments: str) -> Manifest:
        """``kubectl get … -o json``; empty when a named object does not exist."""
        text = self.kubectl("get", "--ignore-not-found", "-o", "json", *arguments)
        return json.loads(text) if text else {}

    def items(self, *arguments: str) -> list[Manifest]:
        """The items of a list."""
        listed = json.loads(self.kubectl("get", "-o", "json", *arguments))
        items: list[Manifest] = listed["items"]
        return items

    def apply(self, namespace: str, *manifests: Manifest) -> str:
        """Applies objects in ``namespace``; returns the warnings that kubectl printed."""
        text = json.dumps({"apiVersion": "v1", "kind": "List", "items": list(manifests)})
        return self.run("kubectl", "apply", "-n", namespace, "-f", "-", stdin=text).stderr

    def wait(self, namespace: str, what: str, condition: str, seconds: int = 60) -> None:
        """``kubectl wait`` until ``what`` exists and then until ``condition``."""
        arguments = ("wait", "-n", namespace, what, f"--timeout={seconds}s")
        self.kubectl(*arguments, "--for=create")
        self.kubectl(*arguments, f"--for={condition}")


def terminations(pod: Manifest) -> Sequence[Manifest]:
    """Every terminated state the kubelet still tells of, newest last."""
    found = []
    for status in pod.get("status", {}).get("containerStatuses", []):
        for state in (status.get("lastState", {}), status.get("state", {})):
            if "terminated" in state:
                found.append(state["terminated"])
    return found
