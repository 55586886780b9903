"""Injection on arbitrary pods: valid, idempotent, and nothing that is accounted for moves."""

import copy
from typing import Any

import jsonpatch
from hypothesis import event, given, settings
from hypothesis import strategies as st
from stillframe_operator.inject import Injection, inject
from stillframe_operator.settings import Settings

from stillframe import names
from tests.property.pods import Pod, effective, pods, qos, set_limits

SETTINGS = Settings(namespace="stillframe", injector_image="injector:1")
LEVELS = st.sampled_from([None, "snapshot", "core", "true", "off", "nonsense", ""])


def patched(pod: Pod, injection: Injection) -> Any:
    return jsonpatch.apply_patch(copy.deepcopy(pod), list(injection.patch))


@given(pods(), LEVELS)
@settings(max_examples=300)
def test_the_patch_applies_and_a_second_round_changes_nothing(pod: Pod, level: str | None) -> None:
    before = copy.deepcopy(pod)
    first = inject(pod, "shop", SETTINGS, level)
    assert pod == before
    event("injected" if first.injected else f"not: {first.skipped}")
    result = patched(pod, first)
    second = inject(result, "shop", SETTINGS, level)
    assert second.patch == ()
    assert first.injected == (
        result["metadata"].get("labels", {}).get(names.LABEL_INJECTED) == "true"
    )


@given(pods())
@settings(max_examples=300)
def test_qos_and_effective_resources_never_change(pod: Pod) -> None:
    result = patched(pod, inject(pod, "shop", SETTINGS, "snapshot"))
    assert qos(result) == qos(pod)
    for kind in ("requests", "limits"):
        assert effective(result, kind) == effective(pod, kind)
        assert set_limits(result, kind) == set_limits(pod, kind)


@given(pods())
@settings(max_examples=200)
def test_what_is_not_ours_stays(pod: Pod) -> None:
    result = patched(pod, inject(pod, "shop", SETTINGS, "snapshot"))
    volumes = [v for v in result["spec"].get("volumes", []) if "stillframe" not in v["name"]]
    assert volumes == pod["spec"].get("volumes", [])
    inits = [
        c for c in result["spec"].get("initContainers", []) if c["name"] != names.INIT_CONTAINER
    ]
    pairs = zip(
        [*pod["spec"]["containers"], *pod["spec"].get("initContainers", [])],
        [*result["spec"]["containers"], *inits],
        strict=True,
    )
    for old, new in pairs:
        assert {k: v for k, v in new.items() if k not in ("env", "volumeMounts")} == {
            k: v for k, v in old.items() if k not in ("env", "volumeMounts")
        }
        mounts = [m["mountPath"] for m in new.get("volumeMounts", [])]
        assert len(mounts) == len(set(mounts))
        assert mounts[: len(old.get("volumeMounts", []))] == [
            m["mountPath"] for m in old.get("volumeMounts", [])
        ]


@given(pods())
@settings(max_examples=300)
def test_the_library_comes_first_and_what_was_preloaded_stays(pod: Pod) -> None:
    result = patched(pod, inject(pod, "shop", SETTINGS, "snapshot"))
    for old, new in zip(pod["spec"]["containers"], result["spec"]["containers"], strict=True):
        if new.get("env") == old.get("env"):
            continue
        value = resolved(new["env"])["LD_PRELOAD"]
        before = resolved(old.get("env", [])).get("LD_PRELOAD", "")
        assert value.split(":")[0] == "/stillframe-lib/libstillframe.so"
        assert value.partition(":")[2] == before


def resolved(env: list[dict[str, Any]]) -> dict[str, str]:
    """The kubelet's rule: in order, $(NAME) of earlier ones, the later of two wins."""
    values: dict[str, str] = {}
    for variable in env:
        text = "from-map.so" if "valueFrom" in variable else variable.get("value", "")
        for name, value in values.items():
            text = text.replace(f"$({name})", value)
        values[variable["name"]] = text
    return values
