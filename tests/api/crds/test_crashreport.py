"""The CRD of CrashReport on a real API server.

Aspects: what the type writes is accepted and read back, identity is immutable and triage is not,
bounds hold, status is a subresource, selectors, columns and `kubectl explain`.
"""

import json
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from stillframe import names
from stillframe.api import crashreport
from stillframe.api.crashreport import (
    Condition,
    CrashReportSpec,
    CrashReportStatus,
    RecentReport,
    Sample,
    SampleArtifact,
    Workload,
)
from tests.support.kube import Kube, Manifest

CRDS = Path(__file__).resolve().parents[3] / "crds"
NOW = "2026-01-02T03:04:05Z"
SPEC = CrashReportSpec(
    workload=Workload(api_version="apps/v1", kind="Deployment", name="cart", ref="deployment/cart"),
    container="app",
    signal="SIGSEGV",
    fingerprint="v1:0123456789abcdef",
)
LARGEST_ARTIFACT = SampleArtifact(kind="k" * 32, file="f" * 32, bytes=2**40, sha256="0" * 64)
LARGEST = CrashReportStatus(
    count=10**12,
    first_seen=NOW,
    last_seen=NOW,
    cause="c" * crashreport.MAX_STACK_LINE,
    message="m" * 1024,
    top_frame="f" * crashreport.MAX_STACK_LINE,
    last_image="i" * crashreport.MAX_STACK_LINE,
    last_node="n" * 253,
    last_pod="p" * 253,
    stack=["s" * crashreport.MAX_STACK_LINE] * crashreport.MAX_STACK_LINES,
    samples={
        f"{i:032x}": Sample(
            time=NOW,
            pod="p" * 253,
            node="n" * 253,
            captured="snapshot",
            held_millis=12,
            artifacts=[LARGEST_ARTIFACT] * 8,
            fetch="f" * 1024,
            url=f"s3://{'b' * 63}/{'u' * (crashreport.MAX_STORE_URL - 70)}/",
            expires=NOW,
        )
        for i in range(crashreport.MAX_SAMPLES)
    },
    recent_reports=[
        RecentReport(id=f"{i:032x}", container_id="c" * 64, time=NOW)
        for i in range(crashreport.MAX_RECENT_REPORTS)
    ],
    conditions=[
        Condition(
            type=kind,
            status="True",
            reason="Reason",
            message="m" * 1024,
            last_transition_time=NOW,
            observed_generation=1,
        )
        for kind in ("Captured", "Verified", "ArtifactsAvailable", "Throttled")
    ],
)


@pytest.fixture(scope="module")
def crds(kube: Kube) -> Kube:
    """A cluster with our CRDs, as somebody without Helm applies them."""
    kube.kubectl("apply", "-f", str(CRDS))
    kube.kubectl("wait", "crd/crashreports.stillframe.dev", "--for=condition=Established")
    return kube


@pytest.fixture
def namespace(crds: Kube) -> str:
    """A new namespace."""
    name = f"t-{uuid.uuid4().hex[:8]}"
    crds.kubectl("create", "namespace", name)
    return name


Create = Callable[..., str]


@pytest.fixture
def create(crds: Kube, namespace: str) -> Create:
    """Creates a report, of `SPEC` with changes, and returns its name."""

    def created(name: str = "cart", **changes: Any) -> str:
        spec = msgspec.to_builtins(msgspec.structs.replace(SPEC, **changes))
        manifest = {
            "apiVersion": names.API_VERSION,
            "kind": "CrashReport",
            "metadata": {"name": name, "namespace": namespace},
            "spec": spec,
        }
        crds.run("kubectl", "create", "-f", "-", stdin=json.dumps(manifest))
        return name

    return created


def patch(
    kube: Kube, namespace: str, change: Manifest, *options: str, name: str = "cart"
) -> tuple[bool, str]:
    """Merges ``change`` into a report; whether it was accepted, and what kubectl said."""
    command = ("kubectl", "patch", "crash", "-n", namespace, name, "--type=merge", *options)
    done = kube.run(*command, "-p", json.dumps(change), check=False)
    return done.returncode == 0, done.stderr


def write_status(kube: Kube, namespace: str, status: Manifest) -> tuple[bool, str]:
    return patch(kube, namespace, {"status": status}, "--subresource=status")


def test_the_largest_status_is_accepted_and_read_back(
    crds: Kube, namespace: str, create: Create
) -> None:
    create()
    accepted, said = write_status(crds, namespace, msgspec.to_builtins(LARGEST))
    assert accepted, said
    stored = crds.get("crash", "-n", namespace, "cart")
    assert msgspec.convert(stored["status"], CrashReportStatus) == LARGEST
    assert msgspec.convert(stored["spec"], CrashReportSpec) == SPEC


@pytest.mark.parametrize(
    "change",
    [
        {"workload": {"name": "other"}},
        {"workload": {"ref": "deployment/other"}},
        {"container": "other"},
        {"signal": "SIGABRT"},
        {"fingerprint": "v1:ffff"},
    ],
    ids=str,
)
def test_identity_is_immutable(
    crds: Kube, namespace: str, create: Create, change: Manifest
) -> None:
    create()
    accepted, said = patch(crds, namespace, {"spec": change})
    assert not accepted
    assert f"spec.{next(iter(change))}" in said
    assert "immutable" in said


def test_triage_starts_open_and_is_yours_to_set(crds: Kube, namespace: str, create: Create) -> None:
    create()
    assert crds.get("crash", "-n", namespace, "cart")["spec"]["triage"] == "Open"
    assert patch(crds, namespace, {"spec": {"triage": "Muted"}})[0]
    assert crds.get("crash", "-n", namespace, "cart")["spec"]["triage"] == "Muted"
    accepted, said = patch(crds, namespace, {"spec": {"triage": "Ignored"}})
    assert not accepted
    assert '"Acknowledged", "Muted", "Open"' in said


