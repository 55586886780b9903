"""Which lines of mountinfo are snapshot volumes, and which are sandboxes."""

from pathlib import Path

import pytest
from stillframe_agent.mounts import sandbox_mounts, snapshot_volumes, volume_of

from stillframe import names

PODS = Path("/var/lib/kubelet/pods")
UID = "1d3b6a0c-5f0e-4b67-9d5c-2f7a1c0de111"
OURS = f"{PODS}/{UID}/volumes/kubernetes.io~empty-dir/{names.VOLUME_SNAPSHOTS}"


def line(path: str, root: str = "/", kind: str = "tmpfs") -> bytes:
    return f"131 128 0:50 {root} {path} rw,relatime master:34 - {kind} tmpfs rw,size=64k\n".encode()


def test_our_volume_is_found_with_its_marker() -> None:
    (volume,) = snapshot_volumes(line("/") + line(OURS) + line("/proc"), PODS)
    assert volume == volume_of(UID, PODS)
    assert str(volume.path) == OURS
    assert volume.ready == PODS / UID / "plugins/kubernetes.io~empty-dir" / names.VOLUME_SNAPSHOTS


@pytest.mark.parametrize(
    "other",
    [
        line(OURS.replace(names.VOLUME_SNAPSHOTS, "cache")),
        line(OURS + "/deeper"),
        line(OURS + "-2"),
        line(OURS.replace("empty-dir", "secret")),
        line(OURS, kind="ext4"),
        line(OURS, root="/sub"),
        line("/other" + OURS),
        line(OURS.replace(UID, "..")),
        line(OURS.replace(UID, UID.upper())),
        line(OURS.replace(UID, "a" * 65)),
        b"",
    ],
)
def test_nothing_else_is_ours(other: bytes) -> None:
    assert snapshot_volumes(other, PODS) == frozenset()


def test_all_pods_are_found() -> None:
    uids = [f"{number:032x}" for number in range(300)]
    text = b"".join(line(OURS.replace(UID, uid)) + line(f"/x/{uid}") for uid in uids)
    assert {volume.pod_uid for volume in snapshot_volumes(text, PODS)} == set(uids)


SANDBOX = "6949e9f27d603428fc9584cc638d8cdcd98c8178fde3b3b6a37ae8f32f36229f"
CONTAINERD = Path("/run/containerd/io.containerd.grpc.v1.cri/sandboxes")
CRIO = Path("/run/containers/storage/overlay-containers")


def shm_line(path: str, root: str = "/", kind: str = "tmpfs") -> bytes:
    """As of containerd 1.6."""
    options = "rw,nosuid,nodev,noexec,relatime shared:129"
    return f"234 166 0:191 {root} {path} {options} - {kind} shm rw,size=65536k\n".encode()


@pytest.mark.parametrize(
    ("directory", "path"),
    [(CONTAINERD, f"{SANDBOX}/shm"), (CRIO, f"{SANDBOX}/userdata/shm")],
    ids=["containerd", "CRI-O"],
)
def test_a_sandboxes_shm_is_found(directory: Path, path: str) -> None:
    text = line(OURS) + shm_line(f"{directory}/{path}") + shm_line("/dev/shm")
    assert sandbox_mounts(text, directory) == {SANDBOX: directory / path}
    assert sandbox_mounts(text, Path("/other")) == {}


@pytest.mark.parametrize(
    "other",
    [
        shm_line(f"{CONTAINERD}/{SANDBOX}/shm/deeper"),
        shm_line(f"{CONTAINERD}/{SANDBOX}"),
        shm_line(f"{CONTAINERD}/{SANDBOX}/shm", root="/sub"),
        shm_line(f"{CONTAINERD}/{SANDBOX}/shm", kind="overlay"),
        shm_line(f"{CONTAINERD}/{SANDBOX[:-1]}/shm"),
        shm_line(f"{CONTAINERD}/{SANDBOX[:-1]}G/shm"),
        shm_line(f"{CONTAINERD}/../shm"),
        shm_line(f"/other{CONTAINERD}/{SANDBOX}/shm"),
    ],
)
def test_no_other_mount_is_a_sandboxes_shm(other: bytes) -> None:
    assert sandbox_mounts(other, CONTAINERD) == {}
