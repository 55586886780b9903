"""The small parts: settings, limits, retention, tombstones, missed pods, the webhook's frame."""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from aiohttp.test_utils import TestClient, TestServer
from kubernetes.aio.client import ApiClient, Configuration
from stillframe_operator.kube import Kube
from stillframe_operator.limits import Limiter
from stillframe_operator.missed import missed
from stillframe_operator.retention import Entry, Limits, removals
from stillframe_operator.settings import Settings, from_environment, variable
from stillframe_operator.tombstones import added
from stillframe_operator.webhook import Webhook

from stillframe.errors import InvalidInputError

NOW = datetime(2026, 1, 2, tzinfo=UTC)
REQUIRED = {variable("namespace"): "stillframe", variable("injector_image"): "injector:1"}
README = Path(__file__).resolve().parents[3] / "operator/README.md"


def test_settings_come_from_the_environment() -> None:
    made = from_environment(
        {**REQUIRED, variable("http_port"): "81", variable("excluded_namespaces"): "a, b", "X": "1"}
    )
    assert (made.namespace, made.http_port) == ("stillframe", 81)
    assert made.excluded_namespaces == ("a", "b")


@pytest.mark.parametrize(
    "wrong",
    [
        {variable("http_prot"): "1"},
        {variable("http_port"): "eighty"},
        {variable("http_port"): "70000"},
        {variable("renew_seconds"): "14"},
        {variable("renew_seconds"): "2"},
        {variable("retry_seconds"): "0.5"},
        {variable("on_hold"): "shutdown"},
        {variable("on_hold"): "shutdownSockets"},
        {variable("namespace"): ""},
    ],
)
def test_a_wrong_setting_is_refused(wrong: dict[str, str]) -> None:
    with pytest.raises(InvalidInputError) as caught:
        from_environment({**REQUIRED, **wrong})
    assert caught.value.reason == "BadSetting"


def test_every_setting_is_documented() -> None:
    text = README.read_text()
    assert [f for f in Settings.__struct_fields__ if f"`{f.upper()}`" not in text] == []


def test_a_bucket_gives_its_burst_and_then_its_rate() -> None:
    limiter = Limiter(rate=2.0, burst=3.0)
    for _ in range(3):
        assert limiter.wait("a", 10.0) == 0
        limiter.take("a")
    assert limiter.wait("a", 10.0) == pytest.approx(0.5)
    assert limiter.wait("b", 10.0) == 0
    assert limiter.wait("a", 10.5) == 0


def entry(namespace: str, age_days: float) -> Entry:
    return Entry(namespace, f"r-{age_days}", "1", NOW - timedelta(days=age_days))


def test_the_expired_and_the_least_recently_seen_go() -> None:
    entries = [entry("a", 1), entry("a", 2), entry("a", 20), entry("b", 3), entry("c", 4)]
    gone = removals(entries, Limits(timedelta(days=14), per_namespace=1, total=2), NOW)
    assert {(e.namespace, e.name, why) for e, why in gone} == {
        ("a", "r-20", "expired"),
        ("a", "r-2", "namespace_cap"),
        ("c", "r-4", "cluster_cap"),
    }


def test_tombstones_expire_and_are_bounded() -> None:
    old = {"gone": "2026-01-01T00:00:00Z", "kept": "2026-01-03T00:00:00Z"}
    until = NOW + timedelta(days=7)
    assert added(old, {"new"}, until, NOW) == {
        "new": "2026-01-09T00:00:00Z",
        "kept": "2026-01-03T00:00:00Z",
    }
    many = added(old, {str(n) for n in range(9000)}, until, NOW)
    assert len(many) == 8000
    assert "kept" not in many


@pytest.mark.parametrize(
    ("annotations", "namespace", "reason"),
    [
        ({}, "shop", None),
        ({"stillframe.dev/capture": "snapshot"}, "shop", "NotInjected"),
        ({"stillframe.dev/capture": "nonsense"}, "shop", "CaptureSkipped"),
        (
            {"stillframe.dev/capture": "true", "stillframe.dev/skip-reason": "HostIPC"},
            "shop",
            "CaptureSkipped",
        ),
        ({"stillframe.dev/capture": "off"}, "opted-in", None),
        ({}, "opted-in", "NotInjected"),
        ({"stillframe.dev/capture": "true"}, "kube-system", None),
    ],
)
def test_who_is_told(annotations: dict[str, str], namespace: str, reason: str | None) -> None:
    metadata = {"namespace": namespace, "name": "p", "uid": "u", "annotations": annotations}
    event = missed(metadata, {"opted-in": "snapshot"}, frozenset({"kube-system"}))
    assert (event and event.reason) == reason


REVIEW: dict[str, Any] = {"uid": "u-1", "namespace": "shop", "object": {"metadata": {}}}


@pytest.mark.parametrize(
    "broken",
    [
        {**REVIEW, "object": {"metadata": {"annotations": {"stillframe.dev/capture": "true"}}}},
        {**REVIEW, "object": None},
        {"uid": "u-1"},
    ],
)
async def test_an_internal_error_admits_the_pod_with_a_warning(
    broken: dict[str, Any], tmp_path: Path
) -> None:
    settings = Settings(namespace="stillframe", injector_image="injector:1")
    kube = Kube(ApiClient(Configuration(host="http://localhost:9")))
    async with TestClient(TestServer(Webhook(kube, settings).app())) as client:
        answer = await client.post("/inject/pod", json={"request": broken})
        response = (await answer.json())["response"]
    assert response["allowed"] is True
    assert response["uid"] == "u-1"
    assert "patch" not in response
    assert "starts without capture" in response["warnings"][0]
