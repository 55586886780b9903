"""Samples on disk: what quotas take, what an agent's death leaves, who may read.

Covers: the pure choice, the store, its reload.
"""

import hashlib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace
from stillframe_agent.artifacts import Artifacts, Quota, Sample, surplus
from stillframe_agent.manifest import KeptFile, Manifest, Phase, decode, encode
from stillframe_agent.metrics import Metrics
from stillframe_agent.pods import PodIdentity

from stillframe import names

QUOTA = Quota(max_bytes=1000, max_age=100, free_bytes=50)
PLENTY = 10_000


def sample(name: str, created: float, size: int = 100, deletable: bool = True) -> Sample:
    return Sample(name, created, size, deletable)


@pytest.mark.parametrize(
    ("samples", "free", "incoming", "gone"),
    [
        ([sample("a", 0), sample("b", 60)], PLENTY, 0, [("a", "age")]),
        ([sample("a", 60, 600), sample("b", 50, 600)], PLENTY, 0, [("b", "quota")]),
        ([sample("a", 60, 600)], PLENTY, 500, [("a", "quota")]),
        ([sample("a", 60), sample("b", 50), sample("c", 55)], 0, 0, [("b", "free-space")]),
        ([sample("a", 60), sample("b", 50)], 100, 100, [("b", "free-space")]),
        ([sample("a", 0, 2000, deletable=False)], 0, 0, []),
        ([sample("a", 60, 1000)], PLENTY, 0, []),
    ],
)
def test_the_oldest_go_until_the_quotas_hold(
    samples: list[Sample], free: int, incoming: int, gone: list[tuple[str, str]]
) -> None:
    assert surplus(samples, QUOTA, 110, free, incoming) == gone


@given(
    st.lists(
        st.builds(
            Sample, st.uuids().map(str), st.floats(0, 200), st.integers(0, 500), st.booleans()
        ),
        max_size=20,
    ),
    st.integers(0, 500),
)
def test_afterwards_the_quotas_hold_or_nothing_more_may_go(
    samples: list[Sample], free: int
) -> None:
    gone = {report_id for report_id, _ in surplus(samples, QUOTA, 200, free)}
    kept = [sample for sample in samples if sample.report_id not in gone]
    assert all(sample.deletable for sample in samples if sample.report_id in gone)
    if any(sample.deletable for sample in kept):
        freed = sum(sample.bytes for sample in samples if sample.report_id in gone)
        assert sum(sample.bytes for sample in kept) <= QUOTA.max_bytes
        assert free + freed >= QUOTA.free_bytes
        assert all(200 - s.created <= QUOTA.max_age for s in kept if s.deletable)


def manifest(number: int, **changes: object) -> Manifest:
    values: dict[str, object] = {
        "report_id": f"{number:032x}",
        "phase": Phase.CAPTURING,
        "snapshot_id": "ff",
        "node": "node-1",
        "pod": PodIdentity("uid-1", "shop", "cart-1", "app", "a1"),
        "created": float(number),
        "expires": 100.0 + number,
    }
    return Manifest(**(values | changes))  # type: ignore[arg-type]


def store(root: Path, quota: Quota | None = None) -> Artifacts:
    artifacts = Artifacts(
        root, quota or Quota(max_bytes=1 << 30, max_age=1e9, free_bytes=0), Metrics(), lambda: 100
    )
    artifacts.load()
    return artifacts


def test_a_manifest_survives_its_file() -> None:
    whole = manifest(1, held_millis=7, soft_errors=("x",), crash_report_uid="u")
    assert decode(encode(whole)) == whole


def test_a_crash_begins_once(tmp_path: Path) -> None:
    artifacts = store(tmp_path / "artifacts")
    directory = artifacts.begin(manifest(1))
    assert directory == tmp_path / "artifacts" / f"{1:032x}"
    assert artifacts.begin(manifest(1)) is None


