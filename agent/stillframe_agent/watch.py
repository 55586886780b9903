"""Watch: notices snapshots, and tells the pods of this node that an agent is here.

Flows in: mounted volumes (`mounts`), containers that bring the library along
(`sandboxes`) and inotify events.  Flows out: one `SnapshotFound` per name.
Runs in the event loop; an idle node costs nothing.

**Our beacon would keep a volume mounted.**  The beacon is a lock, a lock needs
an open descriptor, and a descriptor in our copy of the mount makes the
kubelet's ``umount`` fail with EBUSY (``propagate_mount_busy`` in the kernel's
``fs/pnode.c``), so the pod would hang in Terminating.  The kubelet removes the
volume's marker directory right before it unmounts: we watch that directory and
let go at once, and never hold a volume whose marker we cannot watch.  A first
``umount`` that we were too slow for is repeated by the kubelet 0.5 s later.
A sandbox's ``/dev/shm`` is detached, busy or not: we let go when it has gone.

**All pods share one queue of events**, and one pod can fill it: measured, a pod
that makes valid names as fast as it can kept 7 of 8 crashes of another from
being claimed.  So a directory with too many events is not watched for a second,
and then swept.
"""

import asyncio
import logging
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from stillframe.capture.handover import (
    SnapshotDirectory,
    SnapshotName,
    Stage,
    list_names,
)
from stillframe.capture.leftovers import clean_births
from stillframe.capture.refusals import Refusal
from stillframe.errors import InvalidInputError, StillframeError, TemporaryError
from stillframe_agent.inotify import (
    IN_CREATE,
    IN_DELETE_SELF,
    IN_DONT_FOLLOW,
    IN_IGNORED,
    IN_MOVED_TO,
    IN_ONLYDIR,
    IN_Q_OVERFLOW,
    Event,
    Inotify,
)
from stillframe_agent.logs import event
from stillframe_agent.metrics import Metrics
from stillframe_agent.mounts import Mounts, MountWatch, Volume, volume_in
from stillframe_agent.sandboxes import Containers, is_at, open_directory, sandbox_of

log: Final = logging.getLogger(__name__)

_MARKER_RETRY: Final = tuple(0.005 * 2**n for n in range(12))
"""Seconds between looks for a new volume's marker: the kubelet makes it right after the mount.

And for a new bundle's configuration, which the runtime writes right after the directory.
"""
_FAILED_RETRY: Final = 10.0
"""Seconds until a volume that could not be watched is tried again."""
_SECOND_LIFE: Final = 1.0
"""Seconds after which a volume that was let go of may have a marker again."""
_EVENTS_MOST: Final = 400
"""Of one directory in `_FLOOD_SECONDS`: more than the crashes of one pod that we take at once."""
_NAMES_MOST: Final = 256
"""Names that a sweep looks at where there was a flood."""
_FLOOD_SECONDS: Final = 1.0
_NAMES_MASK: Final = IN_CREATE | IN_MOVED_TO | IN_ONLYDIR


@dataclass(slots=True, eq=False)
class WatchedDirectory:
    """The snapshot directory of one pod; closed when nobody uses it any more."""

    volume: Volume
    snapshots: SnapshotDirectory
    names: int
    """inotify descriptor of the directory."""
    marker: int | None
    """inotify descriptor of the kubelet's marker, where there is one."""
    flooded: bool = field(default=False, init=False)
    """Not watched for a while, because its pod made too many files."""
    unswept: bool = field(default=False, init=False)
    """A sweep did not come to the end; the next one is due."""
    _events: int = field(default=0, init=False)
    """Since `_counted_since`."""
    _counted_since: float = field(default=0.0, init=False)
    _users: int = field(default=0, init=False)
    _leaving: bool = field(default=False, init=False)

    @property
    def pod_uid(self) -> str:
        """UID of the pod that the volume belongs to."""
        return self.volume.pod_uid

    @property
    def open(self) -> bool:
        """Whether new work may use the directory."""
        return not self._leaving

    def floods(self, now: float) -> bool:
        """Count one event; whether there are too many, ``now`` in monotonic seconds."""
        if now - self._counted_since > _FLOOD_SECONDS:
            self._counted_since, self._events = now, 0
        self._events += 1
        return self._events > _EVENTS_MOST

    def __enter__(self) -> "WatchedDirectory":
        self._users += 1
        return self

    def __exit__(self, *_error: object) -> None:
        self._users -= 1
        self._close_if_unused()

    def leave(self) -> None:
        """Close as soon as the last capture in it is done; at once when there is none."""
        self._leaving = True
        self._close_if_unused()

    def _close_if_unused(self) -> None:
        if self._leaving and self._users == 0:
            self.snapshots.close()


