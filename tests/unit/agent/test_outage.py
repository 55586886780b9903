"""An operator that is away for hours: asked seldom, by each node at other times."""

import asyncio
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st
from stillframe_agent.submit import _BACKOFF_FIRST, _BACKOFF_MOST, Backoff

HOURS = 8


async def attempts(seconds: float, at_least: list[float]) -> list[float]:
    """When an operator that never answers is asked, by a clock that we turn."""
    backoff = Backoff(first=_BACKOFF_FIRST, most=_BACKOFF_MOST)
    now, asked = 1000.0, []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(asyncio.get_running_loop(), "time", lambda: now)
        while now < 1000.0 + seconds:
            asked.append(now)
            assert backoff.failed(at_least[len(asked) % len(at_least)])
            now = backoff._until
    return asked


def test_in_hours_it_is_asked_a_few_times_a_minute() -> None:
    asked = asyncio.run(attempts(HOURS * 3600, [_BACKOFF_FIRST]))
    assert HOURS * 3600 / _BACKOFF_MOST <= len(asked) < HOURS * 3600 / _BACKOFF_MOST * 2.5


def test_two_nodes_do_not_ask_at_the_same_times() -> None:
    one, other = (asyncio.run(attempts(3600, [_BACKOFF_FIRST])) for _ in range(2))
    assert len(set(one) & set(other)) == 1, "only the first"


@given(st.lists(st.floats(0, 120), min_size=1, max_size=8))
def test_no_pause_is_shorter_than_asked_for_or_longer_than_it_must(at_least: list[float]) -> None:
    asked = asyncio.run(attempts(600, at_least))
    for number, (before, after) in enumerate(pairwise(asked), start=1):
        wanted = at_least[number % len(at_least)]
        assert max(_BACKOFF_FIRST, wanted) - 1e-6 <= after - before
        assert after - before <= max(_BACKOFF_MOST, wanted) + 1e-6
