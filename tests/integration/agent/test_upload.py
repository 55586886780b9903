"""Uploads to a real S3 server: whole samples, verified, whatever happens on the way.

Covers: one file, small and in parts; a file that changed; the way of a
sample; an agent killed before, within and between files, and before it has
told where the sample is; a server that is down, has no bucket, or refuses our
credentials.
"""

import hashlib
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
import obstore
import pytest
from msgspec.structs import replace
from stillframe_agent.manifest import Manifest, decode
from stillframe_agent.objectstore import PART_BYTES, ObjectStore

from stillframe import names
from stillframe.errors import PermanentError, TemporaryError
from stillframe.rpc.v1.intake_pb2 import PlaceRequest
from tests.integration.agent.intake import Authority, Operator
from tests.integration.agent.node import Agent, Pod, wait_until
from tests.support.s3 import KEY, REGION, SECRET, S3Server

URL = "s3://evidence/cluster-1"
EMPTY = hashlib.sha256().hexdigest()


@pytest.fixture
def server(tmp_path: Path) -> Iterator[S3Server]:
    server = S3Server(tmp_path)
    server.make_bucket("evidence")
    with server:
        yield server


@pytest.fixture
def start(server: S3Server, start_agent: Callable[..., Agent]) -> Callable[[], Agent]:
    """Starts agents that upload to the server."""
    return lambda: start_agent(
        upload_url=URL,
        upload_endpoint=server.endpoint,
        upload_region=REGION,
        upload_dir=server.credentials,
    ).wait_ready()


@pytest.fixture
def store(server: S3Server) -> ObjectStore:
    return ObjectStore(URL, server.endpoint, REGION, server.credentials)


@pytest.mark.parametrize("size", [0, 3, PART_BYTES, 2 * PART_BYTES + 1])
async def test_a_file_arrives_as_it_is(
    server: S3Server, store: ObjectStore, tmp_path: Path, size: int
) -> None:
    data = os.urandom(size)
    (tmp_path / "file").write_bytes(data)
    for _ in range(2):
        await store.put("shop/1/file", tmp_path / "file", size, hashlib.sha256(data).hexdigest())
    assert (server.root / "evidence/cluster-1/shop/1/file").read_bytes() == data


@pytest.mark.parametrize("size", [3, 2 * PART_BYTES])
async def test_a_file_that_changed_on_disk_is_refused(
    store: ObjectStore, tmp_path: Path, size: int
) -> None:
    (tmp_path / "file").write_bytes(bytes(size))
    with pytest.raises(PermanentError, match="is not what was written"):
        await store.put("shop/1/file", tmp_path / "file", size, "0" * 64)


@pytest.mark.parametrize("left", [0, 1, None])
async def test_a_copy_that_is_not_there_as_it_was_acknowledged_is_none(
    server: S3Server, store: ObjectStore, monkeypatch: pytest.MonkeyPatch, left: int | None
) -> None:
    """``left`` is what the store has of it a moment later, in bytes; None: nothing."""
    copy = server.root / "evidence/cluster-1/shop/1/file"
    put = obstore.put_async

    async def put_and_lose(*arguments: Any, **options: Any) -> object:
        result = await put(*arguments, **options)
        if left is None:
            copy.unlink()
        else:
            os.truncate(copy, left)
        return result

    monkeypatch.setattr(obstore, "put_async", put_and_lose)
    with pytest.raises(TemporaryError, match="as size and ETag, not"):
        await store.put("shop/1/file", b"abc", 3, hashlib.sha256(b"abc").hexdigest())


def test_a_sample_that_is_not_in_the_store_yet_stays_on_the_node_past_its_age(
    server: S3Server, start_agent: Callable[..., Agent], pod: Pod, operator: Operator
) -> None:
    settings = {
        "upload_url": URL,
        "upload_endpoint": server.endpoint,
        "upload_region": REGION,
        "upload_dir": server.credentials,
    }
    first = start_agent(**settings).wait_ready()
    first.wait_watching(pod)
    server.stop()
    pod.crash().wait(timeout=20)
    (report,) = operator.wait_reports(1)
    wait_until("an empty spool", lambda: first.metric("spool_items") == 0)
    first.kill()
    second = start_agent(**settings, artifacts_age_seconds=1e-3).wait_ready()
    operator.wait_rounds(2)
    assert [manifest.report_id for manifest in second.manifests()] == [report.id]
    server.start()
    second.wait_metric('artifacts_deleted_total{why="age"}')
    copy = server.root / f"evidence/cluster-1/{pod.namespace}/{report.id}"
    assert (copy / names.ARTIFACT_MANIFEST).exists()
    operator.wait("its end", lambda: any(place.deleted for place in operator.places))
    assert operator.places[-1].url == f"{URL}/{pod.namespace}/{report.id}/"


