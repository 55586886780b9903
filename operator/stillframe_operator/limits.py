"""Token buckets: how often something may happen, by key.  Pure: time is an argument."""

from collections import OrderedDict
from dataclasses import dataclass
from typing import Final

_MAX_KEYS: Final = 10_000
"""Keys come from the cluster (namespaces, nodes); the least recently used go first."""


@dataclass
class Bucket:
    """Holds up to ``burst`` tokens and gains ``rate`` per second."""

    rate: float
    burst: float
    tokens: float
    updated: float

    def wait(self, now: float) -> float:
        """Return the seconds until a token is there; 0: one is there now."""
        self.tokens = min(self.burst, self.tokens + (now - self.updated) * self.rate)
        self.updated = now
        return max(0.0, (1 - self.tokens) / self.rate)


class Limiter:
    """A bucket per key."""

    def __init__(self, rate: float, burst: float) -> None:
        self._rate, self._burst = rate, burst
        self._buckets: OrderedDict[str, Bucket] = OrderedDict()

    def wait(self, key: str, now: float) -> float:
        """Return the seconds until ``key`` may go on (``now``: monotonic seconds)."""
        bucket = self._buckets.get(key)
        if bucket is None:
            bucket = self._buckets[key] = Bucket(self._rate, self._burst, self._burst, now)
            if len(self._buckets) > _MAX_KEYS:
                self._buckets.popitem(last=False)
        self._buckets.move_to_end(key)
        return bucket.wait(now)

    def take(self, key: str) -> None:
        """Use one token of ``key``; only after ``wait`` returned 0."""
        self._buckets[key].tokens -= 1
