"""Which containers bring the library along, and where their sandbox is."""

import json
import logging
from pathlib import Path
from typing import Any

import pytest
from stillframe_agent.inotify import IN_Q_OVERFLOW, Event, Inotify
from stillframe_agent.sandboxes import Containers, Sandbox, open_directory, sandbox_of

from stillframe import names
from stillframe.errors import TemporaryError

UID = "1d3b6a0c-5f0e-4b67-9d5c-2f7a1c0de111"
CONTAINER = 64 * "a"
SANDBOX = 64 * "b"
PRELOADED = f"{names.ENV_PRELOAD}=/opt/stillframe/{names.LIBRARY_FILE}"
CONTAINERD = f"/run/containerd/io.containerd.grpc.v1.cri/sandboxes/{SANDBOX}/shm"
CRIO = f"/var/run/containers/storage/overlay-containers/{SANDBOX}/userdata/shm"


def config(*env: str, shm: str = CONTAINERD, mounts: tuple[str, ...] = ()) -> dict[str, Any]:
    """What matters here of an OCI runtime configuration."""
    places = [{"destination": "/dev/shm", "type": "bind", "source": shm}]
    places += [{"destination": place, "source": "/elsewhere"} for place in mounts]
    return {"process": {"env": ["PATH=/bin", *env]}, "mounts": places}


def brings_library(sandbox: str) -> dict[str, Any]:
    """The configuration of a container whose image has the library."""
    return config(PRELOADED, shm=CONTAINERD.replace(SANDBOX, sandbox))


def of_pod(uid: str, key: str = "io.kubernetes.cri.sandbox-uid") -> dict[str, Any]:
    """The sandbox's own configuration, of its pause process."""
    return {**config(), "annotations": {key: uid}}


def write_bundle(
    directory: Path, container: str, content: object, name: str = "config.json"
) -> None:
    path = directory / container / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content if isinstance(content, str) else json.dumps(content))


@pytest.mark.parametrize(
    ("shm", "name", "key"),
    [
        (CONTAINERD, "config.json", "io.kubernetes.cri.sandbox-uid"),
        (CRIO, "userdata/config.json", "io.kubernetes.pod.uid"),
    ],
    ids=["containerd", "CRI-O"],
)
def test_the_sandbox_is_that_of_dev_shm_and_says_its_pod(
    tmp_path: Path, shm: str, name: str, key: str
) -> None:
    write_bundle(tmp_path, CONTAINER, config(PRELOADED, shm=shm), name)
    write_bundle(tmp_path, SANDBOX, of_pod(UID, key), name)
    assert sandbox_of(CONTAINER, tmp_path) == Sandbox(SANDBOX, UID)


def test_a_container_cannot_say_of_which_pod_its_dev_shm_is(tmp_path: Path) -> None:
    """Else a hostPath of another sandbox would make its crashes ours."""
    lie = {"annotations": {"io.kubernetes.cri.sandbox-uid": UID.replace("1", "2")}}
    write_bundle(tmp_path, CONTAINER, {**config(PRELOADED), **lie})
    write_bundle(tmp_path, SANDBOX, of_pod(UID))
    assert sandbox_of(CONTAINER, tmp_path) == Sandbox(SANDBOX, UID)


def test_an_annotation_of_the_pod_cannot_say_of_which_pod_its_sandbox_is(tmp_path: Path) -> None:
    """CRI-O writes those of the pod beside its own."""
    other = {"io.kubernetes.cri.sandbox-uid": UID.replace("1", "2"), "io.kubernetes.pod.uid": UID}
    write_bundle(tmp_path, CONTAINER, config(PRELOADED, shm=CRIO), "userdata/config.json")
    write_bundle(tmp_path, SANDBOX, {**config(), "annotations": other}, "userdata/config.json")
    assert sandbox_of(CONTAINER, tmp_path) == Sandbox(SANDBOX, UID)


