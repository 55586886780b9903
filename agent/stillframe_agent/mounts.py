"""Mounts: snapshot volumes and sandboxes' ``/dev/shm`` on this node, told at once.

Flows in: ``/proc/self/mountinfo``, which reaches us through hostPaths with
``HostToContainer`` propagation.  Flows out: what is mounted, whenever any
mount of the node changed.  Nothing runs while nothing is mounted.
"""

import os
import re
import select
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from stillframe import names

MOUNTINFO: Final = Path("/proc/self/mountinfo")
_PLUGIN: Final = "kubernetes.io~empty-dir"
_PAUSE_SECONDS: Final = 0.02
"""Least time between two readings.

A node that starts many pods changes its mounts hundreds of times a second, and
one reading costs about a millisecond for a thousand mounts.
"""


@dataclass(frozen=True, slots=True)
class Volume:
    """Where libraries of one pod write: a memory emptyDir of ours, or in a sandbox's /dev/shm."""

    pod_uid: str
    """From the path that the kubelet made, or the sandbox's bundle: the pod cannot choose it."""
    path: Path
    """The snapshot directory: root of our own tmpfs, or a directory in the sandbox's."""
    ready: Path | None
    """The kubelet's marker directory of the volume.

    Made after the mount, and removed first of all when the volume is torn down,
    right before ``umount`` (kubernetes ``pkg/volume/emptydir/empty_dir.go``,
    ``SetUpAt`` and ``TearDownAt``).  None in a sandbox, which needs none: runtimes
    unmount with ``MNT_DETACH``, whoever has a file open (containerd
    ``cleanupSandboxFiles``, CRI-O ``UnmountShm``).
    """


@dataclass(frozen=True, slots=True)
class Mounts:
    """What of interest is mounted on the node."""

    volumes: frozenset[Volume] = frozenset()
    """Snapshot volumes of the kubelet."""
    sandboxes: Mapping[str, Path] = field(default_factory=dict)
    """The ``/dev/shm`` of each sandbox, by the sandbox's id."""

    def have(self, volume: Volume) -> bool:
        """Whether the filesystem of ``volume`` is mounted."""
        if volume.ready is None:
            return volume.path.parent in self.sandboxes.values()
        return volume in self.volumes


def snapshot_volumes(mountinfo: bytes, pods_dir: Path) -> frozenset[Volume]:
    r"""The snapshot volumes among the lines of a mountinfo file.

    >>> line = (b"131 128 0:50 / /pods/0a-1/volumes/kubernetes.io~empty-dir/stillframe-shm"
    ...         b" rw,relatime master:34 - tmpfs tmpfs rw\n")
    >>> [volume.pod_uid for volume in snapshot_volumes(line, Path("/pods"))]
    ['0a-1']
    """
    pattern = (
        rb"^\d+ \d+ \d+:\d+ / "
        + re.escape(str(pods_dir).encode())
        + rb"/([0-9a-f][0-9a-f-]{0,63})/volumes/"
        + re.escape(f"{_PLUGIN}/{names.VOLUME_SNAPSHOTS}".encode())
        + rb" [^\n]* - tmpfs "
    )
    found = (match[1].decode() for match in re.finditer(pattern, mountinfo, re.MULTILINE))
    return frozenset(volume_of(uid, pods_dir) for uid in found)


def sandbox_mounts(mountinfo: bytes, sandboxes_dir: Path) -> dict[str, Path]:
    r"""Each sandbox's ``/dev/shm`` by the sandbox's id; of containerd or CRI-O.

    >>> line = (b"131 128 0:50 / /sandboxes/%s/shm rw,nosuid,nodev,noexec,relatime shared:34"
    ...         b" - tmpfs shm rw,size=65536k\n" % (64 * b"a"))
    >>> list(sandbox_mounts(line, Path("/sandboxes"))) == [64 * "a"]
    True
    """
    pattern = (
        rb"^\d+ \d+ \d+:\d+ / ("
        + re.escape(str(sandboxes_dir).encode())
        + rb"/([0-9a-f]{64})/(?:userdata/)?shm) [^\n]* - tmpfs "
    )
    found = re.finditer(pattern, mountinfo, re.MULTILINE)
    return {match[2].decode(): Path(os.fsdecode(match[1])) for match in found}


def volume_of(pod_uid: str, pods_dir: Path) -> Volume:
    """Where the snapshot volume of one pod is, mounted or not."""
    pod = pods_dir / pod_uid
    return Volume(
        pod_uid,
        pod / "volumes" / _PLUGIN / names.VOLUME_SNAPSHOTS,
        pod / "plugins" / _PLUGIN / names.VOLUME_SNAPSHOTS,
    )


def volume_in(shm: Path, pod_uid: str) -> Volume:
    """The snapshot directory in a sandbox's ``/dev/shm``."""
    return Volume(pod_uid, shm / Path(names.MOUNT_SNAPSHOTS).name, ready=None)


class MountWatch:
    """A thread that sleeps in poll(2) until the mounts of the node change.

    A thread, not the event loop: the kernel reports the change as ``POLLPRI``
    and clears it with the poll that saw it (``mounts_poll`` in ``fs/namespace.c``);
    asyncio cannot wait for ``POLLPRI``, and an epoll nested in its own loses a
    change that happens while it is being registered.
    """

    def __init__(
        self, pods_dir: Path, sandboxes_dir: Path | None, changed: Callable[[Mounts], object]
    ) -> None:
        """``changed`` is called in this object's thread, first of all with what there is.

        Without ``sandboxes_dir`` no sandbox is looked for.
        """
        self._pods_dir = pods_dir
        self._sandboxes_dir = sandboxes_dir
        self._changed = changed
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="mounts", daemon=True)

    def start(self) -> None:
        """Start watching."""
        self._thread.start()

    def stop(self) -> None:
        """Call ``changed`` no more; the sleeping thread ends with the process."""
        self._stop.set()

    def _run(self) -> None:
        last = None
        with MOUNTINFO.open("rb", buffering=0) as mountinfo:
            poll = select.poll()
            poll.register(mountinfo, select.POLLPRI)
            while not self._stop.is_set():
                mountinfo.seek(0)
                mounts = self._parse(mountinfo.readall())
                if mounts != last:
                    self._changed(mounts)
                last = mounts
                self._stop.wait(_PAUSE_SECONDS)
                poll.poll()

    def _parse(self, mountinfo: bytes) -> Mounts:
        volumes = snapshot_volumes(mountinfo, self._pods_dir)
        if self._sandboxes_dir is None:
            return Mounts(volumes)
        return Mounts(volumes, sandbox_mounts(mountinfo, self._sandboxes_dir))
