"""Crash to CrashReport: how long until a crash can be read through the API.

Peer, in the same run and on the same crashes: the kubelet, which reports the exit code of the
container's death.  Each crash is of another pod, and so of another group, because later crashes of
one group are batched on purpose.

Needs the cluster of the e2e tests or the demo (KUBECONFIG).  Writes ``bench/results/report.json``.

    python -m bench.report.run [CRASHES]
"""

import json
import statistics
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from kubernetes import client, config

from bench.measurements import Measurement, report

NAMESPACE = "stillframe-bench"
LIMIT_SECONDS = 30.0
POLL_SECONDS = 0.01
TARGET_MEDIAN = 2.0


def main() -> int:
    """Runs the benchmark; exit status 1 when the median misses its target."""
    crashes = int(sys.argv[1]) if len(sys.argv) > 1 else 20
    config.load_kube_config()
    core, custom = client.CoreV1Api(), client.CustomObjectsApi()
    _kubectl("create", "namespace", NAMESPACE)
    try:
        names = [f"bench-{index}" for index in range(crashes)]
        pods = {"apiVersion": "v1", "kind": "List", "items": [_pod(name) for name in names]}
        _kubectl("apply", "-f", "-", stdin=json.dumps(pods))
        _kubectl("wait", "pods", "--all", "--for=condition=Ready", "--timeout=120s")
        times = [_crash(core, custom, name) for name in names]
    finally:
        _kubectl("delete", "namespace", NAMESPACE, "--wait=false")
    ours, kubelets = (_summary([pair[at] for pair in times]) for at in (0, 1))
    return report(
        "report",
        [
            Measurement(
                f"crash to CrashReport, {name}",
                "s",
                round(value, 3),
                f"kubelet's exit code {kubelets[name]:.3f} s ({value / kubelets[name]:.2f} x)",
                TARGET_MEDIAN if name == "median" else None,
            )
            for name, value in ours.items()
        ],
        crashes=crashes,
    )


def _crash(core: Any, custom: Any, name: str) -> tuple[float, float]:
    """Seconds until the CrashReport and until the exit code can be read."""
    address = core.read_namespaced_pod(name, NAMESPACE).status.pod_ip
    where = ("stillframe.dev", "v1alpha1", NAMESPACE, "crashreports")

    def reported() -> bool:
        found = custom.list_namespaced_custom_object(*where)["items"]
        return any(
            item["spec"]["workload"]["name"] == name and item.get("status", {}).get("count")
            for item in found
        )

    def ended() -> bool:
        state = core.read_namespaced_pod(name, NAMESPACE).status.container_statuses[0].state
        return state.terminated is not None

    start = time.monotonic()
    with suppress(OSError):  # the process dies instead of answering
        urllib.request.urlopen(f"http://{address}:8080/crash", timeout=5)
    seen: dict[Callable[[], bool], float] = {}
    while len(seen) < 2:
        for check in (reported, ended):
            if check not in seen and check():
                seen[check] = time.monotonic() - start
        if time.monotonic() - start > LIMIT_SECONDS:
            raise SystemExit(f"{name}: no report within {LIMIT_SECONDS:.0f} s")
        time.sleep(POLL_SECONDS)
    return seen[reported], seen[ended]


def _pod(name: str) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "annotations": {"stillframe.dev/capture": "snapshot"}},
        "spec": {
            "restartPolicy": "Never",
            "containers": [{"name": "app", "image": "localhost/stillframe/demo:dev"}],
        },
    }


def _summary(values: list[float]) -> dict[str, float]:
    ordered = sorted(values)
    p99 = ordered[min(len(ordered) - 1, round(0.99 * len(ordered)))]
    return {"median": statistics.median(ordered), "p99": p99, "max": ordered[-1]}


def _kubectl(*arguments: str, stdin: str | None = None) -> None:
    command = ("kubectl", "-n", NAMESPACE, *arguments)
    subprocess.run(command, input=stdin, text=True, check=True, stdout=subprocess.DEVNULL)


if __name__ == "__main__":
    sys.exit(main())