async def test_a_file_that_has_gone_is_refused(store: ObjectStore, tmp_path: Path) -> None:
    with pytest.raises(PermanentError, match="cannot read a file of the sample"):
        await store.put("shop/1/file", tmp_path / "file", 1, "0" * 64)


@pytest.mark.parametrize(
    "content", ["", "[default]\naws_access_key_id = k\n", f"aws_secret_access_key = {SECRET}\n"]
)
async def test_a_bad_credentials_file_is_named_and_not_shown(
    server: S3Server, store: ObjectStore, content: str
) -> None:
    (server.credentials / "credentials").write_text(content)
    with pytest.raises(TemporaryError, match="of-clients/credentials") as raised:
        await store.put("shop/1/file", b"", 0, EMPTY)
    assert SECRET not in str(raised.value)


async def test_without_a_credentials_file_the_environment_counts_until_there_is_one(
    server: S3Server, store: ObjectStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    (server.credentials / "credentials").unlink()
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", KEY)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
    await store.put("shop/1/file", b"", 0, EMPTY)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "of yesterday")
    fresh = ObjectStore(URL, server.endpoint, REGION, server.credentials)
    with pytest.raises(TemporaryError, match="refuses our credentials"):
        await fresh.put("shop/1/file", b"", 0, EMPTY)
    server.write_credentials()
    await fresh.put("shop/1/file", b"", 0, EMPTY)


async def test_a_private_authority_is_trusted_when_its_certificate_is_there(
    server: S3Server,
) -> None:
    authority = Authority()
    server.use_tls(authority.leaf, authority.leaf_key)
    server.stop()
    server.start()
    store = ObjectStore(URL, server.endpoint, REGION, server.credentials)
    with pytest.raises(TemporaryError, match="does not take files"):
        await store.put("shop/1/file", b"", 0, EMPTY)
    (server.credentials / "ca.crt").write_bytes(authority.certificate)
    await store.put("shop/1/file", b"", 0, EMPTY)


def test_a_sample_is_in_the_store_whole_and_still_on_the_node(
    server: S3Server,
    start: Callable[[], Agent],
    pod: Pod,
    operator: Operator,
) -> None:
    agent = start()
    agent.wait_watching(pod)
    pod.crash().wait(timeout=20)
    (report,) = operator.wait_reports(1)
    manifest = wait_uploaded(agent, 1)[0]
    copy = server.root / f"evidence/cluster-1/{pod.namespace}/{report.id}"
    ours = agent.node.state / names.ARTIFACTS_DIR / report.id
    assert {path.name for path in copy.iterdir()} == {path.name for path in ours.iterdir()}
    for path in ours.glob("[!m]*"):
        assert (copy / path.name).read_bytes() == path.read_bytes()
    assert decode((copy / names.ARTIFACT_MANIFEST).read_bytes()) == replace(manifest, placed=False)
    for kept in manifest.files:
        assert kept.url == f"{URL}/{pod.namespace}/{report.id}/{kept.file}"
    agent.wait_metric('uploads_total{result="ok"}')
    assert agent.metric("upload_bytes_total") == sum(kept.bytes for kept in manifest.files)
    assert agent.metric("uploads_waiting") == 0
    assert SECRET not in agent.log.read_text()


def test_a_sample_that_no_report_lists_is_not_uploaded(
    server: S3Server,
    start: Callable[[], Agent],
    pod: Pod,
    operator: Operator,
) -> None:
    agent = start()
    agent.wait_watching(pod)
    operator.sample_kept = False
    pod.crash().wait(timeout=20)
    agent.wait_metric('artifacts_deleted_total{why="surplus"}')
    operator.sample_kept = True
    pod.crash("div0").wait(timeout=20)
    (manifest,) = wait_uploaded(agent, 1)
    samples = server.root / f"evidence/cluster-1/{pod.namespace}"
    assert [path.name for path in samples.iterdir()] == [manifest.report_id]


@pytest.mark.parametrize("files_done", [0, 1, 3])
def test_an_agent_killed_on_the_way_goes_on_where_it_was(
    server: S3Server,
    start: Callable[[], Agent],
    pod: Pod,
    operator: Operator,
    files_done: int,
) -> None:
    first = start()
    first.wait_watching(pod)
    if files_done == 0:
        server.pause()
    pod.crash().wait(timeout=20)
    operator.wait_reports(1)
    wait_until(
        f"{files_done} files there",
        lambda: [urls(m) for m in first.manifests() if m.crash_report_uid] >= [files_done],
    )
    server.pause()
    first.kill()
    (left,) = first.manifests()
    server.resume()
    second = start()
    (manifest,) = wait_uploaded(second, 1)
    assert urls(manifest) == len(manifest.files) == 4
    copy = server.root / f"evidence/cluster-1/{pod.namespace}/{manifest.report_id}"
    for kept in manifest.files:
        assert hashlib.sha256((copy / kept.file).read_bytes()).hexdigest() == kept.sha256
    if not left.url:
        sent = sum(kept.bytes for kept in left.files if not kept.url)
        assert second.metric("upload_bytes_total") == sent
    assert len(operator.reports) == 1


