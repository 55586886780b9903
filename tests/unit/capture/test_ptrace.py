"""Stopping every thread, by a kernel that misbehaves in every way it can."""

import signal
from collections.abc import Callable

import pytest

from stillframe.capture.ptrace import Threads, detach_all, stop_all
from tests.support.ptrace import FakePtrace, FakeThread


class Clock:
    """Time passes in pauses only."""

    now = 0.0

    def __call__(self) -> float:
        return self.now

    def pause(self, seconds: float) -> None:
        self.now += seconds


def stop(
    kernel: FakePtrace, clock: Clock | None = None, tids: Callable[[], list[int]] | None = None
) -> Threads:
    clock = clock or Clock()
    return stop_all(kernel, tids or kernel.tids, 0.25, clock=clock, pause=clock.pause)


def test_all_threads_stop_and_go_on() -> None:
    kernel = FakePtrace({1: FakeThread(), 2: FakeThread(looks=3)})
    threads = stop(kernel)
    assert threads.stopped == {1: 0, 2: 0}
    assert threads.missed == set()
    detach_all(kernel, threads)
    assert kernel.detached == {1: 0, 2: 0}


def test_a_signal_that_came_in_between_is_not_lost() -> None:
    kernel = FakePtrace({1: FakeThread(due=signal.SIGTERM)})
    detach_all(kernel, stop(kernel))
    assert kernel.detached == {1: signal.SIGTERM}


def test_a_thread_that_never_stops_is_missed_in_time() -> None:
    clock = Clock()
    threads = stop(FakePtrace({1: FakeThread(), 2: FakeThread(looks=-1)}), clock)
    assert threads.stopped == {1: 0}
    assert threads.missed == {2}
    assert 0.25 <= clock.now < 0.26


def test_a_thread_started_meanwhile_is_stopped_too() -> None:
    assert stop(FakePtrace({1: FakeThread(starts=2, looks=2)})).stopped == {1: 0, 2: 0}


def test_threads_that_end_are_nobody() -> None:
    kernel = FakePtrace({1: FakeThread(), 2: FakeThread(dead=True), 3: FakeThread(dies=True)})
    threads = stop(kernel, tids=lambda: [1, 2, 3])  # zombies stay in the list
    assert threads.stopped == {1: 0}
    assert threads.missed == set()


def test_one_that_dies_while_stopped_does_not_keep_the_others() -> None:
    kernel = FakePtrace({1: FakeThread(), 2: FakeThread()})
    threads = stop(kernel)
    kernel.threads[1].dead = True
    detach_all(kernel, threads)
    assert kernel.detached == {2: 0}


def test_a_second_tracer_lets_go_of_all() -> None:
    kernel = FakePtrace({1: FakeThread(), 2: FakeThread(traced=True)})
    with pytest.raises(PermissionError):
        stop(kernel)
    assert kernel.seized == [1]
