"""Pods: what a container is called, from root-owned files of the node.

Read at claim time, so that a report outlives its pod.  Flows in: an attested
`Placement`.  Flows out: namespace, pod and container names, the image, and the
level of capture that was asked for.  Nothing here was
written by the pod, and no API server is asked.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import msgspec

from stillframe import names
from stillframe_agent.identity import Placement


@dataclass(frozen=True, slots=True)
class PodIdentity:
    """Whose crash it is; what is not known is empty."""

    uid: str
    namespace: str = ""
    name: str = ""
    container: str = ""
    container_id: str = ""


_BUNDLE_CONFIGS: Final = ("config.json", "userdata/config.json")
"""In a bundle of containerd and of CRI-O."""
_CONFIG_MAX_BYTES: Final = 4 << 20
_ANNOTATIONS: Final = (
    {
        "uid": "io.kubernetes.pod.uid",
        "namespace": "io.kubernetes.pod.namespace",
        "name": "io.kubernetes.pod.name",
        "container": "io.kubernetes.container.name",
    },
    {
        "uid": "io.kubernetes.cri.sandbox-uid",
        "namespace": "io.kubernetes.cri.sandbox-namespace",
        "name": "io.kubernetes.cri.sandbox-name",
        "container": "io.kubernetes.cri.container-name",
    },
)
"""Annotations of CRI-O (the kubelet's labels) and of containerd (``pkg/cri/annotations``).

In this order: CRI-O writes the annotations of the pod, which may be called like containerd's,
into the sandbox's configuration, and the labels over them (``server/sandbox_run_linux.go``).
"""
_IMAGE_NAMES: Final = (
    "io.kubernetes.cri.image-name",
    "io.kubernetes.cri-o.ImageName",
    "io.kubernetes.cri-o.Image",
)
"""Annotations of containerd, and of CRI-O: a name of the image, or what the pod called it."""
_IMAGE_REF: Final = "io.kubernetes.cri-o.ImageRef"
"""The image's id; of older versions its name with the digest."""
_MILLIS: Final = re.compile(r"[0-9]{1,9}", re.ASCII)
_LOG_DIRECTORY: Final = re.compile(r"(?P<namespace>[a-z0-9.-]+)_(?P<name>[a-z0-9.-]+)_(?P<uid>.+)")


def identify(place: Placement, bundles_dir: Path, log_dir: Path) -> PodIdentity:
    """The names of an attested process's pod and container."""
    return _from_bundle(place, bundles_dir) or from_logs(place.pod_uid, log_dir, place.container_id)


@dataclass(frozen=True, slots=True)
class Wish:
    """What the webhook wrote into a container's environment."""

    core: bool = False
    """A full core is wanted."""
    hold_seconds: float = 0.0
    """Longest that a process of it waits for its capture."""
    shut_sockets: bool = False
    """Its sockets are to be shut down while it is held for a full core."""


def wish(place: Placement, bundles_dir: Path) -> Wish | None:
    """What is wanted of a container's crashes; None where its bundle cannot be read.

    The bundle belongs to root: a process can change its own environment, but
    not this.
    """
    for config in bundle_configs(place.container_id, bundles_dir):
        found = wish_in(config)
        if found is not None:
            return found
    return None


def wish_in(config: bytes) -> Wish | None:
    """As `wish`, from the text of an OCI runtime configuration."""
    variables = environment(config)
    if variables is None:
        return None
    millis = variables.get(names.ENV_HOLD_MS, "")
    return Wish(
        core=variables.get(names.ENV_CAPTURE) == "core",
        hold_seconds=int(millis) / 1000 if _MILLIS.fullmatch(millis) else 0.0,
        shut_sockets=variables.get(names.ENV_ON_HOLD) == names.ON_HOLD_SHUTDOWN_SOCKETS,
    )


def environment(config: bytes) -> dict[str, str] | None:
    """The variables in the text of an OCI runtime configuration; None when it has none."""
    entries = _section(config, "process").get("env")
    if not isinstance(entries, list):
        return None
    return dict(str(entry).split("=", 1) for entry in entries if "=" in str(entry))


def pod_uid_in(config: bytes) -> str | None:
    """Of which pod an OCI runtime configuration is; None when it does not say."""
    annotations = _annotations(config)
    return next(
        (annotations[keys["uid"]] for keys in _ANNOTATIONS if keys["uid"] in annotations), None
    )


def mount_sources(config: bytes) -> dict[str, str]:
    """What an OCI runtime configuration mounts where: destination → source.

    Of several mounts in one place the last one is seen.
    """
    mounts = _document(config).get("mounts")
    if not isinstance(mounts, list):
        return {}
    found = [mount for mount in mounts if isinstance(mount, dict)]
    return {str(mount.get("destination")): str(mount.get("source")) for mount in found}


def image(place: Placement, bundles_dir: Path) -> tuple[str, str]:
    """Name and digest of a container's image, each empty where its bundle does not tell.

    containerd writes a digest only where the pod asked for the image by it.
    """
    for config in bundle_configs(place.container_id, bundles_dir):
        annotations = _annotations(config)
        name = next((annotations[key] for key in _IMAGE_NAMES if annotations.get(key)), "")
        if name:
            reference = annotations.get(_IMAGE_REF, "")
            return name, name.partition("@")[2] or reference.rpartition("@")[2]
    return "", ""


def from_logs(pod_uid: str, log_dir: Path, container_id: str = "") -> PodIdentity:
    """The names in ``<namespace>_<pod>_<uid>/<container>``.

    The container is known when the pod has but one beside ours, or when its log is a link
    to a file that carries the container's id (cri-dockerd).
    """
    for directory in log_dir.glob(f"*_{pod_uid}"):
        match = _LOG_DIRECTORY.fullmatch(directory.name)
        if match is None or match["uid"] != pod_uid:
            continue
        container = _container_from_logs(directory, container_id)
        return PodIdentity(pod_uid, match["namespace"], match["name"], container, container_id)
    return PodIdentity(pod_uid, container_id=container_id)


def identity_in(config: bytes, place: Placement) -> PodIdentity | None:
    """The names in the text of an OCI runtime configuration, if it is one of ``place``'s pod."""
    annotations = _annotations(config)
    for keys in _ANNOTATIONS:
        if annotations.get(keys["uid"]) == place.pod_uid:
            found = {field: annotations.get(key, "") for field, key in keys.items()}
            return PodIdentity(**found, container_id=place.container_id)
    return None


def bundle_configs(container_id: str, bundles_dir: Path) -> Iterator[bytes]:
    """A container's OCI runtime configuration, under each of the names it may have.

    Empty where there is none: a bundle comes before its configuration, and vanishes with
    its container.
    """
    for name in _BUNDLE_CONFIGS:
        yield _read(bundles_dir / container_id / name)


def _from_bundle(place: Placement, bundles_dir: Path) -> PodIdentity | None:
    configs = bundle_configs(place.container_id, bundles_dir)
    found = (identity_in(config, place) for config in configs)
    return next((identity for identity in found if identity is not None), None)


def _annotations(config: bytes) -> dict[str, str]:
    """The annotations of an OCI runtime configuration; empty when there are none."""
    annotations = _section(config, "annotations")
    return {key: value for key, value in annotations.items() if isinstance(value, str)}


def _section(config: bytes, key: str) -> dict[str, Any]:
    """One object of an OCI runtime configuration; empty when there is none."""
    section = _document(config).get(key)
    return section if isinstance(section, dict) else {}


def _document(config: bytes) -> dict[str, Any]:
    """An OCI runtime configuration; empty when it is none."""
    try:
        data: Any = msgspec.json.decode(config)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return {}
    return data if isinstance(data, dict) else {}


def _read(config: Path) -> bytes:
    """A bundle's file; empty when there is none."""
    try:
        with config.open("rb") as file:
            return file.read(_CONFIG_MAX_BYTES)
    except OSError:
        return b""


def _container_from_logs(directory: Path, container_id: str) -> str:
    containers = [
        entry
        for entry in directory.iterdir()
        if entry.is_dir() and entry.name != names.INIT_CONTAINER
    ]
    if len(containers) == 1:
        return containers[0].name
    for container in containers:
        if container_id and any(
            log.is_symlink() and container_id in str(log.readlink()) for log in container.iterdir()
        ):
            return container.name
    return ""