@pytest.mark.parametrize(
    ("status", "where"),
    [
        ({"stack": ["s"] * (crashreport.MAX_STACK_LINES + 1)}, "status.stack"),
        ({"stack": ["s" * (crashreport.MAX_STACK_LINE + 1)]}, "status.stack[0]"),
        (
            {
                "samples": {
                    str(i): {"time": NOW, "pod": "p", "node": "n", "captured": "none"}
                    for i in range(crashreport.MAX_SAMPLES + 1)
                }
            },
            "status.samples",
        ),
        ({"message": "m" * 1025}, "status.message"),
        ({"count": -1}, "status.count"),
        ({"lastSeen": "yesterday"}, "status.lastSeen"),
        ({"conditions": [{"type": "Captured"}]}, "status.conditions[0].status"),
    ],
    ids=["lines", "line", "samples", "message", "count", "time", "condition"],
)
def test_what_exceeds_a_bound_is_refused(
    crds: Kube, namespace: str, create: Create, status: Manifest, where: str
) -> None:
    create()
    accepted, said = write_status(crds, namespace, status)
    assert not accepted
    assert where in said


@pytest.mark.parametrize(
    "url", ["https://bucket/x/", "s3://bucket/x", "s3://k:s@bucket/x/", "s3://bucket/$(id)/"]
)
def test_an_odd_url_of_a_sample_is_refused(
    crds: Kube, namespace: str, create: Create, url: str
) -> None:
    create()
    sample = {"time": NOW, "pod": "p", "node": "n", "captured": "snapshot", "url": url}
    accepted, said = write_status(crds, namespace, {"samples": {"0": sample}})
    assert not accepted
    assert "status.samples.0.url" in said


def test_a_condition_type_occurs_once(crds: Kube, namespace: str, create: Create) -> None:
    create()
    condition = msgspec.to_builtins(LARGEST.conditions[0])
    accepted, said = write_status(crds, namespace, {"conditions": [condition, condition]})
    assert not accepted
    assert "Duplicate value" in said


def test_people_cannot_write_status_and_the_operator_cannot_write_spec(
    crds: Kube, namespace: str, create: Create
) -> None:
    create()
    assert patch(crds, namespace, {"status": {"count": 7}})[0]
    assert patch(crds, namespace, {"spec": {"triage": "Muted"}}, "--subresource=status")[0]
    stored = crds.get("crash", "-n", namespace, "cart")
    assert "status" not in stored
    assert stored["spec"]["triage"] == "Open"


@pytest.mark.parametrize(
    ("selector", "change"),
    [
        ("spec.workload.ref=deployment/cart", {"workload": msgspec.structs.replace(
            SPEC.workload, ref="deployment/other")}),
        ("spec.container=app", {"container": "other"}),
        ("spec.signal=SIGSEGV", {"signal": "SIGABRT"}),
        ("spec.fingerprint=v1:0123456789abcdef", {"fingerprint": "v1:ffff"}),
    ],
    ids=["workload", "container", "signal", "fingerprint"],
)  # fmt: skip
def test_reports_are_selected_by_identity(
    crds: Kube, namespace: str, create: Create, selector: str, change: dict[str, Any]
) -> None:
    create("cart")
    create("other", **change)
    found = crds.items("crash", "-n", namespace, f"--field-selector={selector}")
    assert [item["metadata"]["name"] for item in found] == ["cart"]


def test_get_shows_the_promised_columns(crds: Kube, namespace: str, create: Create) -> None:
    create()
    status = CrashReportStatus(
        count=10,
        last_seen=NOW,
        cause="null pointer: read at 0x10",
        top_frame="parse_header (segfault.c:50)",
        last_image="shop/cart:1",
        last_node="node-1",
        last_pod="cart-6d4b-x",
    )
    assert write_status(crds, namespace, msgspec.to_builtins(status))[0]
    narrow = crds.kubectl("get", "crash", "-n", namespace).splitlines()
    wide = crds.kubectl("get", "crash", "-n", namespace, "-o", "wide").splitlines()
    columns = "NAME WORKLOAD CONTAINER SIGNAL CAUSE TOP-FRAME COUNT LAST AGE"
    assert narrow[0].split() == columns.split()
    assert wide[0].split() == f"{columns} IMAGE NODE POD FINGERPRINT".split()
    cells = [wide[1][wide[0].index(c) :].split("  ")[0] for c in wide[0].split() if c != "LAST"]
    assert cells[:6] == [
        "cart",
        "deployment/cart",
        "app",
        "SIGSEGV",
        "null pointer: read at 0x10",
        "parse_header (segfault.c:50)",
    ]
    assert cells[6] == "10"
    assert [c.strip() for c in cells[8:]] == [
        "shop/cart:1",
        "node-1",
        "cart-6d4b-x",
        "v1:0123456789abcdef",
    ]


def test_explain_describes_every_level(crds: Kube) -> None:
    assert "yours to set is spec.triage" in crds.kubectl("explain", "crash")
    described = crds.kubectl("explain", "crash.status.samples.heldMillis")
    assert "Milliseconds the dying process was held" in described


def test_the_project_has_a_category(crds: Kube, namespace: str, create: Create) -> None:
    create()
    listed = crds.kubectl("get", "stillframe", "-n", namespace, "-o", "name")
    assert listed == "crashreport.stillframe.dev/cart\n"
