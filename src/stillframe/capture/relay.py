"""A relay: processes that make the parts of a file at the same time, and append them in order.

Each makes every n-th part; whose part is next holds the baton.  Processes and
not threads: a thread that is put aside while it has the interpreter's lock
stops all others.
"""

import os
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from functools import partial
from typing import Final

import msgspec

from stillframe.capture.forked import forked
from stillframe.errors import one_line

_MOST: Final = 4096
"""Bytes of a baton: a packet of a pipe (``O_DIRECT`` in pipe(2))."""


class Baton(msgspec.Struct, frozen=True, kw_only=True):
    """How far the file is."""

    file_bytes: int
    written: int = 0
    """Bytes of memory, uncompressed."""
    unreadable: int = 0
    """Pages that the kernel did not give us."""
    over: str = ""
    """Why nothing more is appended; empty until then."""
    failed: str = ""
    """What went wrong in one of the processes; then it is over, too."""


Turn = Callable[[Baton], Baton]
"""Appends a part that was made before."""
Pipe = tuple[int, int]


def relay(baton: Baton, runners: int, share: Callable[[int], Iterable[Turn]]) -> Baton:
    """Have ``share(0)`` to ``share(runners - 1)`` done, the first by us; the last baton.

    All shares have as many turns.  No process of ours is left when it returns.
    Raises what the first share raises, and `OSError` for what another raises or
    when it was killed.
    """
    pipes = [os.pipe2(os.O_DIRECT | os.O_CLOEXEC) for _ in range(runners)]
    _send(pipes[0][1], baton)
    others = [forked(partial(_run, pipes, rank, share)) for rank in range(1, runners)]
    receive_fd, send_fd = _own(pipes, 0)
    try:
        last = _turns(receive_fd, send_fd, share(0))
        last = last if last.over else _receive(receive_fd)
    finally:
        os.close(receive_fd)
        os.close(send_fd)
        for pid in others:
            os.waitpid(pid, 0)
    if last.failed:
        raise OSError(last.failed)
    return last


def _run(pipes: Sequence[Pipe], rank: int, share: Callable[[int], Iterable[Turn]]) -> None:
    """What the other processes do."""
    receive_fd, send_fd = _own(pipes, rank)
    try:
        _turns(receive_fd, send_fd, share(rank))
    except Exception as error:  # the last words of this process
        _send(send_fd, Baton(file_bytes=0, over="failed", failed=one_line(error)[:1000]))


def _own(pipes: Sequence[Pipe], rank: int) -> Pipe:
    """The end to receive from and the end to send to; closes the others.

    So whoever waits for a process that was killed sees the end of its pipe.
    """
    own = pipes[rank][0], pipes[(rank + 1) % len(pipes)][1]
    for fd in {fd for pipe in pipes for fd in pipe}.difference(own):
        os.close(fd)
    return own


def _turns(receive_fd: int, send_fd: int, turns: Iterable[Turn]) -> Baton:
    """Take all turns, until it is over; the last baton that was passed on."""
    baton = Baton(file_bytes=0)
    for turn in turns:
        baton = _receive(receive_fd)
        if not baton.over:
            baton = turn(baton)
        _send(send_fd, baton)
        if baton.over:
            break
    return baton


def _receive(fd: int) -> Baton:
    packet = os.read(fd, _MOST)
    if not packet:
        raise OSError("a process that helped to read the memory was killed")
    return msgspec.json.decode(packet, type=Baton)


def _send(fd: int, baton: Baton) -> None:
    with suppress(BrokenPipeError):  # the next one has heard that it is over
        os.write(fd, msgspec.json.encode(baton))
