"""Injection by example: what a newcomer, an auditor and an odd pod would look at.

Aspects: opt-in, skips with their reasons, the init container, volumes and mounts, LD_PRELOAD in all
its forms, hold timeouts, what is done on hold, chosen containers, init containers.
"""

import copy
from typing import Any

import jsonpatch
import pytest
from msgspec.structs import replace
from stillframe_operator.inject import Injection, Skip, inject
from stillframe_operator.settings import Settings

from stillframe import __version__, names

SETTINGS = Settings(namespace="stillframe", injector_image="injector:1")
LIBRARY = "/stillframe-lib/libstillframe.so"


def pod(annotations: dict[str, str] | None = None, /, **spec: Any) -> dict[str, Any]:
    wanted = {"stillframe.dev/capture": "snapshot"} if annotations is None else annotations
    return {
        "metadata": {"name": "p", "annotations": wanted},
        "spec": {"containers": [{"name": "app", "image": "app:1"}], **spec},
    }


def patched(before: dict[str, Any], namespace_value: str | None = None) -> Any:
    injection = inject(before, "shop", SETTINGS, namespace_value)
    return jsonpatch.apply_patch(copy.deepcopy(before), list(injection.patch))


def environment(container: dict[str, Any]) -> dict[str, Any]:
    return {v["name"]: v.get("value", v.get("valueFrom")) for v in container["env"]}


def test_an_annotated_pod_gets_library_volume_variables_and_marks() -> None:
    after = patched(pod())
    app = after["spec"]["containers"][0]
    assert environment(app) == {
        "LD_PRELOAD": LIBRARY,
        "ASAN_OPTIONS": "verify_asan_link_order=0",
        "STILLFRAME_DIR": "/dev/shm/stillframe",
        "STILLFRAME_CLAIM_MS": "250",
        "STILLFRAME_HOLD_MS": "2000",
        "STILLFRAME_MAX_BYTES": "4194304",
        "STILLFRAME_CAPTURE": "snapshot",
        "STILLFRAME_ON_HOLD": "none",
    }
    assert app["volumeMounts"] == [
        {"name": "stillframe-lib", "mountPath": "/stillframe-lib", "readOnly": True},
        {"name": "stillframe-shm", "mountPath": "/dev/shm/stillframe"},
    ]
    assert after["spec"]["volumes"] == [
        {"name": "stillframe-lib", "emptyDir": {"medium": "Memory", "sizeLimit": "1048576"}},
        {"name": "stillframe-shm", "emptyDir": {"medium": "Memory", "sizeLimit": "67108864"}},
    ]
    assert after["metadata"]["labels"] == {"stillframe.dev/injected": "true"}
    assert after["metadata"]["annotations"] == {
        "stillframe.dev/capture": "snapshot",
        "stillframe.dev/injected-version": __version__,
    }


def test_the_init_container_is_what_restricted_demands() -> None:
    init = patched(pod())["spec"]["initContainers"][0]
    assert init["args"] == ["/stillframe-lib"]
    assert init["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "capabilities": {"drop": ["ALL"]},
        "readOnlyRootFilesystem": True,
        "runAsNonRoot": True,
        "seccompProfile": {"type": "RuntimeDefault"},
    }


def test_only_a_pod_that_runs_as_root_gets_a_user_for_the_init_container() -> None:
    rooted = patched(pod(securityContext={"runAsUser": 0}))["spec"]["initContainers"][0]
    assert rooted["securityContext"]["runAsUser"] == 65532
    other = patched(pod(securityContext={"runAsUser": 7}))["spec"]["initContainers"][0]
    assert "runAsUser" not in other["securityContext"]


