"""What a queue without room does not tell is looked for."""

from pathlib import Path

import pytest
from stillframe_agent import watch
from stillframe_agent.inotify import IN_Q_OVERFLOW, Event
from stillframe_agent.metrics import Metrics
from stillframe_agent.mounts import volume_of


async def test_a_marker_that_went_unheard_lets_go_and_others_are_swept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else the kubelet could not unmount the volume of a pod beside one that floods."""
    volumes = [volume_of(uid, tmp_path) for uid in ("0a", "0b")]
    for volume in volumes:
        volume.path.mkdir(parents=True)
        volume.ready.mkdir(parents=True)
    found: list[watch.SnapshotFound] = []
    watcher = watch.Watcher(tmp_path, found.append, Metrics())
    watcher._mounts_changed(frozenset(volumes))
    assert watcher._directories.keys() == set(volumes)
    gone, left = volumes
    gone.ready.rmdir()
    (left.path / f"{'0' * 32}.core").touch()
    monkeypatch.setattr(watch.Inotify, "read", lambda _inotify: [Event(-1, IN_Q_OVERFLOW, "")])
    watcher._events()
    assert watcher._directories.keys() == {left}
    assert [seen.directory.volume for seen in found] == [left]
    watcher._mounts_changed(frozenset())
