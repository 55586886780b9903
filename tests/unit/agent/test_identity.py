"""Where the kubelet and the runtime put a process.

Covers: cgroup v1 and v2, both drivers, four runtimes, relative paths, nested
cgroups, everything that is no container of a pod, and noise.
"""

import contextlib

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from stillframe_agent.identity import Foreign, Placement, parse_cgroup, require_pod

from stillframe.errors import InvalidInputError

UID = "1d3b6a0c-5f0e-4b67-9d5c-2f7a1c0de111"
OTHER = "ffffffff-5f0e-4b67-9d5c-2f7a1c0de111"
SLICE_UID = UID.replace("-", "_")
STATIC_UID = "0123456789abcdef0123456789abcdef"
ID = "a1" * 32
OTHER_ID = "b2" * 32

LAYOUTS = {
    "v1 cgroupfs containerd": [
        f"5:memory:/kubepods/burstable/pod{UID}/{ID}",
        f"3:cpuset:/kubepods/burstable/pod{UID}/{ID}",
        "1:name=systemd:/",
        "0::/",
    ],
    "v1 guaranteed": [f"4:pids:/kubepods/pod{UID}/{ID}"],
    "v2 cgroupfs": [f"0::/kubepods/besteffort/pod{UID}/{ID}"],
    "v2 systemd containerd": [
        f"0::/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod{SLICE_UID}.slice"
        f"/cri-containerd-{ID}.scope"
    ],
    "v2 systemd guaranteed": [
        f"0::/kubepods.slice/kubepods-pod{SLICE_UID}.slice/cri-containerd-{ID}.scope"
    ],
    "containerd, driver disagrees with the kubelet": [
        f"0::/system.slice/containerd.service/kubepods-burstable-pod{SLICE_UID}.slice"
        f":cri-containerd:{ID}"
    ],
    "CRI-O systemd": [
        f"0::/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod{SLICE_UID}.slice"
        f"/crio-{ID}.scope"
    ],
    "CRI-O with its inner cgroup": [
        f"0::/kubepods.slice/kubepods-pod{SLICE_UID}.slice/crio-{ID}.scope/container"
    ],
    "CRI-O cgroupfs": [f"4:memory:/kubepods/burstable/pod{UID}/crio-{ID}"],
    "cri-dockerd systemd": [
        f"0::/kubepods.slice/kubepods-besteffort.slice/kubepods-besteffort-pod{SLICE_UID}.slice"
        f"/docker-{ID}.scope"
    ],
    "cri-dockerd cgroupfs": [f"4:memory:/kubepods/besteffort/pod{UID}/{ID}"],
    "a node that is a container": [
        f"0::/docker/{OTHER_ID}/kubelet.slice/kubelet-kubepods.slice"
        f"/kubelet-kubepods-burstable.slice/kubelet-kubepods-burstable-pod{SLICE_UID}.slice"
        f"/cri-containerd-{ID}.scope"
    ],
    "seen from our own cgroup namespace": [f"0::/../../besteffort/pod{UID}/{ID}"],
    "with a cgroup root of the kubelet": [f"7:blkio:/spike/kubepods/burstable/pod{UID}/{ID}"],
    "systemd in the container": [f"0::/kubepods/burstable/pod{UID}/{ID}/init.scope"],
    "CRI-O, an exec in its container": [
        f"0::/kubepods.slice/kubepods-pod{SLICE_UID}.slice/crio-{ID}.scope/exec-1f"
    ],
    "k3s in a container, v1": [
        f"5:memory:/docker/{OTHER_ID}/kubepods/burstable/pod{UID}/{ID}",
        f"1:name=systemd:/docker/{OTHER_ID}/kubepods/burstable/pod{UID}/{ID}",
    ],
    "both versions, the unified one unused by the runtime": [
        f"5:memory:/kubepods.slice/kubepods-pod{SLICE_UID}.slice/cri-containerd-{ID}.scope",
        "0::/system.slice/containerd.service",
    ],
}

RUNTIMES = {"containerd": "cri-containerd", "CRI-O": "crio", "cri-dockerd": "docker"}
"""Prefix of a scope's name: containerd's CRI plugin (``getCgroupsPath``), CRI-O
``internal/config/cgmgr`` (``CrioPrefix``), Docker's ``daemon/oci_linux.go``, whose parent
cri-dockerd sets to the pod's cgroup."""
CONTROLLERS = ("cpu,cpuacct", "memory", "pids", "name=systemd")


def layout(runtime: str, version: int, driver: str, qos: str) -> list[str]:
    """``/proc/PID/cgroup`` of a container, as the kubelet and a runtime make it.

    The pod's cgroup is the kubelet's (``pkg/kubelet/cm``, ``cgroup_manager_linux.go``): a
    guaranteed pod's is right below ``kubepods``; the systemd driver has ``_`` for ``-``.
    """
    classes = ["kubepods", *([qos] if qos != "guaranteed" else [])]
    if driver == "systemd":
        slices = ["-".join(classes[: at + 1]) for at in range(len(classes))]
        parts = [*slices, f"{slices[-1]}-pod{SLICE_UID}"]
        path = "/".join([*(f"{part}.slice" for part in parts), f"{RUNTIMES[runtime]}-{ID}.scope"])
    else:
        own = f"crio-{ID}" if runtime == "CRI-O" else ID
        path = "/".join([*classes, f"pod{UID}", own])
    if version == 2:
        return [f"0::/{path}"]
    return [*(f"{number}:{name}:/{path}" for number, name in enumerate(CONTROLLERS, 1)), "0::/"]


