"""A stand-in for the agent: takes the real locks, and nothing else.

``python stand_in.py DIRECTORY WHAT`` runs it as a process of its own, which a
test can kill; it prints each step and then waits for its death.
"""

import fcntl
import os
import struct
import sys
import time
from pathlib import Path
from typing import Self

FLOCK = struct.Struct("hhqqi4x")
CLAIM, DONE = 1, 2


class StandIn:
    """Holds a directory, as an agent on this node does."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._beacon = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        self._files: list[int] = []
        read_lock(self._beacon, 0, 0)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for fd in [self._beacon, *self._files]:
            os.close(fd)

    def wait_for(self, suffix: str, seconds: float = 10) -> Path:
        """The first file whose name ends so."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            for path in self._directory.iterdir():
                if path.name.endswith(suffix):
                    return path
            time.sleep(0.0005)
        raise TimeoutError(f"no *{suffix} in {self._directory} after {seconds} s")

    def claim(self, path: Path) -> int:
        """Locks byte 1; returns the descriptor that holds it."""
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
        self._files.append(fd)
        read_lock(fd, CLAIM, 1)
        return fd

    def finish(self, fd: int) -> None:
        """Locks byte 2: the process may go."""
        read_lock(fd, DONE, 1)


def read_lock(fd: int, start: int, length: int) -> None:
    fcntl.fcntl(fd, fcntl.F_OFD_SETLK, FLOCK.pack(fcntl.F_RDLCK, os.SEEK_SET, start, length, 0))


def lock_holder(path: Path) -> int:
    """Pid of the process that write-locks byte 0, 0 if there is none."""
    fd = os.open(path, os.O_RDONLY)
    try:
        query = FLOCK.pack(fcntl.F_RDLCK, os.SEEK_SET, 0, 1, 0)
        kind, _, _, _, pid = FLOCK.unpack(fcntl.fcntl(fd, fcntl.F_GETLK, query))
        return 0 if kind == fcntl.F_UNLCK else int(pid)
    finally:
        os.close(fd)


def main(directory: str, what: str) -> None:
    with StandIn(Path(directory)) as agent:
        print("here", flush=True)
        if what == "claim":
            agent.claim(agent.wait_for(".core"))
            print("claimed", flush=True)
        sys.stdin.read()


if __name__ == "__main__":
    main(*sys.argv[1:])
