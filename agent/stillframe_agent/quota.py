"""Quota: which samples have to go, and how much room is left for one more.

Flows in: what is kept, the limits, the disk's free space, now.  Flows out:
names to delete, or a number of bytes.  Computes only, no I/O.

Evidence that exists nowhere else goes last.  Beyond that, no tenant pays for
another's crashes: a namespace that has no more than its share of the bytes
loses nothing while one that has more can lose something.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Quota:
    """What may be kept."""

    max_bytes: int
    max_age: float
    """Seconds."""
    free_bytes: int
    """Free space of the disk that we leave to others."""
    per_group: int
    """Samples of one crash group on this node: the first, and the newest ones."""


@dataclass(frozen=True, slots=True)
class Sample:
    """What quotas look at."""

    report_id: str
    created: float
    bytes: int
    deletable: bool
    """False while the sample is captured and analysed."""
    namespace: str = ""
    """Of its pod; empty where it is not known."""
    group: str = ""
    """The CrashReport that counted it; empty until it is acknowledged."""
    pending: bool = False
    """Whether it waits for its upload: kept past its age and its group's limit, and the last
    to go when there is no other room."""


def surplus(
    samples: Iterable[Sample],
    quota: Quota,
    now: float,
    free: int,
    *,
    incoming: int = 0,
    namespace: str = "",
) -> list[tuple[str, str]]:
    """The samples that must go: ``(report id, why)``.

    ``free`` is the disk's free space now, ``incoming`` what is about to be
    written for ``namespace``, in bytes.  ``why`` is ``age``, ``surplus`` (of
    its group), ``quota`` or ``free-space``.
    """
    kept = {
        sample.report_id: sample
        for sample in sorted(samples, key=lambda sample: (sample.created, sample.report_id))
    }
    gone = []
    for choose in (_aged, _beyond_group):
        for report_id, why in choose(list(kept.values()), quota, now):
            free += kept.pop(report_id).bytes
            gone.append((report_id, why))
    return gone + _pressed(list(kept.values()), quota, free, incoming, namespace)


def room(samples: Iterable[Sample], quota: Quota, free: int, namespace: str) -> int:
    """Bytes that one more file of ``namespace`` may have.

    What may not be deleted, and the shares of other namespaces, stay.
    """
    used: Counter[str] = Counter({namespace: 0})
    fixed: Counter[str] = Counter()
    for sample in samples:
        used[sample.namespace] += sample.bytes
        if not sample.deletable:
            fixed[sample.namespace] += sample.bytes
    share = quota.max_bytes // len(used)
    kept = sum(
        fixed[name] if name == namespace else max(fixed[name], min(bytes_, share))
        for name, bytes_ in used.items()
    )
    return max(0, min(quota.max_bytes - kept, free - quota.free_bytes))


def _aged(oldest_first: Sequence[Sample], quota: Quota, now: float) -> list[tuple[str, str]]:
    return [
        (sample.report_id, "age")
        for sample in oldest_first
        if sample.deletable and not sample.pending and now - sample.created > quota.max_age
    ]


def _beyond_group(
    oldest_first: Sequence[Sample], quota: Quota, _now: float
) -> list[tuple[str, str]]:
    """What the CrashReport does not list any more: all but the first and the newest."""
    groups = defaultdict(list)
    for sample in oldest_first:
        if sample.group:
            groups[sample.group].append(sample)
    return [
        (sample.report_id, "surplus")
        for group in groups.values()
        for sample in group[1 : max(1, len(group) - quota.per_group + 1)]
        if sample.deletable and not sample.pending
    ]


def _pressed(
    oldest_first: Sequence[Sample], quota: Quota, free: int, incoming: int, namespace: str
) -> list[tuple[str, str]]:
    """What goes for want of room: what is kept elsewhere first, then by share, then by age."""
    used: Counter[str] = Counter({namespace: incoming} if incoming else {})
    for sample in oldest_first:
        used[sample.namespace] += sample.bytes
    total = used.total()
    free -= incoming
    share = min(quota.max_bytes, total - max(0, quota.free_bytes - free)) / max(1, len(used))
    gone: dict[str, str] = {}
    for pending in (False, True):
        for only_over_share in (True, False):
            for sample in oldest_first:
                if total <= quota.max_bytes and free >= quota.free_bytes:
                    return list(gone.items())
                if (
                    sample.report_id in gone
                    or not sample.deletable
                    or sample.pending is not pending
                    or (only_over_share and used[sample.namespace] <= share)
                ):
                    continue
                gone[sample.report_id] = "quota" if total > quota.max_bytes else "free-space"
                total -= sample.bytes
                used[sample.namespace] -= sample.bytes
                free += sample.bytes
    return list(gone.items())
