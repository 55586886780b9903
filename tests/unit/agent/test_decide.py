"""What to do about a snapshot: share, queue, budget; and when a full core is taken."""

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st
from stillframe_agent.decide import (
    MIN_CORE_BYTES,
    SOCKETS_FORBIDDEN,
    Budget,
    CoreDecision,
    CoreLimits,
    Limits,
    Load,
    Overload,
    Plan,
    decide,
    decide_core,
)
from stillframe_agent.pods import Wish

from stillframe.capture.fullcore import CoreRequest

LIMITS = Limits(captures=8, captures_of_pod=2, waiting_of_pod=4, burst=3, per_second=0.5)
FULL = Budget(3, 0)


def load(
    captures: int = 0, of_pod: int = 0, waiting: int = 0, fresh: int = 0, fresh_of_pod: int = 0
) -> Load:
    return Load(
        captures=captures,
        captures_of_pod=of_pod,
        waiting_of_pod=waiting,
        fresh=fresh,
        fresh_of_pod=fresh_of_pod,
    )


def test_a_crash_on_a_quiet_node_is_captured() -> None:
    decision = decide(load(), FULL, LIMITS, now=0)
    assert (decision.plan, decision.budget) == (Plan.CAPTURE, Budget(2, 0))


def test_a_full_node_and_a_busy_pod_wait_and_pay_nothing() -> None:
    for busy in (
        load(captures=8),
        load(captures=2, of_pod=2),
        load(captures=3, fresh=3),
        load(captures=1, of_pod=1, fresh=1, fresh_of_pod=1),
    ):
        decision = decide(busy, FULL, LIMITS, now=0)
        assert (decision.plan, decision.budget) == (Plan.WAIT, FULL)


def test_a_pods_queue_ends() -> None:
    assert decide(load(waiting=3), FULL, LIMITS, now=0).plan is Plan.CAPTURE
    decision = decide(load(waiting=4), FULL, LIMITS, now=0)
    assert (decision.plan, decision.reason) == (Plan.REFUSE, Overload.POD_QUEUE)


def test_a_spent_budget_refuses_until_it_is_refilled() -> None:
    spent = Budget(0.5, updated=10)
    decision = decide(load(), spent, LIMITS, now=10.5)
    assert (decision.plan, decision.reason) == (Plan.REFUSE, Overload.POD_RATE)
    assert decide(load(), spent, LIMITS, now=11).plan is Plan.CAPTURE


@given(st.lists(st.floats(0, 30), max_size=60))
def test_a_pod_never_gets_more_than_burst_and_refill(gaps: list[float]) -> None:
    budget, now, captured = FULL, 0.0, 0
    for gap in gaps:
        now += gap
        decision = decide(load(), budget, LIMITS, now)
        budget = decision.budget
        captured += decision.plan is Plan.CAPTURE
        assert 0 <= budget.tokens <= LIMITS.burst
    assert captured <= LIMITS.burst + now * LIMITS.per_second + 1e-6


CORES = CoreLimits(max_bytes=1 << 30, max_hold_seconds=10, at_once=2)
WANTED = Wish(core=True, hold_seconds=4)


def core(wish: Wish | None, running: int = 0, room: int = 1 << 40) -> CoreDecision:
    return decide_core(wish, CORES, running=running, room_bytes=room)


def test_a_core_is_taken_where_it_is_wanted() -> None:
    assert core(WANTED).request == CoreRequest(hold_seconds=4, max_bytes=1 << 30)


def test_nothing_is_said_where_none_is_wanted() -> None:
    assert core(None) == core(Wish(hold_seconds=4)) == CoreDecision()


def test_node_and_disk_bound_a_core() -> None:
    assert core(Wish(True, 60)).request == CoreRequest(hold_seconds=10, max_bytes=1 << 30)
    assert core(WANTED, room=1 << 25).request == CoreRequest(hold_seconds=4, max_bytes=1 << 25)


def test_sockets_are_shut_where_pod_and_node_want_it() -> None:
    asked = Wish(core=True, hold_seconds=4, shut_sockets=True)
    allowed = replace(CORES, shutdown_sockets=True)
    both = decide_core(asked, allowed, running=0, room_bytes=1 << 40).request
    assert both == CoreRequest(hold_seconds=4, max_bytes=1 << 30, shut_sockets=True)
    unasked = decide_core(WANTED, allowed, running=0, room_bytes=1 << 40).request
    assert unasked == CoreRequest(hold_seconds=4, max_bytes=1 << 30)
    forbidden = core(asked).request
    assert forbidden is not None
    assert (forbidden.shut_sockets, forbidden.remark) == (False, SOCKETS_FORBIDDEN)


def test_a_core_that_cannot_be_had_has_its_reason() -> None:
    assert "does not let it wait" in core(Wish(core=True)).refused
    assert "2 others" in core(WANTED, running=2).refused
    assert "no room" in core(WANTED, room=MIN_CORE_BYTES - 1).refused
    assert core(WANTED, room=MIN_CORE_BYTES).request is not None
