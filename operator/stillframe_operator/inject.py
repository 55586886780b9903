"""Stage 0: a pod goes in, a JSON patch comes out.  Pure.

The patch adds one init container (copies the library), two memory volumes and
a few variables.  It never changes the pod's QoS class, its effective requests
and limits, or whether it is admitted: the init container carries the
resources of the pod's first container, which the namespace's LimitRange and
quota have accepted already, and "init" never adds to "app" (the larger counts).

App containers are injected; init containers, native sidecars among them, only
if they are named by the annotation; ephemeral containers never.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import PurePosixPath
from typing import Any, Final

from stillframe import __version__, names
from stillframe_operator import optin, preload
from stillframe_operator.settings import Settings
from stillframe_operator.text import clean

Pod = Mapping[str, Any]
Operation = dict[str, Any]

_LIBRARY_VOLUME_BYTES: Final = 1 << 20
_COPIED_RESOURCES: Final = ("cpu", "memory", "ephemeral-storage")
"""Not GPUs, huge pages or claims: those are counted per container that asks."""
_ARCHITECTURES: Final = ("amd64", "arm64")
_SECURITY: Final = {
    "allowPrivilegeEscalation": False,
    "capabilities": {"drop": ["ALL"]},
    "readOnlyRootFilesystem": True,
    "runAsNonRoot": True,
    "seccompProfile": {"type": "RuntimeDefault"},
}
"""PodSecurity "restricted"."""


class Skip(StrEnum):
    """Why a pod that asked for capture does not get it."""

    INVALID_CAPTURE = "InvalidCapture"
    EXCLUDED_NAMESPACE = "ExcludedNamespace"
    WINDOWS = "Windows"
    ARCHITECTURE = "UnsupportedArchitecture"
    HOST_IPC = "HostIPC"
    RUNTIME_CLASS = "RuntimeClass"
    NO_CONTAINER = "NoSuchContainer"
    MOUNT_CONFLICT = "MountConflict"


@dataclass(frozen=True)
class Injection:
    """What to do with one pod; an empty patch changes nothing."""

    patch: tuple[Operation, ...] = ()
    skipped: Skip | None = None
    warnings: tuple[str, ...] = ()

    @property
    def injected(self) -> bool:
        """The patch makes this an injected pod."""
        return bool(self.patch) and self.skipped is None


def inject(
    pod: Pod, namespace: str, settings: Settings, namespace_value: str | None = None
) -> Injection:
    """Decide about ``pod``; ``namespace_value`` is its namespace's opt-in label, if any."""
    annotations = pod.get("metadata", {}).get("annotations") or {}
    level = optin.requested(annotations, namespace_value)
    if level == "off" or _is_mirror(annotations) or is_injected(pod):
        return Injection()
    if level is None:
        return _skip(
            pod,
            Skip.INVALID_CAPTURE,
            f"{names.ANNOTATION_CAPTURE} must be one of {', '.join(optin.LEVELS)}",
        )
    refusal = _refusal(pod, namespace, settings)
    if refusal is not None:
        return _skip(pod, *refusal)
    return _injection(pod, level, settings)


def is_injected(pod: Pod) -> bool:
    """Return whether ``pod`` carries our init container; the label alone proves nothing."""
    inits = pod.get("spec", {}).get("initContainers") or []
    return any(container.get("name") == names.INIT_CONTAINER for container in inits)


def _is_mirror(annotations: Mapping[str, str]) -> bool:
    """A mirror pod only reflects a static pod: changing it makes the kubelet recreate it."""
    return "kubernetes.io/config.mirror" in annotations


def _refusal(pod: Pod, namespace: str, settings: Settings) -> tuple[Skip, str] | None:
    spec = pod["spec"]
    selector = spec.get("nodeSelector") or {}
    if namespace == settings.namespace or namespace in settings.excluded_namespaces:
        return Skip.EXCLUDED_NAMESPACE, f"namespace {namespace} is never injected"
    if "windows" in ((spec.get("os") or {}).get("name"), selector.get("kubernetes.io/os")):
        return Skip.WINDOWS, "only Linux processes can be captured"
    if selector.get("kubernetes.io/arch", "amd64") not in _ARCHITECTURES:
        return Skip.ARCHITECTURE, f"only {' and '.join(_ARCHITECTURES)} can be captured"
    if spec.get("hostIPC"):
        return Skip.HOST_IPC, "with hostIPC /dev/shm is the node's: remove hostIPC"
    if spec.get("runtimeClassName") in settings.excluded_runtime_classes:
        return Skip.RUNTIME_CLASS, "processes in this sandbox are invisible to the node's agent"
    return None


def _injection(pod: Pod, level: optin.Level, settings: Settings) -> Injection:
    annotations = pod.get("metadata", {}).get("annotations") or {}
    hold = optin.hold(annotations, settings.hold_millis, settings.max_hold_millis)
    on_hold = optin.on_hold(annotations, level, settings.on_hold, allowed=settings.shutdown_sockets)
    warnings = [warning for warning in (hold.warning, on_hold.warning) if warning]
    operations: list[Operation] = []
    chosen = _chosen(pod["spec"], optin.containers(annotations))
    for pointer, container in chosen:
        directory = _directory(container)
        if directory is None:
            warnings.append(
                f"container {clean(container['name'], 63)} is not captured: its own mounts "
                f"cover {names.MOUNT_LIBRARY} or {names.MOUNT_SNAPSHOTS_FALLBACK}"
            )
            continue
        if container.get("envFrom"):
            warnings.append(
                f"container {clean(container['name'], 63)}: an {names.ENV_PRELOAD} that comes "
                "from envFrom is replaced; set it in env to keep it"
            )
        snapshots = preload.Snapshots(
            directory,
            settings.claim_millis,
            hold.millis,
            settings.max_snapshot_bytes,
            level,
            on_hold.value,
        )
        operations += _container_operations(pointer, container, snapshots)
    if not chosen:
        named = clean(annotations.get(names.ANNOTATION_CONTAINERS, ""), 64)
        return _skip(pod, Skip.NO_CONTAINER, f"no container is named by {named!r}")
    if not operations:
        return _skip(pod, Skip.MOUNT_CONFLICT, *warnings)
    marks = {names.ANNOTATION_CAPTURE: level, names.ANNOTATION_INJECTED_VERSION: __version__}
    operations += _pod_operations(pod["spec"], settings)
    operations += _metadata(pod, "labels", {names.LABEL_INJECTED: "true"})
    operations += _metadata(pod, "annotations", marks, without=names.ANNOTATION_SKIP_REASON)
    return Injection(tuple(operations), None, tuple(warnings))


