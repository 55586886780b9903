"""Samples on disk: what quotas take, what an agent's death leaves, who may read.

Covers: the store, its reload, a disk that refuses, what a CrashReport has to be told.
"""

import hashlib
from pathlib import Path

from msgspec.structs import replace
from stillframe_agent.artifacts import Artifacts
from stillframe_agent.manifest import KeptFile, Manifest, Phase, decode, encode
from stillframe_agent.metrics import Metrics
from stillframe_agent.pods import PodIdentity
from stillframe_agent.quota import Quota

from stillframe import names

QUOTA = Quota(max_bytes=1000, max_age=100, free_bytes=50, per_group=5)


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
        root,
        quota or Quota(max_bytes=1 << 30, max_age=1e9, free_bytes=0, per_group=5),
        Metrics(),
        clock=lambda: 100,
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
    after = Artifacts(tmp_path, QUOTA, Metrics(), clock=lambda: 100)
    assert after.load() == [manifest(1, phase=Phase.CAPTURED)]


def test_what_was_durable_when_the_agent_died_is_in_the_manifest_and_half_files_go(
    tmp_path: Path,
) -> None:
    directory = store(tmp_path).begin(manifest(1))
    assert directory is not None
    (directory / names.ARTIFACT_SNAPSHOT).write_bytes(b"core")
    (directory / f".{names.ARTIFACT_HS_ERR}.tmp").write_bytes(b"hal")
    (resumed,) = Artifacts(tmp_path, QUOTA, Metrics(), clock=lambda: 100).load()
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
    after = Artifacts(tmp_path, QUOTA, Metrics(), clock=lambda: 50)
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
    greedy = Quota(max_bytes=1 << 30, max_age=1e9, free_bytes=1 << 60, per_group=5)
    artifacts = store(tmp_path, greedy)
    busy, done = manifest(1), manifest(2, phase=Phase.REPORTED)
    artifacts.begin(busy)
    artifacts.begin(replace(done, phase=Phase.CAPTURING))
    artifacts.update(done)
    assert not artifacts.enforce(incoming=1)
    assert artifacts.get(busy.report_id) is not None
    assert artifacts.get(done.report_id) is None


def test_a_node_keeps_the_first_and_the_newest_samples_of_a_crash_report(tmp_path: Path) -> None:
    artifacts = store(tmp_path)
    for number in range(1, 9):
        artifacts.begin(manifest(number))
        artifacts.update(manifest(number, phase=Phase.REPORTED, crash_report_uid="u"))
    artifacts.enforce()
    kept = {f"{number:032x}" for number in (1, 5, 6, 7, 8)}
    assert {path.name for path in tmp_path.glob("[!.]*")} == kept


def test_a_storm_in_one_namespace_deletes_its_own_samples(tmp_path: Path) -> None:
    artifacts = store(tmp_path, Quota(max_bytes=20_000, max_age=1e9, free_bytes=0, per_group=5))
    for number in range(1, 60):
        namespace = "quiet" if number < 4 else "loud"
        pod = PodIdentity(f"uid-{number}", namespace, "cart-1", "app", "a1")
        artifacts.begin(manifest(number, pod=pod))
        artifacts.update(manifest(number, pod=pod, phase=Phase.REPORTED))
        artifacts.enforce(incoming=1000, namespace=namespace)
    kept = sorted(int(path.name, 16) for path in tmp_path.iterdir())
    assert kept[:3] == [1, 2, 3]
    assert kept[3:] == list(range(kept[3], 60))
    assert kept[3] > 4


ACKNOWLEDGED = {"phase": Phase.REPORTED, "crash_report_uid": "u", "crash_report": "shop/cart-1"}


def test_a_crash_report_is_told_of_a_deleted_sample_also_by_the_next_agent(tmp_path: Path) -> None:
    artifacts = store(tmp_path)
    gone = manifest(1, **ACKNOWLEDGED)
    directory = artifacts.begin(gone)
    assert directory is not None
    (directory / names.ARTIFACT_SNAPSHOT).write_bytes(b"core")
    assert artifacts.unplaced() == []
    artifacts.delete(gone.report_id, "age")
    for agent in (artifacts, store(tmp_path)):
        assert agent.get(gone.report_id) is None
        assert agent.unplaced() == [(gone, True)]
    assert not directory.exists()
    assert [path.name for path in tmp_path.glob("*/*")] == [names.ARTIFACT_MANIFEST]

    artifacts.placed(gone.report_id, deleted=True)
    assert artifacts.unplaced() == store(tmp_path).unplaced() == []
    assert list(tmp_path.iterdir()) == []


def test_nobody_is_told_of_a_sample_that_no_crash_report_lists(tmp_path: Path) -> None:
    artifacts = store(tmp_path)
    artifacts.begin(manifest(1, phase=Phase.REPORTED))
    artifacts.begin(manifest(2, **ACKNOWLEDGED))
    artifacts.delete(f"{1:032x}", "age")
    artifacts.delete_of_crash_reports(["u"])
    assert artifacts.unplaced() == []
    assert list(tmp_path.iterdir()) == []


def test_a_deletion_that_an_agent_did_not_finish_is_finished(tmp_path: Path) -> None:
    directory = store(tmp_path).begin(manifest(1, **ACKNOWLEDGED))
    assert directory is not None
    (directory / names.ARTIFACT_SNAPSHOT).write_bytes(b"core")
    directory.rename(tmp_path / f".trash-{1:032x}")  # and there it died
    after = store(tmp_path)
    assert after.unplaced() == [(manifest(1, **ACKNOWLEDGED), True)]
    assert [path.name for path in tmp_path.glob("*/*")] == [names.ARTIFACT_MANIFEST]


def test_a_crash_seen_again_after_its_deletion_is_here_again(tmp_path: Path) -> None:
    artifacts = store(tmp_path)
    for _ in range(2):
        artifacts.begin(manifest(1, **ACKNOWLEDGED))
        assert artifacts.unplaced() == []
        artifacts.delete(f"{1:032x}", "age")
    assert artifacts.unplaced() == [(manifest(1, **ACKNOWLEDGED), True)]


def test_a_crash_report_is_told_once_of_an_uploaded_sample(tmp_path: Path) -> None:
    artifacts = store(tmp_path)
    artifacts.begin(manifest(1, **ACKNOWLEDGED))
    artifacts.revise(f"{1:032x}", url="s3://bucket/shop/1/")
    there = manifest(1, url="s3://bucket/shop/1/", **ACKNOWLEDGED)
    assert artifacts.unplaced() == store(tmp_path).unplaced() == [(there, False)]
    artifacts.placed(f"{1:032x}", deleted=False)
    assert artifacts.unplaced() == store(tmp_path).unplaced() == []
    artifacts.delete(f"{1:032x}", "age")
    assert artifacts.unplaced() == [(replace(there, placed=True), True)]
