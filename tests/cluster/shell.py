"""Running tools and waiting for them: every wait has a bound, every failure says where to look."""

import os
import subprocess
import time
from collections.abc import Callable, Sequence
from pathlib import Path


class ClusterError(Exception):
    """The test cluster cannot do what was asked; the message says why and what to look at."""


def run(*command: str | Path, stdin: bytes | None = None) -> str:
    """Runs ``command`` and returns its output; `ClusterError` with its stderr if it fails."""
    done = subprocess.run(command, input=stdin, capture_output=True, check=False)
    if done.returncode != 0:
        said = (done.stderr or done.stdout).decode(errors="replace").strip()
        raise ClusterError(f"{' '.join(map(str, command))}: exit {done.returncode}: {said}")
    return done.stdout.decode()


def run_together(commands: Sequence[Sequence[str | Path]], stdin: Path) -> None:
    """Runs ``commands`` at once, each reading the file ``stdin``, and waits for all of them."""
    started = []
    for command in commands:
        with stdin.open("rb") as source:
            started.append(
                subprocess.Popen(
                    command, stdin=source, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
                )
            )
    failed = []
    for process in started:
        said, _ = process.communicate()
        if process.returncode != 0:
            failed.append(said.decode(errors="replace").strip())
    if failed:
        raise ClusterError(f"{' '.join(map(str, commands[0]))} < {stdin}: {'; '.join(failed)}")


def wait_for(condition: Callable[[], bool], what: str, seconds: float, log: Path) -> None:
    """Polls ``condition`` every 50 ms; `ClusterError` with the end of ``log`` after ``seconds``."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise ClusterError(
                f"waited {seconds:g} s for {what}; see {log}, which ends:\n{_tail(log)}"
            )
        time.sleep(0.05)


def need_root() -> None:
    """A node is made of namespaces, mounts and cgroups; `ClusterError` for any other user."""
    if os.geteuid() != 0:
        raise ClusterError("a node is made of namespaces, mounts and cgroups: run this as root")


def _tail(log: Path) -> str:
    if not log.exists():
        return "(there is no such file yet)"
    with log.open("rb") as file:
        file.seek(max(0, log.stat().st_size - 2000))
        return file.read().decode(errors="replace")