def test_a_copied_snapshot_is_unfinished_business(tmp_path: Path) -> None:
    before = store(tmp_path)
    directory = before.begin(manifest(1))
    assert directory is not None
    (directory / names.ARTIFACT_SNAPSHOT).write_bytes(b"core")
    before.update(manifest(1, phase=Phase.CAPTURED))
    after = Artifacts(tmp_path, QUOTA, Metrics(), lambda: 100)
    assert after.load() == [manifest(1, phase=Phase.CAPTURED)]


def test_what_was_durable_when_the_agent_died_is_in_the_manifest_and_half_files_go(
    tmp_path: Path,
) -> None:
    directory = store(tmp_path).begin(manifest(1))
    assert directory is not None
    (directory / names.ARTIFACT_SNAPSHOT).write_bytes(b"core")
    (directory / f".{names.ARTIFACT_HS_ERR}.tmp").write_bytes(b"hal")
    (resumed,) = Artifacts(tmp_path, QUOTA, Metrics(), lambda: 100).load()
    assert resumed.files == (
        KeptFile(
            kind="snapshot",
            file=names.ARTIFACT_SNAPSHOT,
            bytes=4,
            sha256=hashlib.sha256(b"core").hexdigest(),
        ),
    )
    assert sorted(path.name for path in directory.iterdir()) == [
        names.ARTIFACT_MANIFEST,
        names.ARTIFACT_SNAPSHOT,
    ]


def test_a_reported_sample_is_kept_but_not_resumed(tmp_path: Path) -> None:
    before = store(tmp_path)
    before.begin(manifest(1))
    before.update(manifest(1, phase=Phase.REPORTED))
    after = Artifacts(tmp_path, QUOTA, Metrics(), lambda: 50)
    assert after.load() == []
    assert after.get(f"{1:032x}") == manifest(1, phase=Phase.REPORTED)


def test_what_is_no_sample_is_cleaned_up(tmp_path: Path) -> None:
    before = store(tmp_path)
    before.begin(manifest(1))  # without a snapshot: its original is still in the pod
    (tmp_path / f"{2:032x}").mkdir()  # without a manifest
    (tmp_path / f"{3:032x}").mkdir()
    (tmp_path / f"{3:032x}" / names.ARTIFACT_MANIFEST).write_text("{")
    (tmp_path / f".trash-{4:032x}").mkdir()
    assert store(tmp_path).get(f"{1:032x}") is None
    assert list(tmp_path.iterdir()) == []


def test_an_update_does_not_bring_a_deleted_sample_back(tmp_path: Path) -> None:
    artifacts = store(tmp_path)
    artifacts.begin(manifest(1))
    artifacts.delete(f"{1:032x}", "age")
    artifacts.update(manifest(1, phase=Phase.REPORTED))
    assert list(tmp_path.iterdir()) == []


def test_tombstones_delete_their_samples_and_no_others(tmp_path: Path) -> None:
    artifacts = store(tmp_path)
    for number, uid in ((1, "gone"), (2, "kept"), (3, ""), (4, "gone")):
        artifacts.begin(manifest(number))
        artifacts.update(manifest(number, phase=Phase.REPORTED, crash_report_uid=uid))
    assert artifacts.delete_of_crash_reports(["gone", "", "unknown"]) == 2
    assert sorted(path.name for path in tmp_path.iterdir()) == [f"{2:032x}", f"{3:032x}"]


def test_there_is_no_room_when_the_floor_of_free_space_is_out_of_reach(tmp_path: Path) -> None:
    assert store(tmp_path).enforce(incoming=1)
    greedy = Quota(max_bytes=1 << 30, max_age=1e9, free_bytes=1 << 60)
    artifacts = store(tmp_path, greedy)
    busy, done = manifest(1), manifest(2, phase=Phase.REPORTED)
    artifacts.begin(busy)
    artifacts.begin(replace(done, phase=Phase.CAPTURING))
    artifacts.update(done)
    assert not artifacts.enforce(incoming=1)
    assert artifacts.get(busy.report_id) is not None
    assert artifacts.get(done.report_id) is None