def test_the_crash_report_is_told_once_where_a_sample_is_though_the_agent_was_killed_before(
    server: S3Server, start: Callable[[], Agent], pod: Pod, operator: Operator
) -> None:
    operator.refuse_places_with = grpc.StatusCode.UNAVAILABLE
    first = start()
    first.wait_watching(pod)
    pod.crash().wait(timeout=20)
    (report,) = operator.wait_reports(1)
    wait_uploaded(first, 1)
    operator.wait("a refusal", lambda: operator.places_refused > 0)
    first.kill()
    server.stop()  # it is there: nobody has to ask the store again
    assert operator.places == []

    operator.refuse_places_with = None
    second = start()
    (place,) = operator.wait_places(1)
    assert place == PlaceRequest(
        report_id=report.id,
        namespace=pod.namespace,
        name="crash-1",
        uid=f"uid-of-{report.fingerprint}",
        url=f"{URL}/{pod.namespace}/{report.id}/",
    )
    for artifact in report.artifacts:
        data = (server.root / place.url.removeprefix("s3://") / artifact.file).read_bytes()
        assert hashlib.sha256(data).hexdigest() == artifact.sha256
    wait_until("the journal", lambda: [m for m in second.manifests() if m.placed])
    second.kill()
    start()
    operator.wait_rounds(1)
    assert len(operator.places) == len(operator.reports) == 1


def test_a_place_that_the_operator_never_wants_is_told_in_the_log_and_forgotten(
    start: Callable[[], Agent], pod: Pod, operator: Operator
) -> None:
    operator.refuse_places_with = grpc.StatusCode.PERMISSION_DENIED
    agent = start()
    agent.wait_watching(pod)
    pod.crash().wait(timeout=20)
    says = "the CrashReport does not say where its sample is: PERMISSION_DENIED"
    wait_until("a line", lambda: [line for line in messages(agent) if line.startswith(says)])
    wait_until("the journal", lambda: [m for m in agent.manifests() if m.placed])
    operator.wait_rounds(1)
    assert operator.places_refused == 1


def test_an_upload_that_hangs_does_not_delay_the_end_of_the_agent(
    server: S3Server, start: Callable[[], Agent], pod: Pod, operator: Operator
) -> None:
    agent = start()
    agent.wait_watching(pod)
    server.pause()
    pod.crash().wait(timeout=20)
    agent.wait_metric("uploads_waiting")
    stopping = time.monotonic()
    assert agent.stop() == 0
    assert time.monotonic() - stopping < 5
    server.resume()


@pytest.mark.parametrize(
    "trouble",
    [
        ("down", "s3://evidence/cluster-1 does not take files: "),
        ("no bucket", "there is no bucket of s3://evidence/cluster-1: NoSuchBucket: "),
        ("credentials", "s3://evidence/cluster-1 refuses our credentials: SignatureDoesNotMatch: "),
    ],
)
def test_trouble_with_the_store_is_told_and_stops_nothing_else(
    server: S3Server,
    start: Callable[[], Agent],
    pod: Pod,
    operator: Operator,
    trouble: tuple[str, str],
) -> None:
    what, says = trouble
    if what == "down":
        server.stop()
    elif what == "no bucket":
        (server.root / "evidence").rename(server.root / "elsewhere")
    else:
        server.write_credentials(SECRET + "-of-yesterday")
    agent = start()
    agent.wait_watching(pod)
    pod.crash().wait(timeout=20)
    wait_until("a warning", lambda: [line for line in messages(agent) if says in line])
    status, page = agent.get("/readyz")
    assert status == 200
    assert f"UploadFailing: {says}" in page
    pod.crash("div0").wait(timeout=20)
    operator.wait_reports(2)
    wait_until("two samples", lambda: agent.metric("uploads_waiting") == 2)
    assert SECRET not in agent.log.read_text()
    assert "StringToSign" not in agent.log.read_text()

    if what == "down":
        server.start()
    elif what == "no bucket":
        (server.root / "elsewhere").rename(server.root / "evidence")
    else:
        server.write_credentials()
    wait_uploaded(agent, 2)
    assert agent.get("/readyz") == (200, "ready\n")


def wait_uploaded(agent: Agent, samples: int) -> list[Manifest]:
    """The manifests, when so many samples are in the store."""

    def uploaded() -> list[Manifest]:
        done = [manifest for manifest in agent.manifests() if manifest.url]
        return done if len(done) == samples else []

    return wait_until(f"{samples} uploaded samples", uploaded)


def urls(manifest: Manifest) -> int:
    return sum(bool(kept.url) for kept in manifest.files)


def messages(agent: Agent) -> list[str]:
    return [str(line["message"]) for line in agent.lines()]
