"""The gate between us and a server that does not answer."""

import asyncio

import pytest
from stillframe_agent.backoff import Backoff


async def closed_for(backoff: Backoff) -> float:
    """Seconds until the gate opens, by the loop's clock."""
    loop = asyncio.get_running_loop()
    started = loop.time()
    await backoff.wait()
    return loop.time() - started


async def test_an_open_gate_lets_pass_at_once() -> None:
    assert await closed_for(Backoff(60, 600)) < 0.05


async def test_failures_close_it_for_longer_and_longer_up_to_a_limit() -> None:
    backoff = Backoff(first=0.001, most=0.02)
    for _ in range(40):
        backoff.failed(at_least=0)
        assert await closed_for(backoff) < 0.1


async def test_it_stays_closed_as_long_as_the_operator_asks() -> None:
    backoff = Backoff(first=0.001, most=0.002)
    backoff.failed(at_least=0.1)
    assert await closed_for(backoff) >= 0.095


async def test_a_success_opens_it() -> None:
    backoff = Backoff(first=60, most=600)
    backoff.failed(at_least=0)
    backoff.succeeded()
    assert await closed_for(backoff) < 0.05


@pytest.mark.parametrize("simultaneous", [1, 32])
async def test_failures_in_flight_are_one_failure(simultaneous: int) -> None:
    backoff = Backoff(first=60, most=600)
    news = [backoff.failed(at_least=0) for _ in range(simultaneous)]
    assert news == [True] + [False] * (simultaneous - 1)
