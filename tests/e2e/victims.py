"""Pods that die, as the tests need them."""

from typing import Any

CRASHER = "/crashers/glibc/crasher"
IDLE = ("sh", "-c", "trap 'exit 0' TERM; while :; do sleep 1; done")
"""A command that waits until it is told to end."""
GO_FILE = "/dev/shm/go"
CRASH_ON_GO = ("sh", "-c", f"until test -e {GO_FILE}; do sleep 0.1; done; exec {CRASHER} null_read")
"""A command that crashes once somebody makes `GO_FILE`."""
CRASH_ON_TERM = (
    "sh",
    "-c",
    f"trap 'exec {CRASHER} null_read' TERM; while :; do sleep 0.1; done",
)
"""A command that crashes when it is told to end."""
EAT_MEMORY = ("python3", "-c", "b'x' * (1 << 30)")
CRASHERS_IMAGE = "localhost/stillframe/crashers:dev"
RESTRICTED = {
    "allowPrivilegeEscalation": False,
    "capabilities": {"drop": ["ALL"]},
    "readOnlyRootFilesystem": True,
}


def victim(
    name: str,
    *death: str,
    command: tuple[str, ...] = (),
    capture: str | None = "snapshot",
    restart: str = "Never",
    container: dict[str, Any] | None = None,
    **spec: Any,
) -> dict[str, Any]:
    """A pod that fits PodSecurity *restricted*; its pid 1 dies ``death``, or is ``command``."""
    annotations = {} if capture is None else {"stillframe.dev/capture": capture}
    app = {
        "name": "app",
        "image": CRASHERS_IMAGE,
        "imagePullPolicy": "IfNotPresent",
        "command": [*(command or (CRASHER, *death))],
        "securityContext": RESTRICTED,
        **(container or {}),
    }
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "annotations": annotations},
        "spec": {
            "restartPolicy": restart,
            "terminationGracePeriodSeconds": 1,
            "automountServiceAccountToken": False,
            "securityContext": {
                "runAsNonRoot": True,
                "runAsUser": 1000,
                "seccompProfile": {"type": "RuntimeDefault"},
            },
            "containers": [app],
            **spec,
        },
    }
