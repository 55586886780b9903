"""Decide: what to do about a snapshot that was seen, and how much of its process to take.

Flows in: what is running, what the pod did lately, the limits, now; what the
pod wants, and the room on our disk.  Flows out: a `Decision`, and a
`CoreDecision`.  Computes only, no I/O.

Nothing of the node is shared without a share: a pod gets a quarter of the
captures at once, a bounded queue, and a budget of crashes that refills slowly.
"""

from dataclasses import dataclass
from enum import Enum, StrEnum
from typing import Final

from stillframe.capture.corejob import Compression
from stillframe.capture.fullcore import CoreRequest
from stillframe_agent.pods import Wish

MIN_CORE_BYTES: Final = 16 << 20
"""Less room than that is none; arbitrary."""
SOCKETS_FORBIDDEN: Final = "no socket was shut down: this node's agent is not allowed to"


class Plan(Enum):
    """What to do."""

    CAPTURE = "capture"
    WAIT = "wait"
    """Look again when a capture has ended."""
    REFUSE = "refuse"
    """Delete the snapshot and count it; its process goes on by itself."""


class Overload(StrEnum):
    """Why a crash is refused although nothing is wrong with its snapshot."""

    POD_RATE = "PodRateLimited"
    POD_QUEUE = "PodQueueFull"


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Bounds of one node; the numbers are judgement, not measurement."""

    captures: int
    """At once on the node."""
    captures_of_pod: int
    """At once of one pod: a pod that never completes its snapshots cannot take them all."""
    fresh: int = 3
    """Of all, those that have only begun.  They do not wait for anything but the one interpreter,
    and so does whoever has to claim the next crash: with 16 at once, up to 60 of a hundred
    crashes were not claimed in time (bench/storm)."""
    fresh_of_pod: int = 1
    waiting_of_pod: int = 64
    burst: float = 60.0
    """Crashes of one pod that are captured without a pause."""
    per_second: float = 0.5
    """Refill of the burst, crashes per second."""


@dataclass(frozen=True, slots=True)
class Budget:
    """What one pod may still spend: a token bucket."""

    tokens: float
    """As of ``updated``."""
    updated: float
    """Seconds on the monotonic clock."""

    def at(self, now: float, limits: Limits) -> "Budget":
        """Refilled until ``now``."""
        tokens = self.tokens + max(0.0, now - self.updated) * limits.per_second
        return Budget(min(limits.burst, tokens), now)


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """What is going on."""

    captures: int
    captures_of_pod: int
    fresh: int
    """Of the captures, those that have only begun."""
    fresh_of_pod: int
    waiting_of_pod: int
    """Without the snapshot in question."""


@dataclass(frozen=True, slots=True)
class Decision:
    """What to do, and what is left of the pod's budget then."""

    plan: Plan
    budget: Budget
    reason: Overload | None = None
    """With `Plan.REFUSE`."""


def decide(load: Load, budget: Budget, limits: Limits, now: float) -> Decision:
    """What to do about one snapshot of a pod; ``now`` in seconds, monotonic."""
    budget = budget.at(now, limits)
    if load.waiting_of_pod >= limits.waiting_of_pod:
        return Decision(Plan.REFUSE, budget, Overload.POD_QUEUE)
    if budget.tokens < 1:
        return Decision(Plan.REFUSE, budget, Overload.POD_RATE)
    full = load.captures >= limits.captures or load.captures_of_pod >= limits.captures_of_pod
    if full or load.fresh >= limits.fresh or load.fresh_of_pod >= limits.fresh_of_pod:
        return Decision(Plan.WAIT, budget)
    return Decision(Plan.CAPTURE, Budget(budget.tokens - 1, now))


@dataclass(frozen=True, slots=True, kw_only=True)
class CoreLimits:
    """Bounds of full cores on one node."""

    max_bytes: int
    """Of one core's file."""
    max_hold_seconds: float
    """However long the pod would wait."""
    at_once: int
    """Each takes the processors and a disk for seconds."""
    compression: Compression = Compression.ZSTD
    shutdown_sockets: bool = False
    """Whether sockets may be shut down on this node at all."""


@dataclass(frozen=True, slots=True)
class CoreDecision:
    """Whether a full core is taken."""

    request: CoreRequest | None = None
    refused: str = ""
    """Why one that was asked for is not taken."""


def decide_core(
    wish: Wish | None, limits: CoreLimits, *, running: int, room_bytes: int
) -> CoreDecision:
    """What to take beside the snapshot of a process that is held.

    ``running`` counts the cores that are being taken, ``room_bytes`` is what
    our disk can give to this one.
    """
    if wish is None or not wish.core:
        return CoreDecision()
    if wish.hold_seconds <= 0:
        return CoreDecision(refused="its pod does not let it wait")
    if running >= limits.at_once:
        return CoreDecision(refused=f"{running} others are being taken on this node")
    if room_bytes < MIN_CORE_BYTES:
        return CoreDecision(refused="the node's disk has no room for it")
    return CoreDecision(
        CoreRequest(
            hold_seconds=min(wish.hold_seconds, limits.max_hold_seconds),
            max_bytes=min(limits.max_bytes, room_bytes),
            compression=limits.compression,
            shut_sockets=wish.shut_sockets and limits.shutdown_sockets,
            remark=SOCKETS_FORBIDDEN if wish.shut_sockets and not limits.shutdown_sockets else "",
        )
    )
