"""Names of pods and containers, from files that only root of the node writes."""

import json
from pathlib import Path

import pytest
from stillframe_agent.identity import Placement
from stillframe_agent.pods import PodIdentity, Wish, from_logs, identify, image, wish

from stillframe import names

UID = "1d3b6a0c-5f0e-4b67-9d5c-2f7a1c0de111"
ID = "a1" * 32
PLACE = Placement(UID, ID)
CONTAINERD = {
    "io.kubernetes.cri.sandbox-uid": UID,
    "io.kubernetes.cri.sandbox-namespace": "shop",
    "io.kubernetes.cri.sandbox-name": "cart-1",
    "io.kubernetes.cri.container-name": "app",
}
CRIO = {
    "io.kubernetes.pod.uid": UID,
    "io.kubernetes.pod.namespace": "shop",
    "io.kubernetes.pod.name": "cart-1",
    "io.kubernetes.container.name": "app",
}
WHOLE = PodIdentity(UID, "shop", "cart-1", "app", ID)


def bundle(root: Path, file: str, config: object) -> Path:
    path = root / ID / file
    path.parent.mkdir(parents=True)
    path.write_text(config if isinstance(config, str) else json.dumps(config))
    return root


def logs(root: Path, *containers: str, uid: str = UID) -> Path:
    for container in containers:
        (root / f"shop_cart-1_{uid}" / container).mkdir(parents=True)
    return root


@pytest.mark.parametrize(
    ("file", "annotations"),
    [("config.json", CONTAINERD), ("userdata/config.json", CRIO)],
    ids=["containerd", "CRI-O"],
)
def test_a_bundle_tells_everything(tmp_path: Path, file: str, annotations: dict[str, str]) -> None:
    bundles = bundle(tmp_path, file, {"annotations": annotations})
    assert identify(PLACE, bundles, tmp_path / "none") == WHOLE


@pytest.mark.parametrize(
    "config",
    [
        {"annotations": CONTAINERD | {"io.kubernetes.cri.sandbox-uid": "another"}},
        {"annotations": {}},
        {"annotations": 7},
        [],
        "{",
        '{"annotations": ' + "[" * 100_000,
        json.dumps({"annotations": CONTAINERD}).replace("cart-1", "\\ud800"),
    ],
    ids=["another pod's", "empty", "wrong type", "a list", "cut", "deep", "half a surrogate"],
)
def test_a_bundle_that_says_nothing_of_our_pod_is_not_believed(
    tmp_path: Path, config: object
) -> None:
    bundles = bundle(tmp_path / "bundles", "config.json", config)
    log_dir = logs(tmp_path / "logs", "app")
    assert identify(PLACE, bundles, log_dir) == WHOLE
    assert identify(PLACE, bundles, tmp_path / "none") == PodIdentity(UID, container_id=ID)


def test_the_only_container_beside_ours_is_the_one(tmp_path: Path) -> None:
    assert from_logs(UID, logs(tmp_path, "app", names.INIT_CONTAINER)).container == "app"


def test_of_several_containers_the_log_link_tells(tmp_path: Path) -> None:
    directory = logs(tmp_path, "app", "sidecar") / f"shop_cart-1_{UID}"
    assert from_logs(UID, tmp_path, ID).container == ""
    (directory / "sidecar" / "0.log").symlink_to(f"/var/lib/docker/containers/{ID}/{ID}-json.log")
    assert from_logs(UID, tmp_path, ID).container == "sidecar"


def test_other_pods_logs_are_not_ours(tmp_path: Path) -> None:
    logs(tmp_path, "app", uid=f"x_{UID}")
    logs(tmp_path, "app", uid="another")
    assert from_logs(UID, tmp_path) == PodIdentity(UID)


