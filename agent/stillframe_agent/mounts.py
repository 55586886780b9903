"""Mounts: which snapshot volumes the kubelet has mounted on this node, told at once.

Flows in: ``/proc/self/mountinfo``, which reaches us through a hostPath with
``HostToContainer`` propagation.  Flows out: the set of volumes, whenever any
mount of the node changed.  Nothing runs while nothing is mounted.
"""

import re
import select
import threading
from collections.abc import Callable
from dataclasses import dataclass
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
    """A snapshot volume: a memory emptyDir of the name the webhook gives it."""

    pod_uid: str
    """From the path, which the kubelet made: the pod cannot choose it."""
    path: Path
    """Root of the tmpfs."""
    ready: Path
    """The kubelet's marker directory of the volume.

    Made after the mount, and removed first of all when the volume is torn down,
    right before ``umount`` (kubernetes ``pkg/volume/emptydir/empty_dir.go``,
    ``SetUpAt`` and ``TearDownAt``).
    """


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


def volume_of(pod_uid: str, pods_dir: Path) -> Volume:
    """Where the snapshot volume of one pod is, mounted or not."""
    pod = pods_dir / pod_uid
    return Volume(
        pod_uid,
        pod / "volumes" / _PLUGIN / names.VOLUME_SNAPSHOTS,
        pod / "plugins" / _PLUGIN / names.VOLUME_SNAPSHOTS,
    )


class MountWatch:
    """A thread that sleeps in poll(2) until the mounts of the node change.

    A thread, not the event loop: the kernel reports the change as ``POLLPRI``
    and clears it with the poll that saw it (``mounts_poll`` in ``fs/namespace.c``);
    asyncio cannot wait for ``POLLPRI``, and an epoll nested in its own loses a
    change that happens while it is being registered.
    """

    def __init__(self, pods_dir: Path, changed: Callable[[frozenset[Volume]], object]) -> None:
        """``changed`` is called in this object's thread, first of all with what there is."""
        self._pods_dir = pods_dir
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
                volumes = snapshot_volumes(mountinfo.readall(), self._pods_dir)
                if volumes != last:
                    self._changed(volumes)
                last = volumes
                self._stop.wait(_PAUSE_SECONDS)
                poll.poll()
