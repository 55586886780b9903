"""Arbitrary pods, and Kubernetes' own rules about them, written from its documentation.

Shares nothing with the code under test: effective requests as in "Resource sharing within
containers" (sidecar containers KEP-753), QoS classes as in "Pod Quality of Service Classes".
"""

from collections import Counter
from fractions import Fraction
from typing import Any

from hypothesis import strategies as st

Pod = dict[str, Any]
CPU = ["1m", "10m", "250m", "1", "2"]
MEMORY = ["4Mi", "64Mi", "100M", "1Gi"]
SUFFIXES = {
    "m": Fraction(1, 1000),
    "": Fraction(1),
    "k": Fraction(10**3),
    "M": Fraction(10**6),
    "G": Fraction(10**9),
    "Ki": Fraction(2**10),
    "Mi": Fraction(2**20),
    "Gi": Fraction(2**30),
}

names = st.from_regex(r"[a-z]([a-z0-9-]{0,8}[a-z0-9])?", fullmatch=True)
texts = st.text(max_size=12)
paths = st.sampled_from(
    [
        "/data",
        "/dev",
        "/dev/shm",
        "/dev/shm/",
        "/dev/shm/stillframe",
        "/dev/shm/other",
        "/run",
        "/run/stillframe",
        "/run/stillframe/deep",
        "/stillframe-lib",
        "/var/run",
    ]
)


@st.composite
def resources(draw: st.DrawFn) -> dict[str, Any]:
    """Requests and limits as the API server hands them on: a limit alone is also the request."""
    out: dict[str, Any] = {}
    for name, values in (
        ("cpu", CPU),
        ("memory", MEMORY),
        ("ephemeral-storage", MEMORY),
        ("nvidia.com/gpu", ["1"]),
    ):
        shape = draw(st.sampled_from(["none", "request", "equal", "both"]))
        if name == "nvidia.com/gpu" and shape != "none":
            shape = "equal"
        index = draw(st.integers(0, len(values) - 1))
        if shape != "none":
            out.setdefault("requests", {})[name] = values[index]
        if shape in ("equal", "both"):
            higher = index if shape == "equal" else len(values) - 1
            out.setdefault("limits", {})[name] = values[higher]
    return out


variables = st.one_of(
    st.fixed_dictionaries(
        {
            "name": st.sampled_from(["LD_PRELOAD", "ASAN_OPTIONS", "A", "STILLFRAME_HOLD_MS"]),
            "value": st.sampled_from(["", "/lib/x.so", "/a.so:/b.so", "$(A)/x.so", "halt=1"]),
        }
    ),
    st.fixed_dictionaries(
        {
            "name": st.sampled_from(["LD_PRELOAD", "ASAN_OPTIONS", "B"]),
            "valueFrom": st.just({"configMapKeyRef": {"name": "m", "key": "k"}}),
        }
    ),
)


@st.composite
def containers(draw: st.DrawFn, name: str, *, init: bool = False) -> dict[str, Any]:
    container: dict[str, Any] = {"name": name, "image": "example/app:1"}
    if draw(st.booleans()):
        container["resources"] = draw(resources())
    if draw(st.booleans()):
        container["env"] = draw(st.lists(variables, max_size=4))
    if draw(st.booleans()):
        mounts = draw(st.lists(paths, max_size=2, unique=True))
        container["volumeMounts"] = [{"name": "v", "mountPath": path} for path in mounts]
    if draw(st.booleans()):
        container["envFrom"] = [{"configMapRef": {"name": "m"}}]
    if init and draw(st.booleans()):
        container["restartPolicy"] = "Always"
    return container


@st.composite
def pods(draw: st.DrawFn) -> Pod:
    """Pods as they reach a webhook: mostly opted in, some in odd ways."""
    all_names = draw(st.lists(names, min_size=1, max_size=5, unique=True))
    apps = draw(st.integers(1, len(all_names)))
    spec: Pod = {"containers": [draw(containers(name)) for name in all_names[:apps]]}
    if all_names[apps:]:
        spec["initContainers"] = [draw(containers(n, init=True)) for n in all_names[apps:]]
    if draw(st.booleans()):
        spec["volumes"] = [{"name": "v", "emptyDir": {}}]
    for field, values in (
        ("hostIPC", [True, False]),
        ("runtimeClassName", ["gvisor", "runc"]),
        ("os", [{"name": "windows"}, {"name": "linux"}]),
        ("nodeSelector", [{"kubernetes.io/arch": "arm"}, {"kubernetes.io/os": "linux"}]),
        ("securityContext", [{"runAsUser": 0}, {"runAsUser": 1000}, {}]),
    ):
        if draw(st.integers(0, 3)) == 0:
            spec[field] = draw(st.sampled_from(values))
    metadata: Pod = {"name": "p"}
    annotations = {
        "stillframe.dev/capture": st.sampled_from(["snapshot", "core", "true", "off", "yes", ""]),
        "stillframe.dev/on-hold": st.sampled_from(["none", "shutdownSockets"]) | texts,
        "stillframe.dev/hold-timeout": st.sampled_from(["1s", "250ms", "9m", "soon"]) | texts,
        "stillframe.dev/containers": st.sampled_from([*all_names, ",".join(all_names), "nobody"]),
        "other": texts,
    }
    chosen = draw(st.fixed_dictionaries({}, optional=annotations))
    if chosen:
        metadata["annotations"] = chosen
    if draw(st.booleans()):
        metadata["labels"] = {"app": "x"}
    return {"metadata": metadata, "spec": spec}


def quantity(text: str) -> Fraction:
    digits = text.rstrip("mkMGKi")
    return Fraction(digits) * SUFFIXES[text[len(digits) :]]


def effective(pod: Pod, kind: str) -> dict[str, Fraction]:
    """Effective ``requests`` or ``limits`` of the pod, by resource."""

    def of(container: dict[str, Any]) -> Counter[str]:
        table = container.get("resources", {}).get(kind, {})
        return Counter({name: quantity(value) for name, value in table.items()})

    running: Counter[str] = Counter()
    peak: Counter[str] = Counter()
    for container in pod["spec"].get("initContainers", []):
        if container.get("restartPolicy") == "Always":
            running += of(container)
            peak |= running
        else:
            peak |= running + of(container)
    for container in pod["spec"]["containers"]:
        running += of(container)
    return dict(peak | running)  # type: ignore[arg-type]


def qos(pod: Pod) -> str:
    """QoS class: cpu and memory of every container count, init containers too."""
    containers = [*pod["spec"].get("initContainers", []), *pod["spec"]["containers"]]
    tables = [container.get("resources", {}) for container in containers]
    named = [
        {name for name in table.get(kind, {}) if name in ("cpu", "memory")}
        for table in tables
        for kind in ("requests", "limits")
    ]
    if not any(named):
        return "BestEffort"
    guaranteed = all(
        name in table.get("limits", {})
        and quantity(table.get("requests", {}).get(name, table["limits"][name]))
        == quantity(table["limits"][name])
        for table in tables
        for name in ("cpu", "memory")
    )
    return "Guaranteed" if guaranteed else "Burstable"


def set_limits(pod: Pod, kind: str) -> set[str]:
    """Resources for which every container of the pod has an entry: what a quota demands."""
    containers = [*pod["spec"].get("initContainers", []), *pod["spec"]["containers"]]
    found = [set(c.get("resources", {}).get(kind, {})) for c in containers]
    return set.intersection(*found) & {"cpu", "memory", "ephemeral-storage"}
