"""What is wrong on a node: each thing has a reason, a remedy, and its effect on readiness.

Covers: the pure choice, the looks at directories, volumes that cannot be
watched, what becomes of it on the page, in the log and in the metrics.
"""

import asyncio
import errno
import logging
import os
import subprocess
from http import HTTPStatus
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry
from stillframe_agent import watch
from stillframe_agent.conditions import Reason, Sight, conditions, of_directory, unwritable
from stillframe_agent.health import STOPPING, Health
from stillframe_agent.metrics import Metrics
from stillframe_agent.mounts import Mounts, volume_of
from stillframe_agent.settings import Settings
from stillframe_agent.upload import CONDITION as UPLOAD_FAILING

ROOT = Path(__file__).parents[3]
SETTINGS = Settings(
    node_name="node-1", operator_address="operator:9443", artifacts_free_bytes=1 << 30
)
WELL = {
    "state_directory": "",
    "free_bytes": 1 << 40,
    "spool_used": 0.0,
    "ca": "",
    "token": "",
    "silent_seconds": 10.0,
    "last_refusal": "",
    "unwatched": (),
}
WRONG = {
    Reason.STATE_DIRECTORY: {"state_directory": "read-only file system"},
    Reason.DISK_FULL: {"free_bytes": (1 << 30) - 1},
    Reason.SPOOL_FULL: {"spool_used": 0.9},
    Reason.CA_MISSING: {"ca": "No such file or directory", "silent_seconds": 1e6},
    Reason.TOKEN_MISSING: {"token": "No such file or directory", "silent_seconds": 1e6},
    Reason.OPERATOR_SILENT: {"silent_seconds": 301.0, "last_refusal": "UNAVAILABLE"},
    Reason.VOLUMES_UNWATCHED: {"unwatched": ("No space left on device",)},
}


def found(**changes: object) -> dict[str, str]:
    return conditions(Sight(**(WELL | changes)), SETTINGS)  # type: ignore[arg-type]


def test_a_node_that_is_well_has_no_condition() -> None:
    assert found() == {}


@pytest.mark.parametrize("reason", Reason)
def test_what_is_wrong_is_said_with_what_was_seen(reason: Reason) -> None:
    (said,) = (told := found(**WRONG[reason])).values()
    assert list(told) == [reason]
    seen = [value for value in WRONG[reason].values() if isinstance(value, str)]
    assert all(value in said for value in seen)


@pytest.mark.parametrize("reason", [*Reason, *STOPPING, "PtraceDenied", UPLOAD_FAILING])
def test_every_condition_is_documented_with_its_effect(reason: str) -> None:
    rows = [
        line.split("|")
        for line in (ROOT / "agent/README.md").read_text().splitlines()
        if "|" in line
    ]
    (row,) = (row for row in rows if f"`{reason}`" in row[1])
    assert row[2].strip() == ("no" if reason in STOPPING else "yes")


@pytest.mark.parametrize("reason", [*Reason, *STOPPING])
def test_only_what_stops_all_work_makes_unready(reason: str) -> None:
    status, text = Health(look=lambda: {reason: "do this"}).ready()
    assert (status == HTTPStatus.SERVICE_UNAVAILABLE) == (reason in STOPPING)
    assert f"{reason}: do this\n" in text
    assert ("ready\n" in text) == (reason not in STOPPING)


def test_a_directory_is_made_or_the_reason_told(tmp_path: Path) -> None:
    assert unwritable(tmp_path / "made") == ""
    assert (tmp_path / "made").is_dir()
    (tmp_path / "file").touch()
    assert unwritable(tmp_path / "file" / "below") == "Not a directory"
    assert list(of_directory(tmp_path, "why")) == ["StateDirectoryUnwritable"]


def test_a_read_only_disk_is_unwritable(tmp_path: Path) -> None:
    subprocess.run(["mount", "-t", "tmpfs", "-o", "ro", "tmpfs", tmp_path], check=True)
    try:
        assert unwritable(tmp_path) == "read-only file system"
    finally:
        subprocess.run(["umount", tmp_path], check=True)


def test_a_change_is_one_line_of_the_log(caplog: pytest.LogCaptureFixture) -> None:
    wrong: dict[str, str] = {}
    health = Health(look=lambda: wrong)
    with caplog.at_level(logging.INFO):
        for state in ({}, {"DiskFull": "a"}, {"DiskFull": "b"}, {}, {}):
            wrong = state
            health.ready()
    assert [record.getMessage() for record in caplog.records] == ["a", "a condition has gone"]


def test_conditions_are_a_metric() -> None:
    registry = CollectorRegistry()
    registry.register(Health(conditions={"PtraceDenied": "x"}, look=lambda: {"DiskFull": "y"}))
    for reason, value in (("PtraceDenied", 1), ("DiskFull", 1), ("SpoolFull", None)):
        assert registry.get_sample_value("stillframe_agent_condition", {"reason": reason}) == value


async def test_a_volume_that_cannot_be_watched_is_told_and_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As when fs.inotify.max_user_watches is used up."""
    volume = volume_of("0a", tmp_path)
    for path in (volume.path, volume.ready):
        path.mkdir(parents=True)
    real = watch.Inotify.add

    def full(_inotify: watch.Inotify, path: str, _mask: int) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), path)

    (volume.path / f"{'0' * 32}.core").touch()
    seen = asyncio.Event()
    monkeypatch.setattr(watch, "_FAILED_RETRY", 0.01)
    monkeypatch.setattr(watch.Inotify, "add", full)
    watcher = watch.Watcher(tmp_path, lambda _seen: seen.set(), Metrics(), bundles_dir=tmp_path)
    watcher._mounts_changed(Mounts(frozenset({volume})))
    assert "No space left on device" in watcher.unwatched[volume]
    monkeypatch.setattr(watch.Inotify, "add", real)
    async with asyncio.timeout(10):
        await seen.wait()
    assert watcher.unwatched == {}
    watcher._mounts_changed(Mounts())