@pytest.mark.parametrize(
    ("env", "wanted"),
    [
        (["STILLFRAME_CAPTURE=core", "STILLFRAME_HOLD_MS=1500"], Wish(True, 1.5)),
        (["STILLFRAME_CAPTURE=snapshot", "STILLFRAME_HOLD_MS=1500"], Wish(False, 1.5)),
        (["STILLFRAME_CAPTURE=snapshot", "STILLFRAME_CAPTURE=core"], Wish(True, 0.0)),
        (["STILLFRAME_HOLD_MS=-1", "STILLFRAME_HOLD_MS=\u0663", "junk", 7], Wish()),
        (["A=STILLFRAME_CAPTURE=core"], Wish()),
        (["STILLFRAME_ON_HOLD=shutdownSockets"], Wish(shut_sockets=True)),
        (["STILLFRAME_ON_HOLD=none"], Wish()),
        ([], Wish()),
    ],
)
@pytest.mark.parametrize("file", ["config.json", "userdata/config.json"])
def test_a_bundle_tells_what_is_wanted(
    tmp_path: Path, file: str, env: list[object], wanted: Wish
) -> None:
    assert wish(PLACE, bundle(tmp_path, file, {"process": {"env": env}})) == wanted


@pytest.mark.parametrize("config", [{}, {"process": []}, {"process": {"env": "x"}}, [], "{"])
def test_an_unreadable_bundle_wants_nothing(tmp_path: Path, config: object) -> None:
    assert wish(PLACE, bundle(tmp_path, "config.json", config)) is None


DIGEST = f"sha256:{'c3' * 32}"


@pytest.mark.parametrize(
    ("file", "annotations", "known"),
    [
        (
            "config.json",
            {"io.kubernetes.cri.image-name": "docker.io/library/cart:1"},
            ("docker.io/library/cart:1", ""),
        ),
        (
            "config.json",
            {"io.kubernetes.cri.image-name": f"docker.io/library/cart@{DIGEST}"},
            (f"docker.io/library/cart@{DIGEST}", DIGEST),
        ),
        (
            "userdata/config.json",
            {
                "io.kubernetes.cri-o.ImageName": "quay.io/shop/cart:1",
                "io.kubernetes.cri-o.ImageRef": "c3" * 32,
            },
            ("quay.io/shop/cart:1", "c3" * 32),
        ),
        (
            "userdata/config.json",
            {
                "io.kubernetes.cri-o.Image": "quay.io/shop/cart:1",
                "io.kubernetes.cri-o.ImageName": "",
                "io.kubernetes.cri-o.ImageRef": f"quay.io/shop/cart@{DIGEST}",
            },
            ("quay.io/shop/cart:1", DIGEST),
        ),
        ("config.json", {}, ("", "")),
        ("config.json", {"io.kubernetes.cri.image-name": 7}, ("", "")),
    ],
    ids=["containerd", "containerd by digest", "CRI-O", "older CRI-O", "unknown", "wrong type"],
)
def test_a_bundle_tells_the_image(
    tmp_path: Path, file: str, annotations: dict[str, object], known: tuple[str, str]
) -> None:
    assert image(PLACE, bundle(tmp_path, file, {"annotations": annotations})) == known


def test_without_a_bundle_the_image_is_unknown(tmp_path: Path) -> None:
    assert image(PLACE, tmp_path) == ("", "")


def test_a_pod_of_cri_dockerd_is_told_by_its_logs(tmp_path: Path) -> None:
    """Docker's bundles have no annotation of Kubernetes; its logs are links with the id.

    cri-dockerd's ``createContainerLogSymlink`` makes ``<restarts>.log`` a link to the daemon's
    ``<id>-json.log``.
    """
    bundles = bundle(tmp_path / "bundles", "config.json", {"annotations": {}})
    log_dir = logs(tmp_path / "logs", "app", "sidecar", names.INIT_CONTAINER)
    for container, id_ in (("app", ID), ("sidecar", "b2" * 32)):
        link = log_dir / f"shop_cart-1_{UID}" / container / "3.log"
        link.symlink_to(f"/var/lib/docker/containers/{id_}/{id_}-json.log")
    assert identify(PLACE, bundles, log_dir) == WHOLE
    assert image(PLACE, bundles) == ("", "")


def test_a_static_pods_directory_is_found_by_its_uid_without_dashes(tmp_path: Path) -> None:
    uid = "0123456789abcdef0123456789abcdef"
    directory = tmp_path / f"kube-system_etcd-node-1_{uid}" / "etcd"
    directory.mkdir(parents=True)
    assert from_logs(uid, tmp_path) == PodIdentity(uid, "kube-system", "etcd-node-1", "etcd")
