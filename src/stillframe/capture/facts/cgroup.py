"""The process's own cgroup: where it is, and what its files say.

Flows in: ``/proc/PID/cgroup`` and ``mountinfo``, then contents of the cgroup's files.
Flows out: a directory below one of the process's own mounts, then parts of a `Cgroup`.
Computes only, no I/O.  The agent's own view of /sys/fs/cgroup ends at its own
container; every runtime mounts the container's cgroup into the container, and
the kernel says what is mounted there.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from stillframe.capture.facts.model import Cpu, Memory, Pids, Pressure

FILES: Final = {
    2: {
        "memory": (
            "memory.current", "memory.max", "memory.peak", "memory.swap.current",
            "memory.events", "memory.pressure",
        ),
        "cpu": ("cpu.stat", "cpu.max"),
        "pids": ("pids.current", "pids.max"),
    },
    1: {
        "memory": (
            "memory.usage_in_bytes", "memory.limit_in_bytes", "memory.max_usage_in_bytes",
            "memory.failcnt", "memory.oom_control",
        ),
        "cpu": ("cpu.stat", "cpu.cfs_quota_us", "cpu.cfs_period_us"),
        "pids": ("pids.current", "pids.max"),
    },
}  # fmt: skip
"""Version of cgroups → controller → files to read; those that are missing are not known."""
_V1_UNLIMITED: Final = 1 << 62
"""``memory.limit_in_bytes`` without a limit is the largest page-aligned number."""
_KEY: Final = re.compile(r"[a-z0-9_]{1,64}")
_OCTAL: Final = re.compile(r"\\([0-7]{3})")


@dataclass(frozen=True, slots=True)
class Mount:
    """A mounted cgroup hierarchy."""

    id: int
    root: str
    """The cgroup that is at the mount point; in our own view, as ``/proc/PID/cgroup`` is."""
    point: str
    """Where it is mounted, as the process sees it."""
    version: int
    controllers: frozenset[str]
    """Of v1; empty for v2, where the files tell."""


@dataclass(frozen=True, slots=True)
class Place:
    """A cgroup, as a directory below a mount."""

    mount: Mount
    path: str
    """Relative to the mount point; ``.`` is the mount point."""


def parse_mounts(mountinfo: str) -> list[Mount]:
    r"""The cgroup hierarchies in a ``/proc/PID/mountinfo``.

    >>> parse_mounts("31 24 0:26 /a /sys/fs/cgroup ro,nosuid - cgroup2 cgroup rw\n")[0].root
    '/a'
    """
    mounts = []
    for line in mountinfo.split("\n"):
        before, _, after = line.partition(" - ")
        fields, tail = before.split(" "), after.split(" ")
        if tail[0] not in ("cgroup", "cgroup2") or len(fields) < 6 or len(tail) < 3:
            continue
        version = 2 if tail[0] == "cgroup2" else 1
        options = frozenset(tail[2].split(",")) if version == 1 else frozenset[str]()
        mounts.append(
            Mount(int(fields[0]), _unescape(fields[3]), _unescape(fields[4]), version, options)
        )
    return mounts


def places(lines: Sequence[str], mounts: Sequence[Mount], controller: str) -> Iterator[Place]:
    """Where the process's cgroup of a controller may be read, best first.

    With both versions, v1 has the controller if its hierarchy is listed.
    """
    for line in sorted(lines, reverse=True):
        _, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        version = 1 if controllers else 2
        if version == 1 and controller not in controllers.split(","):
            continue
        # The last mount on a point hides the others.
        for mount in reversed(mounts):
            below = _below(path, mount.root)
            fits = version == 2 or controller in mount.controllers
            if mount.version == version and fits and below is not None:
                yield Place(mount, below)


def parse(version: int, controller: str, files: Mapping[str, str]) -> Memory | Cpu | Pids | None:
    """What those of `FILES` that are there say of one controller.

    None when it is not enabled; raises `ValueError` where they are not the kernel's.
    """
    match controller:
        case "memory":
            return _memory_v2(files) if version == 2 else _memory_v1(files)
        case "cpu":
            return _cpu_v2(files) if version == 2 else _cpu_v1(files)
        case _:
            return _pids(files)


def _memory_v2(files: Mapping[str, str]) -> Memory | None:
    if "memory.current" not in files:
        return None
    return Memory(
        current=int(files["memory.current"]),
        limit=_max(files.get("memory.max", "max")),
        peak=_optional(files, "memory.peak"),
        swap=_optional(files, "memory.swap.current"),
        events=_flat(files.get("memory.events", "")),
        pressure=_pressure(files.get("memory.pressure", "")),
    )


def _memory_v1(files: Mapping[str, str]) -> Memory | None:
    if "memory.usage_in_bytes" not in files:
        return None
    limit = _optional(files, "memory.limit_in_bytes")
    control = _flat(files.get("memory.oom_control", ""))
    counted = {"failcnt": _optional(files, "memory.failcnt"), "oom_kill": control.get("oom_kill")}
    return Memory(
        current=int(files["memory.usage_in_bytes"]),
        limit=None if limit is None or limit >= _V1_UNLIMITED else limit,
        peak=_optional(files, "memory.max_usage_in_bytes"),
        events={name: count for name, count in counted.items() if count is not None},
    )


def _cpu_v2(files: Mapping[str, str]) -> Cpu | None:
    stat = _flat(files.get("cpu.stat", ""))
    if "nr_periods" not in stat:
        return None
    quota, _, period = files.get("cpu.max", "max").strip().partition(" ")
    return Cpu(
        limit=None if quota == "max" else _ratio(int(quota), int(period)),
        periods=stat["nr_periods"],
        throttled_periods=stat.get("nr_throttled", 0),
        throttled_seconds=stat.get("throttled_usec", 0) / 1e6,
    )


def _cpu_v1(files: Mapping[str, str]) -> Cpu | None:
    stat = _flat(files.get("cpu.stat", ""))
    if "nr_periods" not in stat:
        return None
    quota, period = _optional(files, "cpu.cfs_quota_us"), _optional(files, "cpu.cfs_period_us")
    return Cpu(
        limit=None if quota is None or quota < 0 else _ratio(quota, period),
        periods=stat["nr_periods"],
        throttled_periods=stat.get("nr_throttled", 0),
        throttled_seconds=stat.get("throttled_time", 0) / 1e9,
    )


def _pids(files: Mapping[str, str]) -> Pids | None:
    if "pids.current" not in files:
        return None
    return Pids(current=int(files["pids.current"]), limit=_max(files.get("pids.max", "max")))


def _pressure(text: str) -> Pressure | None:
    r"""The averages in a pressure file; None when it is empty.

    >>> _pressure("some avg10=1.50 avg60=0.25 avg300=0.00 total=9\n").some_avg10
    1.5
    """
    found = {}
    for line in text.split("\n"):
        kind, _, rest = line.partition(" ")
        averages = dict(word.split("=", 1) for word in rest.split(" ") if "=" in word)
        found.update(
            {f"{kind}_{name}": float(averages[name]) for name in averages if name != "total"}
        )
    if "some_avg10" not in found:
        return None
    return Pressure(
        some_avg10=found["some_avg10"],
        some_avg60=found.get("some_avg60", 0.0),
        full_avg10=found.get("full_avg10", 0.0),
        full_avg60=found.get("full_avg60", 0.0),
    )


def _flat(text: str) -> dict[str, int]:
    r"""A flat-keyed file: ``key value`` per line; keys that are not the kernel's are left out.

    >>> _flat("oom 0\noom_kill 1\nno\x7fkey 2\n")
    {'oom': 0, 'oom_kill': 1}
    """
    pairs = (line.split(" ") for line in text.split("\n"))
    return {pair[0]: int(pair[1]) for pair in pairs if len(pair) == 2 and _KEY.fullmatch(pair[0])}


def _max(text: str) -> int | None:
    return None if text.strip() == "max" else int(text)


def _optional(files: Mapping[str, str], name: str) -> int | None:
    return int(files[name]) if name in files else None


def _ratio(quota: int, period: int | None) -> float | None:
    return round(quota / period, 3) if period else None


def _below(path: str, root: str) -> str | None:
    """``path`` relative to ``root``; None when it is not below it."""
    if path == root:
        return "."
    prefix = root.rstrip("/") + "/"
    below = path.removeprefix(prefix)
    if not path.startswith(prefix) or ".." in below.split("/"):
        return None
    return below or "."


def _unescape(path: str) -> str:
    r"""A path as ``mountinfo`` escapes it.

    >>> _unescape("/a\\040b")
    '/a b'
    """
    return _OCTAL.sub(lambda match: chr(int(match[1], 8)), path)