def test_the_init_container_comes_before_others_and_carries_the_first_ones_resources() -> None:
    resources = {"limits": {"cpu": "1", "memory": "64Mi", "nvidia.com/gpu": "1"}}
    before = pod(initContainers=[{"name": "migrate", "image": "m"}])
    before["spec"]["containers"][0]["resources"] = resources
    inits = patched(before)["spec"]["initContainers"]
    assert [container["name"] for container in inits] == ["stillframe-init", "migrate"]
    assert inits[0]["resources"] == {"limits": {"cpu": "1", "memory": "64Mi"}}
    assert "env" not in inits[1]


@pytest.mark.parametrize(
    ("annotation", "label", "injected"),
    [
        ("snapshot", None, True),
        ("core", None, True),
        ("true", None, True),
        ("TRUE ", None, True),
        ("off", None, False),
        ("false", None, False),
        ("", None, False),
        (None, None, False),
        (None, "snapshot", True),
        (None, "core", True),
        (None, "off", False),
        ("off", "core", False),
        ("snapshot", "off", True),
    ],
)
def test_who_opts_in(annotation: str | None, label: str | None, injected: bool) -> None:
    annotations = {} if annotation is None else {"stillframe.dev/capture": annotation}
    injection = inject(pod(annotations), "shop", SETTINGS, label)
    assert injection.injected is injected
    assert injection.skipped is None
    assert bool(injection.patch) is injected


def test_a_namespace_opt_in_becomes_visible_on_the_pod() -> None:
    assert patched(pod({}), "core")["metadata"]["annotations"]["stillframe.dev/capture"] == "core"


@pytest.mark.parametrize(
    ("spec", "reason"),
    [
        ({"os": {"name": "windows"}}, Skip.WINDOWS),
        ({"nodeSelector": {"kubernetes.io/os": "windows"}}, Skip.WINDOWS),
        ({"nodeSelector": {"kubernetes.io/arch": "386"}}, Skip.ARCHITECTURE),
        ({"hostIPC": True}, Skip.HOST_IPC),
        ({"runtimeClassName": "gvisor"}, Skip.RUNTIME_CLASS),
    ],
)
def test_what_cannot_work_is_skipped_with_its_reason(spec: dict[str, Any], reason: Skip) -> None:
    injection = inject(pod(**spec), "shop", SETTINGS)
    assert injection.skipped is reason
    assert str(reason) in injection.warnings[0]
    after = jsonpatch.apply_patch(pod(**spec), list(injection.patch))
    assert after["metadata"]["annotations"]["stillframe.dev/skip-reason"] == reason
    assert after["spec"] == pod(**spec)["spec"]


@pytest.mark.parametrize("namespace", ["stillframe", "kube-system", "kube-node-lease"])
def test_system_namespaces_and_our_own_are_never_injected(namespace: str) -> None:
    assert inject(pod(), namespace, SETTINGS).skipped is Skip.EXCLUDED_NAMESPACE


def test_an_unknown_level_never_injects_by_guess() -> None:
    injection = inject(pod({"stillframe.dev/capture": "fullcore"}), "shop", SETTINGS)
    assert injection.skipped is Skip.INVALID_CAPTURE
    assert "snapshot, true, core, off, false" in injection.warnings[0]


def test_a_mirror_pod_is_left_alone() -> None:
    annotations = {"stillframe.dev/capture": "true", "kubernetes.io/config.mirror": "x"}
    assert inject(pod(annotations), "shop", SETTINGS) == Injection()


def test_a_label_copied_from_another_pod_does_not_pass_for_an_injection() -> None:
    before = pod()
    before["metadata"]["labels"] = {"stillframe.dev/injected": "true"}
    assert inject(before, "shop", SETTINGS).injected


def preload(*env: dict[str, Any]) -> list[dict[str, Any]]:
    before = pod()
    before["spec"]["containers"][0]["env"] = list(env)
    after: list[dict[str, Any]] = patched(before)["spec"]["containers"][0]["env"]
    return [v for v in after if not v["name"].startswith(("STILLFRAME_H", "STILLFRAME_D", "ASAN"))]


