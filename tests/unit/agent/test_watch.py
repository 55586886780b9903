"""What a queue without room does not tell is looked for."""

from pathlib import Path
from typing import NoReturn

import pytest
from stillframe_agent import watch
from stillframe_agent.inotify import IN_Q_OVERFLOW, Event
from stillframe_agent.metrics import Metrics
from stillframe_agent.mounts import Mounts, volume_of

from stillframe.errors import PermanentError
from tests.unit.agent.test_sandboxes import brings_library, of_pod, write_bundle


async def test_a_marker_that_went_unheard_lets_go_and_others_are_swept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else the kubelet could not unmount the volume of a pod beside one that floods."""
    volumes = [volume_of(uid, tmp_path) for uid in ("0a", "0b")]
    for volume in volumes:
        volume.path.mkdir(parents=True)
        volume.ready.mkdir(parents=True)
    found: list[watch.SnapshotFound] = []
    watcher = watch.Watcher(tmp_path, found.append, Metrics(), bundles_dir=tmp_path)
    watcher._mounts_changed(Mounts(frozenset(volumes)))
    assert watcher._directories.keys() == set(volumes)
    gone, left = volumes
    gone.ready.rmdir()
    (left.path / f"{'0' * 32}.core").touch()
    monkeypatch.setattr(watch.Inotify, "read", lambda _inotify: [Event(-1, IN_Q_OVERFLOW, "")])
    watcher._events()
    assert watcher._directories.keys() == {left}
    assert [seen.directory.volume for seen in found] == [left]
    watcher._mounts_changed(Mounts())


async def test_a_container_in_a_loop_does_not_add_up_the_tries_of_its_sandbox(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each failure is tried again later; its pod's next container must not begin another row."""
    container, sandbox = 64 * "a", 64 * "b"
    write_bundle(tmp_path, container, brings_library(sandbox))
    write_bundle(tmp_path, sandbox, of_pod("0a"))
    tries: list[Path] = []

    def refuse(path: Path) -> NoReturn:
        tries.append(path)
        raise PermanentError("no directory")

    monkeypatch.setattr(watch, "open_directory", refuse)
    watcher = watch.Watcher(
        tmp_path, lambda _seen: None, Metrics(), bundles_dir=tmp_path, sandboxes_dir=tmp_path
    )
    watcher._mounts_changed(Mounts(sandboxes={sandbox: tmp_path / sandbox / "shm"}))
    for _ in range(5):
        watcher._container_made(container)
    assert tries == [tmp_path / sandbox / "shm/stillframe"]
    (why,) = watcher.unwatched.values()
    assert why == "no directory"
    watcher._mounts_changed(Mounts())
    assert watcher.unwatched == {}
    watcher.stop()