def _chosen(
    spec: Mapping[str, Any], named: frozenset[str] | None
) -> list[tuple[str, Mapping[str, Any]]]:
    """Return (JSON pointer, container) of what is to be injected.

    The pointers hold for the pod as it came: these operations go first, before
    our init container moves the others by one.
    """
    apps = [
        (f"/spec/containers/{index}", container)
        for index, container in enumerate(spec.get("containers") or [])
        if named is None or container["name"] in named
    ]
    inits = [
        (f"/spec/initContainers/{index}", container)
        for index, container in enumerate(spec.get("initContainers") or [])
        if named and container["name"] in named
    ]
    return apps + inits


def _directory(container: Mapping[str, Any]) -> str | None:
    """Return where this container's snapshots go; None where we cannot mount.

    A mount of ours below a read-only mount of theirs would keep the container
    from starting (measured with runc), below a writable one it leaves a directory.
    """
    mounts = [PurePosixPath(m["mountPath"]) for m in container.get("volumeMounts") or []]

    def free(target: str) -> bool:
        mine = PurePosixPath(target)
        return not any(mine.is_relative_to(m) or m.is_relative_to(mine) for m in mounts)

    if not free(names.MOUNT_LIBRARY):
        return None
    places = (names.MOUNT_SNAPSHOTS, names.MOUNT_SNAPSHOTS_FALLBACK)
    return next((place for place in places if free(place)), None)


def _container_operations(
    pointer: str, container: Mapping[str, Any], snapshots: preload.Snapshots
) -> list[Operation]:
    mounts = [
        *(container.get("volumeMounts") or []),
        {"name": names.VOLUME_LIBRARY, "mountPath": names.MOUNT_LIBRARY, "readOnly": True},
        {"name": names.VOLUME_SNAPSHOTS, "mountPath": snapshots.directory},
    ]
    env = preload.environment(container.get("env") or [], snapshots)
    return [_add(f"{pointer}/env", env), _add(f"{pointer}/volumeMounts", mounts)]


def _pod_operations(spec: Mapping[str, Any], settings: Settings) -> list[Operation]:
    volumes = [
        *(spec.get("volumes") or []),
        _memory_volume(names.VOLUME_LIBRARY, _LIBRARY_VOLUME_BYTES),
        _memory_volume(names.VOLUME_SNAPSHOTS, settings.snapshot_volume_bytes),
    ]
    ours = _init_container(spec, settings)
    inits = (
        _add("/spec/initContainers/0", ours)
        if spec.get("initContainers")
        else _add("/spec/initContainers", [ours])
    )
    return [_add("/spec/volumes", volumes), inits]


def _memory_volume(name: str, size: int) -> dict[str, Any]:
    """Memory, because a disk emptyDir keeps the cluster autoscaler from removing the node."""
    return {"name": name, "emptyDir": {"medium": "Memory", "sizeLimit": str(size)}}


def _init_container(spec: Mapping[str, Any], settings: Settings) -> dict[str, Any]:
    # The image's own numeric user serves, so that OpenShift may assign another
    # one; only a pod that says "root" has to be contradicted.
    pod_user = (spec.get("securityContext") or {}).get("runAsUser")
    user = {"runAsUser": 65532} if pod_user == 0 else {}
    return {
        "name": names.INIT_CONTAINER,
        "image": settings.injector_image,
        "imagePullPolicy": settings.injector_pull_policy,
        "args": [names.MOUNT_LIBRARY],
        "resources": _copied(spec["containers"][0].get("resources") or {}),
        "securityContext": {**_SECURITY, **user},
        "volumeMounts": [{"name": names.VOLUME_LIBRARY, "mountPath": names.MOUNT_LIBRARY}],
    }


def _copied(resources: Mapping[str, Any]) -> dict[str, Any]:
    return {
        kind: {name: table[name] for name in _COPIED_RESOURCES if name in table}
        for kind in ("requests", "limits")
        if (table := resources.get(kind))
    }


def _skip(pod: Pod, reason: Skip, *warnings: str) -> Injection:
    annotations = pod.get("metadata", {}).get("annotations") or {}
    told = tuple(f"stillframe does not capture this pod ({reason}): {text}" for text in warnings)
    if annotations.get(names.ANNOTATION_SKIP_REASON) == reason:
        return Injection((), reason, told)
    marks = {names.ANNOTATION_SKIP_REASON: str(reason)}
    return Injection(tuple(_metadata(pod, "annotations", marks)), reason, told)


def _metadata(
    pod: Pod, field: str, entries: Mapping[str, str], without: str | None = None
) -> Sequence[Operation]:
    old = pod.get("metadata", {}).get(field) or {}
    merged = {key: value for key, value in old.items() if key != without} | dict(entries)
    return [_add(f"/metadata/{field}", merged)]


def _add(pointer: str, value: Any) -> Operation:
    return {"op": "add", "path": pointer, "value": value}