def test_a_literal_preload_stays_behind_ours() -> None:
    found = preload({"name": "LD_PRELOAD", "value": "/usr/lib/libjemalloc.so.2"})
    assert found[0] == {"name": "LD_PRELOAD", "value": f"{LIBRARY}:/usr/lib/libjemalloc.so.2"}


def test_a_preload_from_a_configmap_is_renamed_and_referred_to() -> None:
    source = {"configMapKeyRef": {"name": "m", "key": "k", "optional": True}}
    found = preload({"name": "LD_PRELOAD", "valueFrom": source})
    assert found[:3] == [
        {"name": "STILLFRAME_USER_LD_PRELOAD", "value": ""},
        {"name": "STILLFRAME_USER_LD_PRELOAD", "valueFrom": source},
        {"name": "LD_PRELOAD", "value": f"{LIBRARY}:$(STILLFRAME_USER_LD_PRELOAD)"},
    ]


def test_envfrom_is_noted_in_a_warning() -> None:
    before = pod()
    before["spec"]["containers"][0]["envFrom"] = [{"configMapRef": {"name": "m"}}]
    assert "envFrom" in inject(before, "shop", SETTINGS).warnings[0]


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (None, "verify_asan_link_order=0"),
        ("halt_on_error=1", "halt_on_error=1:verify_asan_link_order=0"),
        ("verify_asan_link_order=1", "verify_asan_link_order=1"),
    ],
)
def test_asan_programs_still_start(old: str | None, new: str) -> None:
    before = pod()
    if old is not None:
        before["spec"]["containers"][0]["env"] = [{"name": "ASAN_OPTIONS", "value": old}]
    assert environment(patched(before)["spec"]["containers"][0])["ASAN_OPTIONS"] == new


@pytest.mark.parametrize(
    ("mounts", "directory"),
    [
        ([], "/dev/shm/stillframe"),
        (["/data"], "/dev/shm/stillframe"),
        (["/dev/shm"], "/run/stillframe"),
        (["/dev/shm/"], "/run/stillframe"),
        (["/dev"], "/run/stillframe"),
        (["/dev/shm/stillframe/x"], "/run/stillframe"),
        (["/dev/shmx"], "/dev/shm/stillframe"),
    ],
)
def test_the_volume_avoids_the_containers_own_mounts(mounts: list[str], directory: str) -> None:
    before = pod(volumes=[{"name": "v", "emptyDir": {}}])
    own = [{"name": "v", "mountPath": path} for path in mounts]
    before["spec"]["containers"][0]["volumeMounts"] = own
    app = patched(before)["spec"]["containers"][0]
    assert app["volumeMounts"][-1] == {"name": "stillframe-shm", "mountPath": directory}
    assert environment(app)["STILLFRAME_DIR"] == directory


@pytest.mark.parametrize("mounts", [["/stillframe-lib"], ["/dev/shm", "/run"]])
def test_a_container_without_room_is_skipped_and_the_pod_still_valid(mounts: list[str]) -> None:
    before = pod(volumes=[{"name": "v", "emptyDir": {}}])
    own = [{"name": "v", "mountPath": path} for path in mounts]
    before["spec"]["containers"][0]["volumeMounts"] = own
    injection = inject(before, "shop", SETTINGS)
    assert injection.skipped is Skip.MOUNT_CONFLICT
    before["spec"]["containers"].append({"name": "second", "image": "x"})
    assert inject(before, "shop", SETTINGS).injected


def test_only_the_named_containers_are_injected() -> None:
    annotations = {"stillframe.dev/capture": "true", "stillframe.dev/containers": " b , "}
    before = pod(annotations, containers=[{"name": "a"}, {"name": "b"}])
    first, second = patched(before)["spec"]["containers"]
    assert "env" not in first
    assert "env" in second