@pytest.mark.parametrize("qos", ["guaranteed", "burstable", "besteffort"])
@pytest.mark.parametrize("driver", ["cgroupfs", "systemd"])
@pytest.mark.parametrize("version", [1, 2])
@pytest.mark.parametrize("runtime", RUNTIMES)
def test_every_runtime_version_driver_and_class_names_pod_and_container(
    runtime: str, version: int, driver: str, qos: str
) -> None:
    lines = layout(runtime, version, driver, qos)
    assert parse_cgroup(lines) == Placement(UID, ID)
    relative = [line.replace(":/", ":/../../../", 1) for line in lines]
    assert parse_cgroup(relative) == Placement(UID, ID), "seen from a namespace of our own"


@pytest.mark.parametrize("lines", LAYOUTS.values(), ids=LAYOUTS)
def test_every_layout_names_pod_and_container(lines: list[str]) -> None:
    assert parse_cgroup(lines) == Placement(UID, ID)


def test_a_static_pod_has_a_uid_without_dashes() -> None:
    assert parse_cgroup([f"0::/kubepods/pod{STATIC_UID}/{ID}"]).pod_uid == STATIC_UID


def test_a_container_cannot_move_itself_to_another_pod_by_nesting() -> None:
    line = f"0::/kubepods/pod{UID}/{ID}/kubepods/pod{OTHER}/{OTHER_ID}"
    assert parse_cgroup([line]) == Placement(UID, ID)


@pytest.mark.parametrize(
    "lines",
    [
        [],
        ["0::/"],
        ["0::/system.slice/sshd.service"],
        ["0::/user.slice/user-1000.slice/session-2.scope"],
        [f"0::/kubepods/pod{UID}"],
        [f"0::/kubepods/pod{UID}/not-a-container"],
        [f"0::/kubepods/podinfo/{ID}"],
        [f"0::/docker/{ID}"],
        [f"0::/kubepods.slice/kubepods-pod{SLICE_UID}.slice/crio-conmon-{ID}.scope"],
        [f"4:memory:/kubepods/burstable/pod{UID}/crio-conmon-{ID}"],
        [f"0::/system.slice/crio-conmon-{ID}.scope"],
        [f"0::/k8s.io/{ID}"],
        [f"0::/system.slice/docker-{ID}.scope"],
        [f"0::/machine.slice/libpod-{ID}.scope/container"],
        ["garbage"],
    ],
)
def test_what_is_no_container_of_a_pod_is_refused(lines: list[str]) -> None:
    with pytest.raises(InvalidInputError) as refused:
        parse_cgroup(lines)
    assert refused.value.reason == Foreign.NO_POD


def test_hierarchies_that_disagree_are_refused() -> None:
    lines = [f"4:memory:/kubepods/pod{UID}/{ID}", f"3:pids:/kubepods/pod{OTHER}/{ID}"]
    with pytest.raises(InvalidInputError) as refused:
        parse_cgroup(lines)
    assert refused.value.reason == Foreign.AMBIGUOUS


def test_the_pod_must_be_the_volumes() -> None:
    lines = [f"0::/kubepods/pod{UID}/{ID}"]
    assert require_pod(lines, UID).container_id == ID
    with pytest.raises(InvalidInputError) as refused:
        require_pod(lines, OTHER)
    assert refused.value.reason == Foreign.OTHER_POD


_uids = st.uuids().map(str)
_ids = st.text("0123456789abcdef", min_size=64, max_size=64)
_components = st.text(
    st.characters(exclude_characters="/\n", exclude_categories=("Cs",)), max_size=20
)


@given(_uids, _ids, st.lists(_components, max_size=4), st.booleans(), st.booleans())
def test_whatever_the_container_appends_changes_nothing(
    uid: str, container: str, below: list[str], systemd: bool, second: bool
) -> None:
    pod = f"kubepods-pod{uid.replace('-', '_')}.slice" if systemd else f"pod{uid}"
    own = f"cri-containerd-{container}.scope" if systemd else container
    path = "/".join(["/kubepods", pod, own, *below])
    lines = [f"0::{path}", f"3:pids:{path}"] if second else [f"0::{path}"]
    assert parse_cgroup(lines) == Placement(uid, container)


@given(st.lists(st.text(max_size=200), max_size=5))
@example([f"0::/pod{UID}/{ID}/../../pod{OTHER}/{OTHER_ID}"])
@example([":" * 100])
def test_noise_is_refused_or_placed_but_never_breaks(lines: list[str]) -> None:
    with contextlib.suppress(InvalidInputError):
        assert len(parse_cgroup(lines).container_id) == 64