@dataclass(frozen=True, slots=True)
class SnapshotFound:
    """A name was seen in a pod's snapshot directory."""

    directory: WatchedDirectory
    name: SnapshotName


class Watcher:
    """Holds a beacon in, and watches, every snapshot directory of this node."""

    def __init__(
        self,
        pods_dir: Path,
        found: Callable[[SnapshotFound], None],
        metrics: Metrics,
        *,
        bundles_dir: Path,
        sandboxes_dir: Path | None = None,
    ) -> None:
        """Without ``sandboxes_dir`` no library in an image is looked for."""
        self._bundles_dir = bundles_dir
        self._found = found
        self._metrics = metrics
        self._loop = asyncio.get_running_loop()
        self._inotify = Inotify()
        self._directories: dict[Volume, WatchedDirectory] = {}
        self._by_watch: dict[int, WatchedDirectory] = {}
        self._mounted = Mounts()
        self._mounts = MountWatch(
            pods_dir,
            sandboxes_dir,
            lambda mounts: self._loop.call_soon_threadsafe(self._mounts_changed, mounts),
        )
        self._containers = Containers(bundles_dir, self._container_made) if sandboxes_dir else None
        self.unwatched: dict[Volume, str] = {}
        """Mounted volumes whose crashes we do not see, and why; tried again now and then."""
        self.swept = asyncio.Event()
        """Set when every directory that was there at the start has been looked into."""

    def start(self) -> None:
        """Start noticing."""
        self._loop.add_reader(self._inotify.fd, self._events)
        self._mounts.start()

    def stop(self) -> None:
        """Take every beacon away: from now on crashes do not wait for us."""
        self._mounts.stop()
        if self._containers is not None:
            self._containers.stop()
        self._loop.remove_reader(self._inotify.fd)
        self._mounted = Mounts()
        for directory in list(self._directories.values()):
            self._leave(directory)
        self._inotify.close()

    def _mounts_changed(self, mounted: Mounts) -> None:
        self._metrics.wakeups.labels("mounts").inc()
        fresh, self._mounted = mounted.volumes - self._mounted.volumes, mounted
        for volume, directory in list(self._directories.items()):
            if not mounted.have(volume):
                self._leave(directory)
        for volume in [volume for volume in self.unwatched if not mounted.have(volume)]:
            del self.unwatched[volume]
        for volume in fresh:
            self._enter(volume, _MARKER_RETRY)
        if self._containers is not None and not self.swept.is_set():
            self._containers.start()
        self.swept.set()

    def _container_made(
        self, container_id: str, retries: tuple[float, ...] = _MARKER_RETRY
    ) -> None:
        """Watch the sandbox of a container that brings the library along."""
        self._metrics.wakeups.labels("containers").inc()
        try:
            sandbox = sandbox_of(container_id, self._bundles_dir)
            if sandbox is None:
                return
            shm = self._mounted.sandboxes.get(sandbox.id)
            if shm is None:
                raise TemporaryError(f"sandbox {sandbox.id} is not mounted")
        except TemporaryError:
            if retries:
                self._loop.call_later(retries[0], self._container_made, container_id, retries[1:])
            return
        volume = volume_in(shm, sandbox.pod_uid)
        known = self._directories.get(volume)
        if known is not None and not is_at(volume.path, known.snapshots.fd):
            self._leave(known)
        if volume not in self.unwatched:  # else its next try is due already
            self._enter(volume, ())

    def _enter(self, volume: Volume, retries: tuple[float, ...]) -> None:
        """Watch a volume as soon as it has its marker."""
        if not self._mounted.have(volume) or volume in self._directories:
            return
        try:
            directory = self._adopt(volume)
        except FileNotFoundError:
            self.unwatched.pop(volume, None)
            if retries:
                self._loop.call_later(retries[0], self._enter, volume, retries[1:])
        except (StillframeError, OSError) as error:
            if volume not in self.unwatched:
                self._metrics.directories_failed.inc()
                event(log, logging.ERROR, f"cannot watch a volume: {error}", pod_uid=volume.pod_uid)
            self.unwatched[volume] = str(error)
            self._loop.call_later(_FAILED_RETRY, self._enter, volume, ())
        else:
            self.unwatched.pop(volume, None)
            self.sweep(directory)

    def _adopt(self, volume: Volume) -> WatchedDirectory:
        """Watch the marker, take the beacon, watch the directory: all of it or nothing.

        Raises `FileNotFoundError` while there is no marker, `OSError` (ENOSPC:
        fs.inotify.max_user_watches is used up) and `StillframeError`.
        """
        marker = None
        with ExitStack() as undo:
            if volume.ready is None:
                snapshots = undo.enter_context(open_directory(volume.path))
            else:
                mask = IN_DELETE_SELF | IN_ONLYDIR | IN_DONT_FOLLOW
                marker = self._inotify.add(str(volume.ready), mask)
                undo.callback(self._inotify.remove, marker)
                snapshots = undo.enter_context(SnapshotDirectory.open(volume.path))
            names = self._watch_names(snapshots)
            undo.pop_all()
        directory = WatchedDirectory(volume, snapshots, names, marker)
        self._directories[volume] = directory
        self._by_watch[names] = directory
        if marker is not None:
            self._by_watch[marker] = directory
        self._metrics.directories.set(len(self._directories))
        return directory

    def _watch_names(self, snapshots: SnapshotDirectory) -> int:
        return self._inotify.add(f"/proc/self/fd/{snapshots.fd}", _NAMES_MASK)

    def _leave(self, directory: WatchedDirectory) -> None:
        del self._directories[directory.volume]
        for watch in (directory.names, directory.marker):
            if watch is not None and self._by_watch.pop(watch, None) is not None:
                self._inotify.remove(watch)
        self._metrics.directories.set(len(self._directories))
        directory.leave()

    def _events(self) -> None:
        self._metrics.wakeups.labels("inotify").inc()
        for seen in self._inotify.read():
            if seen.mask & IN_Q_OVERFLOW:
                self._events_lost()
            elif (owner := self._by_watch.get(seen.watch)) is not None:
                self._event(owner, seen)

    def _event(self, directory: WatchedDirectory, seen: Event) -> None:
        if seen.mask & (IN_DELETE_SELF | IN_IGNORED):
            self._let_go(directory)
            return
        if directory.floods(self._loop.time()):
            self._look_away(directory)
            return
        try:
            name = SnapshotName.parse(seen.name)
        except InvalidInputError as error:
            self._metrics.refusals.labels(error.reason).inc()
            return
        if name.stage is not Stage.BIRTH:
            self._found(SnapshotFound(directory, name))

    def _events_lost(self) -> None:
        """Look for what the queue had no room to tell: snapshots, and markers that have gone."""
        for directory in list(self._directories.values()):
            ready = directory.volume.ready
            if ready is not None and not ready.is_dir():
                self._let_go(directory)
            elif not directory.flooded:
                self.sweep(directory)

    def _let_go(self, directory: WatchedDirectory) -> None:
        """Hold a volume no more that is about to go."""
        self.sweep(directory)
        self._leave(directory)
        # Should the kubelet set it up anew instead of unmounting it.
        self._loop.call_later(_SECOND_LIFE, self._enter, directory.volume, _MARKER_RETRY)

    def _look_away(self, directory: WatchedDirectory) -> None:
        """Watch a directory no more; its events that wait already are nobody's."""
        directory.flooded = True
        del self._by_watch[directory.names]
        self._inotify.remove(directory.names)
        self._metrics.floods.inc()
        self._loop.call_later(_FLOOD_SECONDS, self._look_again, directory)

    def _look_again(self, directory: WatchedDirectory) -> None:
        if not directory.open:
            return
        directory.flooded = False
        try:
            directory.names = self._watch_names(directory.snapshots)
        except OSError:  # somebody else took our watch: begin anew
            self._leave(directory)
            self._enter(directory.volume, ())
        else:
            self._by_watch[directory.names] = directory
            self.sweep(directory, _NAMES_MOST)

    def sweep(self, directory: WatchedDirectory, limit: int = 1024) -> None:
        """Look at ``limit`` names in ``directory``; what was never born is deleted."""
        listing = list_names(directory.snapshots.fd, limit=limit)
        self._metrics.refusals.labels(Refusal.BAD_NAME).inc(listing.refused)
        self._metrics.stillbirths.inc(clean_births(directory.snapshots.fd, listing))
        for name in listing.names:
            if name.stage is not Stage.BIRTH:
                self._found(SnapshotFound(directory, name))
        # Names that are not ours stay: more of them would be all that is found.
        if listing.cut and listing.names and not directory.unswept:
            directory.unswept = True
            self._loop.call_later(_FLOOD_SECONDS, self._sweep_the_rest, directory)

    def _sweep_the_rest(self, directory: WatchedDirectory) -> None:
        directory.unswept = False
        if directory.open and not directory.flooded:
            self.sweep(directory, _NAMES_MOST)
