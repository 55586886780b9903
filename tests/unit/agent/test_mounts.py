"""Which lines of mountinfo are snapshot volumes."""

from pathlib import Path

import pytest
from stillframe_agent.mounts import snapshot_volumes, volume_of

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
