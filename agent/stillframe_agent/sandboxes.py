"""Sandboxes: pods whose image has the library, and the directory that it writes to.

Flows in: the runtime's bundles, which belong to root.  Flows out: the sandbox of
each container that says in its environment that it preloads the library and has
no volume of ours, and that sandbox's snapshot directory, open.  Pods that do
not say so cost one look at each of their containers, and nothing afterwards:
``docs/decisions/0016-a-library-in-the-image.md``.
"""

import asyncio
import contextlib
import logging
import os
import re
import stat
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Final

from stillframe import names
from stillframe.capture.handover import SnapshotDirectory
from stillframe.capture.kernel import Resolve, openat2
from stillframe.errors import PermanentError, TemporaryError
from stillframe_agent.inotify import IN_CREATE, IN_ONLYDIR, IN_Q_OVERFLOW, Inotify
from stillframe_agent.logs import event
from stillframe_agent.pods import bundle_configs, environment, mount_sources, pod_uid_in

log: Final = logging.getLogger(__name__)

_MODE: Final = 0o777
"""As the library makes it: every user of the pod writes, and we may delete."""
_CONTAINER_ID: Final = re.compile(r"[0-9a-f]{64}", re.ASCII)
_POD_UID: Final = re.compile(r"[0-9a-f][0-9a-f-]{0,63}", re.ASCII)
_SHM_SOURCE: Final = re.compile(r"/.*/(?P<id>[0-9a-f]{64})/(?:userdata/)?shm", re.ASCII)
"""Of containerd and of CRI-O; never the node's own, which a pod with hostIPC has."""
_OPEN_SHM: Final = os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_BELOW: Final = Resolve.BENEATH | Resolve.NO_SYMLINKS | Resolve.NO_MAGICLINKS | Resolve.NO_XDEV


@dataclass(frozen=True, slots=True)
class Sandbox:
    """A sandbox with a container that brings the library along."""

    id: str
    pod_uid: str
    """Of the sandbox's own bundle: no mount of the container's can make it another pod's."""


def sandbox_of(container_id: str, bundles_dir: Path) -> Sandbox | None:
    """In which sandbox's ``/dev/shm`` a container's crashes are to be looked for.

    None when in no one's.  Raises `TemporaryError` while the bundle is not complete.
    """
    complete = False
    for config in bundle_configs(container_id, bundles_dir):
        variables = environment(config)
        complete = complete or variables is not None
        sandbox_id = _written_to(variables or {}, mount_sources(config))
        if sandbox_id is None:
            continue
        for own in bundle_configs(sandbox_id, bundles_dir):
            pod_uid = pod_uid_in(own)
            if pod_uid is not None and _POD_UID.fullmatch(pod_uid):
                return Sandbox(sandbox_id, pod_uid)
        raise TemporaryError(f"the sandbox of container {container_id} has no bundle")
    if not complete:
        raise TemporaryError(f"container {container_id} has no complete bundle")
    return None


def _written_to(variables: dict[str, str], sources: dict[str, str]) -> str | None:
    """The id of the sandbox whose ``/dev/shm`` a library with this environment writes to."""
    if variables.get(names.ENV_DISABLED) == "1":
        return None
    preloaded = re.split(r"[ :]", variables.get(names.ENV_PRELOAD, ""))
    if names.LIBRARY_FILE not in (PurePosixPath(path).name for path in preloaded):
        return None
    directory = variables.get(names.ENV_DIR, names.MOUNT_SNAPSHOTS)
    if directory != names.MOUNT_SNAPSHOTS or directory in sources:
        return None  # a place that we do not know, or a volume: then the kubelet's mounts tell
    shm = sources.get(str(PurePosixPath(directory).parent), "")
    match = _SHM_SOURCE.fullmatch(shm)
    return match["id"] if match else None


def open_directory(path: Path) -> SnapshotDirectory:
    """Open the snapshot directory ``path`` in a sandbox's ``/dev/shm``, with our beacon.

    It is made where it is missing: a library that crashes looks for the beacon at once, so
    the directory must be there before.  ``/dev/shm`` itself is the runtime's mount, so the
    pod has a say in the last component only, and that must be a directory of this very
    filesystem.  One of our own user is given the library's mode: where another container of
    the pod has a volume of ours, the runtime has made the place to mount it on, for root only.
    Raises `FileNotFoundError` when no filesystem is mounted there (any more), and
    `PermanentError`.
    """
    shm = os.open(path.parent, _OPEN_SHM)
    try:
        if os.fstat(shm).st_dev == path.parent.parent.stat().st_dev:
            raise FileNotFoundError(f"nothing is mounted at {path.parent}")
        try:
            fd = _open_or_make(shm, path.name)
        except OSError as error:
            raise PermanentError(
                f"cannot use {path}: {os.strerror(error.errno or 0)}: remove what the pod has put "
                f"at {names.MOUNT_SNAPSHOTS}"
            ) from error
        try:
            return SnapshotDirectory.open(fd)
        finally:
            os.close(fd)
    finally:
        os.close(shm)


def is_at(path: Path, fd: int) -> bool:
    """Whether ``path`` still leads to the snapshot directory that is open as ``fd``."""
    try:
        shm = os.open(path.parent, _OPEN_SHM)
        try:
            there = openat2(shm, path.name, os.O_PATH | os.O_NOFOLLOW, _BELOW)
        finally:
            os.close(shm)
    except OSError:
        return False
    try:
        return os.path.samestat(os.fstat(there), os.fstat(fd))
    finally:
        os.close(there)


def _open_or_make(shm: int, name: str) -> int:
    # What exists is the library's, the runtime's or ours; or else the next line refuses it.
    with contextlib.suppress(FileExistsError):
        os.mkdir(name, _MODE, dir_fd=shm)
    fd = openat2(shm, name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, _BELOW)
    status = os.fstat(fd)
    try:
        if status.st_uid == os.geteuid() and stat.S_IMODE(status.st_mode) != _MODE:
            os.fchmod(fd, _MODE)
    except OSError:
        os.close(fd)
        raise
    return fd


class Containers:
    """Tells the id of every container that the runtime makes; runs in the event loop.

    Its queue of events is its own: only the runtime can fill it.
    """

    def __init__(self, bundles_dir: Path, made: Callable[[str], object]) -> None:
        """``made`` is called when a bundle's directory appears: it may be empty yet."""
        self._bundles_dir = bundles_dir
        self._made = made
        self._inotify = Inotify()

    def start(self) -> None:
        """Tell of the containers that there are, and from now on of each new one."""
        try:
            self._inotify.add(str(self._bundles_dir), IN_CREATE | IN_ONLYDIR)
        except OSError as error:
            event(
                log,
                logging.WARNING,
                "cannot watch the runtime's bundles: crashes of libraries in images are not "
                f"seen: {error}",
            )
            return
        asyncio.get_running_loop().add_reader(self._inotify.fd, self._events)
        self._tell_all()

    def stop(self) -> None:
        """Tell no more."""
        asyncio.get_running_loop().remove_reader(self._inotify.fd)
        self._inotify.close()

    def _events(self) -> None:
        for seen in self._inotify.read():
            if seen.mask & IN_Q_OVERFLOW:
                self._tell_all()
            else:
                self._tell(seen.name)

    def _tell_all(self) -> None:
        for bundle in self._bundles_dir.iterdir():
            self._tell(bundle.name)

    def _tell(self, name: str) -> None:
        if _CONTAINER_ID.fullmatch(name):
            self._made(name)
