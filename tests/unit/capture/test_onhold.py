"""Which sockets of a held process are shut down, how that is told, and for how long is looked."""

import os

import pytest

from stillframe.capture.onhold import Choice, Seen, Shut, _links, _UnsureError, choose, told

INIT = (4711, 1)
OWN = {"socket:[7]": 3, "socket:[8]": 4}


def seen(
    pids: tuple[int, ...] = INIT,
    own: dict[str, int] = OWN,
    shared: dict[str, int] | None = None,
    *,
    held: bool = True,
) -> Seen:
    return Seen(pids, own, shared or {}, held)


def test_all_of_a_held_pid_1_that_nobody_else_has() -> None:
    assert choose(seen()) == Choice(OWN)


def test_one_that_another_process_has_is_left_alone() -> None:
    choice = choose(seen(shared={"socket:[7]": 99}))
    assert choice.sockets == {"socket:[8]": 4}
    assert choice.why_not == "1 left alone: other processes have them as well, such as 99"


@pytest.mark.parametrize(
    ("case", "why_not"),
    [
        (seen(pids=(4711,)), "it is not PID 1 of a container"),
        (seen(pids=(1,)), "it is not PID 1 of a container"),
        (seen(pids=(4711, 1, 7)), "it is not PID 1 of a container"),
        (seen(own={}), "none of its sockets listens or is connected"),
        (seen(held=False), "it is not held any more"),
    ],
    ids=["the node's", "the node's init", "a nested child", "no sockets", "not held"],
)
def test_otherwise_none(case: Seen, why_not: str) -> None:
    assert choose(case) == Choice({}, why_not)


def test_what_was_done_is_told_with_what_was_not() -> None:
    done = "sockets shut down while the process was held: "
    none = "no socket was shut down while the process was held: "
    assert told(Choice(OWN), Shut(2)) == f"{done}2"
    assert told(Choice(OWN), Shut(1, late=1)) == f"{done}1 (no time for 1 others)"
    assert told(Choice(OWN, "x"), Shut(1)) == f"{done}1 (x)"
    assert told(Choice({}, "x"), Shut()) == f"{none}x"
    assert told(Choice(OWN), Shut()) == f"{none}none of its sockets listens or is connected"


def test_even_one_large_table_is_not_read_past_the_deadline() -> None:
    directory_fd = os.open("/proc/self", os.O_RDONLY | os.O_DIRECTORY)
    try:
        with pytest.raises(_UnsureError, match="took too long"):
            next(_links(directory_fd, "fd", deadline=0))
    finally:
        os.close(directory_fd)
