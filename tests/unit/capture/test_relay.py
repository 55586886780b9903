"""A relay of processes: order, ends and errors."""

import errno
import os
import signal
from collections.abc import Iterator
from functools import partial

import pytest
from msgspec.structs import replace

from stillframe.capture.relay import Baton, Turn, relay

START = Baton(file_bytes=0)


def append(fd: int, number: int, baton: Baton) -> Baton:
    os.pwrite(fd, bytes([number]), baton.file_bytes)
    return replace(baton, file_bytes=baton.file_bytes + 1)


@pytest.fixture
def fd() -> Iterator[int]:
    fd = os.memfd_create("file")
    yield fd
    os.close(fd)


def content(fd: int) -> list[int]:
    return [*os.pread(fd, 1000, 0)]


def no_child_is_left() -> bool:
    try:
        os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError as error:
        return error.errno == errno.ECHILD
    return False


@pytest.mark.parametrize("runners", [1, 2, 4])
@pytest.mark.parametrize("rounds", [0, 1, 9])
def test_parts_are_appended_in_order(fd: int, runners: int, rounds: int) -> None:
    def share(rank: int) -> Iterator[Turn]:
        for round_ in range(rounds):
            yield partial(append, fd, round_ * runners + rank)

    end = relay(START, runners, share)
    assert content(fd) == list(range(rounds * runners))
    assert end.file_bytes == rounds * runners
    assert no_child_is_left()


@pytest.mark.parametrize("rank", [0, 1, 2])
def test_after_who_says_that_it_is_over_nobody_appends(fd: int, rank: int) -> None:
    def share(own: int) -> Iterator[Turn]:
        for round_ in range(5):
            if (own, round_) == (rank, 2):
                yield partial(replace, over="enough")
            yield partial(append, fd, round_ * 3 + own)

    assert relay(START, 3, share).over == "enough"
    assert content(fd) == list(range(6 + rank))
    assert no_child_is_left()


@pytest.mark.parametrize("rank", [0, 2])
def test_what_goes_wrong_in_one_is_raised(fd: int, rank: int) -> None:
    def share(own: int) -> Iterator[Turn]:
        yield partial(append, fd, own)
        if own == rank:
            raise OSError(errno.ENOSPC, "No space\nleft")
        yield partial(append, fd, own)

    with pytest.raises(OSError, match="No space"):
        relay(START, 3, share)
    assert content(fd) == [0, 1, 2, *range(rank)]
    assert no_child_is_left()


def test_one_that_is_killed_is_missed(fd: int) -> None:
    def share(own: int) -> Iterator[Turn]:
        yield partial(append, fd, own)
        if own == 1:
            os.kill(os.getpid(), signal.SIGKILL)
        yield partial(append, fd, own)

    with pytest.raises(OSError, match="was killed"):
        relay(START, 3, share)
    assert no_child_is_left()
