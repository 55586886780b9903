"""Identity: the pod and the container of a process, from its cgroup.

Flows in: lines of ``/proc/PID/cgroup`` as read from an attested process.
Flows out: a pod UID and a container id.  Computes only, no I/O.  This is the
fifth proof: the UID must be the one in the snapshot volume's path.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from stillframe.errors import InvalidInputError


class Foreign(StrEnum):
    """Why an attested process is not of the pod whose volume it wrote to."""

    NO_POD = "NoPod"
    """Its cgroup is not that of a container of a pod."""
    OTHER_POD = "OtherPod"
    """It lives in another pod than the volume."""
    AMBIGUOUS = "AmbiguousCgroup"
    """Its cgroup hierarchies name different containers."""


@dataclass(frozen=True, slots=True)
class Placement:
    """Where the kubelet and the runtime put a process."""

    pod_uid: str
    """Lower case, with dashes where the kubelet has them (static pods have none)."""
    container_id: str
    """The runtime's id, without scheme."""


_UID: Final = r"[0-9a-f]{8}(?:[-_][0-9a-f]{4}){3}[-_][0-9a-f]{12}|[0-9a-f]{32}"
_POD: Final = re.compile(rf"(?:[a-z0-9-]*-)?pod(?P<uid>{_UID})(?:\.slice)?")
_CONTAINER: Final = re.compile(r"(?:[a-z][a-z0-9-]*?-)?(?P<id>[0-9a-f]{64})(?:\.scope)?")
_MONITOR: Final = "crio-conmon-"
"""CRI-O's monitor of a container lives in the pod's cgroup, but is none of the pod's."""


def parse_cgroup(lines: Sequence[str]) -> Placement:
    """The pod and container of a process.

    Understands cgroup v1 and v2, the cgroupfs and systemd drivers, containerd
    (also its ``slice:cri-containerd:id`` form), CRI-O and cri-dockerd, and
    paths relative to our own cgroup namespace (``/../../…``).  A container
    that may make cgroups below its own can only append to the path, so the
    first pod in it counts.  Raises `InvalidInputError` (`Foreign`).

    >>> parse_cgroup([
    ...     "0::/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod"
    ...     "1d3b6a0c_5f0e_4b67_9d5c_2f7a1c0de111.slice/cri-containerd-" + 64 * "a" + ".scope"
    ... ]).pod_uid
    '1d3b6a0c-5f0e-4b67-9d5c-2f7a1c0de111'
    """
    found = {place for line in lines if (place := _placement(line)) is not None}
    if not found:
        raise InvalidInputError(Foreign.NO_POD, "the process is not in the cgroup of a pod")
    if len(found) > 1:
        raise InvalidInputError(
            Foreign.AMBIGUOUS, "the process's cgroup hierarchies name different containers"
        )
    return found.pop()


def require_pod(lines: Sequence[str], pod_uid: str) -> Placement:
    """As `parse_cgroup`, and it must be the pod ``pod_uid``."""
    place = parse_cgroup(lines)
    if place.pod_uid != pod_uid:
        raise InvalidInputError(
            Foreign.OTHER_POD, f"the process is of pod {place.pod_uid}, the volume of {pod_uid}"
        )
    return place


def _placement(line: str) -> Placement | None:
    parts = re.split(r"[/:]", line.partition(":")[2].partition(":")[2])
    for index, part in enumerate(parts):
        pod = _POD.fullmatch(part)
        if pod is None:
            continue
        below = parts[index + 1 :]
        if below[:1] == ["cri-containerd"]:
            below = below[1:]
        if not below or below[0].startswith(_MONITOR):
            return None
        container = _CONTAINER.fullmatch(below[0])
        if container is None:
            return None
        return Placement(pod["uid"].replace("_", "-"), container["id"])
    return None
