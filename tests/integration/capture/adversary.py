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
from pathlib import Path

ID = "5eed" * 8
CLONE_FILES = 0x400
SYS_CLONE = 56
PR_SET_PDEATHSIG = 1


def lock(fd: int, byte: int, command: int = fcntl.F_SETLK) -> None:
    fcntl.fcntl(fd, command, struct.pack("hhqqi4x", fcntl.F_WRLCK, os.SEEK_SET, byte, 1, 0))


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
        clone = ctypes.CDLL(None).syscall(SYS_CLONE, CLONE_FILES | signal.SIGCHLD, 0, 0, 0, 0)
        if clone == 0:
            lock(fd, 0)
            os._exit(0)
        os.waitpid(clone, 0)

    def living_taker(self) -> None:
        """The lock's taker lives, but has given up the descriptor table."""
        fd = self.create(self.core)
        clone = ctypes.CDLL(None).syscall(SYS_CLONE, CLONE_FILES | signal.SIGCHLD, 0, 0, 0, 0)
        if clone == 0:
            lock(fd, 0)
            ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
            # exec gives it a table of its own; the lock stays with the shared one.
            os.execv("/bin/sleep", ["sleep", "60"])
        comm = Path(f"/proc/{clone}/comm")
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
