"""Everything a pod may do in its snapshot directory, one mode each.

``adversary.py MODE DIRECTORY [CONTENT]``: does it, prints ``ready``, and stays
until its standard input ends.  CONTENT is a file to use as the snapshot.
"""

import ctypes
import fcntl
import os
import signal
import struct
import sys
from collections.abc import Callable
from pathlib import Path

ID = "5eed" * 8
CLONE_FILES = 0x400
SYS_CLONE3 = 435
PR_SET_PDEATHSIG = 1
MOST = 3 << 19
"""Bytes that a growing file may have before it is cut."""


def lock(fd: int, byte: int, command: int = fcntl.F_SETLK) -> None:
    fcntl.fcntl(fd, command, struct.pack("hhqqi4x", fcntl.F_WRLCK, os.SEEK_SET, byte, 1, 0))


def clone(flags: int, pid: int = 0) -> int:
    """As fork(2), with clone flags and maybe the child's pid (``struct clone_args``)."""
    number = ctypes.c_int(pid)
    with_pid = (ctypes.addressof(number), 1) if pid else (0, 0)
    arguments = struct.pack("10Q", flags, 0, 0, 0, signal.SIGCHLD, 0, 0, 0, *with_pid)
    return ctypes.CDLL(None).syscall(SYS_CLONE3, arguments, len(arguments))


class Adversary:
    def __init__(self, directory: Path, content: bytes) -> None:
        self.part = directory / f"{ID}.part"
        self.core = directory / f"{ID}.core"
        self.content = content

    def create(self, path: Path) -> int:
        fd = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
        os.write(fd, self.content)
        return fd

    def hold_core(self) -> None:
        """A file that claims to be complete, held by its true writer."""
        lock(self.create(self.core), 0)

    def hold_part(self) -> None:
        """A file that is never completed."""
        lock(self.create(self.part), 0)

    def replace(self) -> None:
        """Another file under the name that the claimed one should get."""
        lock(self.create(self.part), 0)
        self.create(self.core)

    def dead_taker(self) -> None:
        """A lock that outlives its taker, through a shared descriptor table."""
        fd = self.create(self.core)
        taker = clone(CLONE_FILES)
        if taker == 0:
            lock(fd, 0)
            os._exit(0)
        os.waitpid(taker, 0)

    def living_taker(self) -> None:
        """The lock's taker lives, but has given up the descriptor table."""
        fd = self.create(self.core)
        taker = clone(CLONE_FILES)
        if taker == 0:
            lock(fd, 0)
            ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
            # exec gives it a table of its own; the lock stays with the shared one.
            os.execv("/bin/sleep", ["sleep", "60"])
        comm = Path(f"/proc/{taker}/comm")
        while comm.read_text() != "sleep\n":
            os.sched_yield()

    def ofd_owner(self) -> None:
        """A lock that belongs to no process."""
        lock(self.create(self.core), 0, fcntl.F_OFD_SETLK)

    def deny_claim(self) -> None:
        """Byte 1 is locked against everybody."""
        fd = self.create(self.core)
        lock(fd, 0)
        lock(fd, 1)

    def deny_release(self) -> None:
        """Byte 2 is locked against everybody."""
        fd = self.create(self.core)
        lock(fd, 0)
        lock(fd, 2)

    def adopt(self) -> None:
        """Hold a file that was there before this process."""
        lock(os.open(self.core, os.O_RDWR), 0)

    def reused_pid(self) -> None:
        """The lock's taker is dead, and its pid is another's, who has the file open, too."""
        fd = self.create(self.core)
        os.set_inheritable(fd, True)
        taker = clone(CLONE_FILES)
        if taker == 0:
            lock(fd, 0)
            os._exit(0)
        os.waitpid(taker, 0)
        if clone(0, taker) == 0:
            ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
            os.execv("/bin/sleep", ["sleep", "60"])

    def rewrites(self) -> None:
        """Another process cuts and writes the file all the time."""
        fd = self.create(self.core)
        lock(fd, 0)
        self.for_ever(lambda: (os.ftruncate(fd, 0), os.pwrite(fd, self.content, 0)))

    def grows(self) -> None:
        """Another process appends to the file all the time."""
        fd = self.create(self.core)
        lock(fd, 0)
        more = bytes(1 << 16)

        def append() -> None:
            if os.write(fd, more) and os.fstat(fd).st_size > MOST:
                os.ftruncate(fd, len(self.content))
                os.lseek(fd, 0, os.SEEK_END)

        self.for_ever(append)

    def for_ever(self, do: Callable[[], object]) -> None:
        if os.fork() == 0:
            ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
            while True:
                do()

    def bystander(self) -> None:
        """Have a file open that was there before, and nothing more."""
        os.open(self.core, os.O_RDWR)

    def abandon(self) -> None:
        """A complete file that nobody holds."""
        os.close(self.create(self.core))

    def abandon_part(self) -> None:
        """An incomplete file that nobody holds."""
        os.close(self.create(self.part))

    def symlink(self) -> None:
        self.core.symlink_to("/etc/shadow")

    def fifo(self) -> None:
        os.mkfifo(self.core)

    def directory(self) -> None:
        self.core.mkdir()

    def sparse(self) -> None:
        fd = self.create(self.core)
        os.ftruncate(fd, 1 << 30)
        lock(fd, 0)


def main() -> None:
    mode, directory, *content = sys.argv[1:]
    adversary = Adversary(Path(directory), Path(content[0]).read_bytes() if content else b"x")
    getattr(adversary, mode)()
    print("ready", flush=True)
    sys.stdin.read()


main()