def test_init_containers_are_injected_only_by_name() -> None:
    sidecar = {"name": "proxy", "restartPolicy": "Always"}
    inits = [{"name": "migrate"}, sidecar, {"name": "seed"}]
    annotations = {"stillframe.dev/capture": "true"}
    unnamed = patched(pod(annotations, initContainers=inits))["spec"]["initContainers"]
    assert all("env" not in container for container in unnamed)
    annotations["stillframe.dev/containers"] = "proxy,migrate"
    named = patched(pod(annotations, initContainers=inits))["spec"]["initContainers"]
    assert [container["name"] for container in named if "env" in container] == [
        "migrate",
        "proxy",
    ]


def test_naming_no_container_is_said() -> None:
    annotations = {"stillframe.dev/capture": "true", "stillframe.dev/containers": "typo"}
    injection = inject(pod(annotations), "shop", SETTINGS)
    assert injection.skipped is Skip.NO_CONTAINER
    assert "'typo'" in injection.warnings[0]


@pytest.mark.parametrize(
    ("text", "millis", "warned"),
    [
        ("500ms", 500, False),
        ("3s", 3000, False),
        ("1m", 30_000, True),
        ("soon", 2000, True),
        ("-1s", 2000, True),
        ("5", 2000, True),
    ],
)
def test_hold_timeouts_are_bounded(text: str, millis: int, warned: bool) -> None:
    annotations = {"stillframe.dev/capture": "true", names.ANNOTATION_HOLD_TIMEOUT: text}
    injection = inject(pod(annotations), "shop", SETTINGS)
    app = patched(pod(annotations))["spec"]["containers"][0]
    assert environment(app)["STILLFRAME_HOLD_MS"] == str(millis)
    assert bool(injection.warnings) is warned


SHUT = "shutdownSockets"
ALLOWED = Settings(namespace="stillframe", injector_image="injector:1", shutdown_sockets=True)
BY_DEFAULT = replace(ALLOWED, on_hold=SHUT)


@pytest.mark.parametrize(
    ("level", "text", "settings", "value", "warned"),
    [
        ("core", None, SETTINGS, "none", ""),
        ("core", "none", SETTINGS, "none", ""),
        ("core", SHUT, SETTINGS, "none", "is not allowed in this cluster"),
        ("core", SHUT, ALLOWED, SHUT, ""),
        ("core", f" {SHUT} ", ALLOWED, SHUT, ""),
        ("core", "shutdownsockets", ALLOWED, "none", "is not none or shutdownSockets"),
        ("core", "", ALLOWED, "none", "is not none or shutdownSockets"),
        ("snapshot", SHUT, ALLOWED, "none", "has an effect with stillframe.dev/capture: core only"),
        ("core", None, BY_DEFAULT, SHUT, ""),
        ("core", "none", BY_DEFAULT, "none", ""),
        ("snapshot", None, BY_DEFAULT, "none", ""),
    ],
)
def test_what_is_done_on_hold_is_known_allowed_and_of_effect(
    level: str, text: str | None, settings: Settings, value: str, warned: str
) -> None:
    asked = {} if text is None else {names.ANNOTATION_ON_HOLD: text}
    before = pod({"stillframe.dev/capture": level} | asked)
    before["spec"]["containers"][0]["env"] = [{"name": "STILLFRAME_ON_HOLD", "value": "mine"}]
    injection = inject(before, "shop", settings)
    after = jsonpatch.apply_patch(copy.deepcopy(before), list(injection.patch))
    env = after["spec"]["containers"][0]["env"]
    assert [v["value"] for v in env if v["name"] == "STILLFRAME_ON_HOLD"] == [value]
    assert len(injection.warnings) == bool(warned)
    assert warned in "".join(injection.warnings)


def test_the_level_reaches_the_container_whatever_the_pod_had_there() -> None:
    before = pod({"stillframe.dev/capture": "core"})
    before["spec"]["containers"][0]["env"] = [{"name": "STILLFRAME_CAPTURE", "value": "mine"}]
    env = patched(before)["spec"]["containers"][0]["env"]
    assert [v["value"] for v in env if v["name"] == "STILLFRAME_CAPTURE"] == ["core"]