@pytest.mark.parametrize(
    "preload",
    [
        f"/lib/libjemalloc.so:/x/{names.LIBRARY_FILE}",
        f"/x/{names.LIBRARY_FILE} /lib/b.so",
        names.LIBRARY_FILE,
    ],
)
def test_the_library_may_be_one_of_several(tmp_path: Path, preload: str) -> None:
    write_bundle(tmp_path, CONTAINER, config(f"{names.ENV_PRELOAD}={preload}"))
    write_bundle(tmp_path, SANDBOX, of_pod(UID))
    assert sandbox_of(CONTAINER, tmp_path) is not None


@pytest.mark.parametrize(
    "other",
    [
        config(),
        config(f"{names.ENV_PRELOAD}=/lib/libjemalloc.so"),
        config(f"{names.ENV_PRELOAD}=/x/not-{names.LIBRARY_FILE}"),
        config(PRELOADED, f"{names.ENV_DIR}=/tmp/x"),
        config(PRELOADED, f"{names.ENV_DISABLED}=1"),
        config(PRELOADED, mounts=(names.MOUNT_SNAPSHOTS,)),
        config(PRELOADED, shm="/dev/shm"),
        config(PRELOADED, shm="/var/lib/kubelet/pods/x/volumes/kubernetes.io~empty-dir/cache"),
        {**config(PRELOADED), "mounts": "none"},
        {**config(PRELOADED), "mounts": [None, {}]},
    ],
    ids=[
        *("no library", "another library", "a longer name", "another place", "disabled"),
        *("a volume", "the node's /dev/shm", "an own /dev/shm", "no list", "no mounts"),
    ],
)
def test_nobody_else_is_looked_for(tmp_path: Path, other: dict[str, Any]) -> None:
    write_bundle(tmp_path, CONTAINER, other)
    write_bundle(tmp_path, SANDBOX, of_pod(UID))
    assert sandbox_of(CONTAINER, tmp_path) is None


@pytest.mark.parametrize(
    ("container", "sandbox"),
    [
        (None, of_pod(UID)),
        ("", of_pod(UID)),
        ('{"process": {"env": ["LD_PRE', of_pod(UID)),
        (config(PRELOADED), None),
        (config(PRELOADED), {"annotations": {"io.kubernetes.cri.sandbox-uid": "../x"}}),
        (config(PRELOADED), config()),
    ],
    ids=["none", "empty", "half", "no sandbox", "no uid of a pod", "no annotation"],
)
def test_what_is_not_complete_is_looked_at_again(
    tmp_path: Path, container: object, sandbox: object
) -> None:
    for name, content in ((CONTAINER, container), (SANDBOX, sandbox)):
        if content is not None:
            write_bundle(tmp_path, name, content)
    with pytest.raises(TemporaryError):
        sandbox_of(CONTAINER, tmp_path)


def test_where_nothing_is_mounted_nothing_is_made(tmp_path: Path) -> None:
    """The sandbox went while we looked: what is below is the node's own directory."""
    shm = tmp_path / "shm"
    shm.mkdir()
    with pytest.raises(FileNotFoundError, match="nothing is mounted"):
        open_directory(shm / "stillframe")
    assert list(shm.iterdir()) == []


async def test_containers_that_went_unheard_are_told_and_other_names_are_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[str] = []
    containers = Containers(tmp_path, told.append)
    containers.start()
    for name in (CONTAINER, f".{CONTAINER}", "work"):
        (tmp_path / name).mkdir()
    lost = [Event(-1, IN_Q_OVERFLOW, "")]
    monkeypatch.setattr(Inotify, "read", lambda _inotify: lost)
    containers._events()
    assert told == [CONTAINER]
    containers.stop()


async def test_a_runtime_without_bundles_is_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    containers = Containers(tmp_path / "none", lambda _name: None)
    with caplog.at_level(logging.WARNING):
        containers.start()
    containers.stop()
    (record,) = caplog.records
    assert record.getMessage().startswith("cannot watch the runtime's bundles")
