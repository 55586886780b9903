"""Uploads without a store: where things go, and what ends an upload for good.

With a real S3 server: tests/integration/agent/test_upload.py.
"""

import asyncio
from pathlib import Path

import pytest
from stillframe_agent.artifacts import Artifacts
from stillframe_agent.manifest import KeptFile, Manifest, Phase, decode
from stillframe_agent.metrics import Metrics
from stillframe_agent.pods import PodIdentity
from stillframe_agent.quota import Quota
from stillframe_agent.upload import Uploader, key_prefix

from stillframe import names
from stillframe.errors import PermanentError

QUOTA = Quota(max_bytes=1 << 30, max_age=1e9, free_bytes=0, per_group=5)
FILES = tuple(KeptFile(kind="report", file=file, bytes=1, sha256="00") for file in ("a", "b"))


def manifest(number: int, namespace: str = "shop", **changes: object) -> Manifest:
    values: dict[str, object] = {
        "report_id": f"{number:032x}",
        "phase": Phase.REPORTED,
        "snapshot_id": "ff",
        "node": "node-1",
        "pod": PodIdentity("uid-1", namespace),
        "created": float(number),
        "expires": 100.0,
        "files": FILES,
        "crash_report_uid": f"u{number}",
    }
    return Manifest(**(values | changes))  # type: ignore[arg-type]


def store_of(root: Path, quota: Quota, metrics: Metrics, *manifests: Manifest) -> Artifacts:
    artifacts = Artifacts(root, quota, metrics, uploads=True)
    artifacts.load()
    for one in manifests:
        artifacts.begin(one)
    return artifacts


class Store:
    """Takes everything but what it refuses."""

    url = "s3://bucket"

    def __init__(self, refused: str = "", delete: Artifacts | None = None) -> None:
        self.keys: list[str] = []
        self._refused = refused
        self._delete = delete

    async def put(self, key: str, source: Path | bytes, size: int, sha256: str) -> None:
        self.keys.append(key)
        if self._delete is not None:
            self._delete.delete(key.split("/")[1], "age")
        if self._refused and self._refused in key:
            raise PermanentError("no such file")


def left(root: Path) -> list[str]:
    """The samples on disk, without those of which a CrashReport has to be told that they went."""
    return [path.name for path in root.glob("[!.]*")]


async def upload(store: Store, artifacts: Artifacts, metrics: Metrics) -> None:
    """Until nothing waits."""
    uploader = Uploader(store, artifacts, metrics, {})
    task = asyncio.create_task(uploader.run())
    async with asyncio.timeout(10):
        while artifacts.pending():  # noqa: ASYNC110 -- the journal has no event
            await asyncio.sleep(0.01)
    task.cancel()


@pytest.mark.parametrize(
    ("namespace", "directory"),
    [("shop", "shop"), ("", "_unknown"), ("a/b", "_unknown"), ("..", "_unknown")],
)
def test_samples_lie_below_their_namespace(namespace: str, directory: str) -> None:
    assert key_prefix(manifest(7, namespace)) == f"{directory}/{7:032x}"


async def test_the_manifest_comes_last(tmp_path: Path) -> None:
    metrics = Metrics()
    artifacts, store = store_of(tmp_path, QUOTA, metrics, manifest(1)), Store()
    await upload(store, artifacts, metrics)
    assert [key.rpartition("/")[2] for key in store.keys] == ["a", "b", names.ARTIFACT_MANIFEST]
    done = artifacts.get(f"{1:032x}")
    assert done is not None
    assert [kept.url for kept in done.files] == [f"s3://bucket/{key}" for key in store.keys[:2]]


async def test_a_file_is_in_the_journal_before_the_next_is_sent(tmp_path: Path) -> None:
    metrics = Metrics()
    artifacts = store_of(tmp_path, QUOTA, metrics, manifest(1))
    seen = []

    class Watching(Store):
        async def put(self, key: str, source: Path | bytes, size: int, sha256: str) -> None:
            on_disk = decode((tmp_path / f"{1:032x}" / names.ARTIFACT_MANIFEST).read_bytes())
            seen.append([kept.file for kept in on_disk.files if kept.url])
            await super().put(key, source, size, sha256)

    await upload(Watching(), artifacts, metrics)
    assert seen == [[], ["a"], ["a", "b"]]


async def test_a_sample_that_cannot_be_read_is_refused_and_the_others_go_on(
    tmp_path: Path,
) -> None:
    metrics = Metrics()
    artifacts = store_of(tmp_path, QUOTA, metrics, manifest(1), manifest(2))
    store = Store(refused=f"{1:032x}/b")
    await upload(store, artifacts, metrics)
    refused, whole = artifacts.get(f"{1:032x}"), artifacts.get(f"{2:032x}")
    assert refused is not None
    assert whole is not None
    assert (refused.url, refused.upload_refused) == ("", "no such file")
    assert whole.url == f"s3://bucket/shop/{2:032x}/"
    assert not [key for key in store.keys if key.endswith(f"{1:032x}/{names.ARTIFACT_MANIFEST}")]


async def test_a_sample_deleted_on_its_way_is_forgotten(tmp_path: Path) -> None:
    metrics = Metrics()
    artifacts = store_of(tmp_path, QUOTA, metrics, manifest(1))
    await upload(Store(refused="/", delete=artifacts), artifacts, metrics)
    assert left(tmp_path) == []
    assert sum(s.value for m in metrics.uploads.collect() for s in m.samples) == 0


def test_what_is_in_the_store_makes_room_for_what_is_not(tmp_path: Path) -> None:
    metrics = Metrics()
    there = manifest(2, url="s3://bucket/shop/2/")
    roomy = store_of(tmp_path, QUOTA, metrics, manifest(1), there, manifest(3))
    size = sum(path.stat().st_size for path in tmp_path.glob(f"{1:032x}/*"))
    assert roomy.pending() == [f"{1:032x}", f"{3:032x}"]
    for copies, kept in ((2.5, [1, 3]), (1.5, [3])):
        quota = Quota(max_bytes=int(size * copies), max_age=0, free_bytes=0, per_group=5)
        store_of(tmp_path, quota, metrics)
        assert sorted(int(name, 16) for name in left(tmp_path)) == kept
    assert (
        metrics.registry.get_sample_value("stillframe_agent_uploads_total", {"result": "lost"}) == 1
    )
