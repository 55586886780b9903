"""The sandbox, by code that runs where the parsers run and tries to get out.

Each script locks itself down exactly as the child does and then tries one
thing; it prints what happened.  As root, as root with the agent's two
capabilities, and as an ordinary user.
"""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

ROOT = Path(__file__).parents[3]
AGENT = ("setpriv", "--bounding-set=-all,+sys_ptrace,+dac_read_search", "--inh-caps=-all")
USER = ("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups")
WHO = {"root": (), "agent": AGENT, "user": USER}

PREAMBLE = """
import ctypes, mmap, os, signal, socket, sys, threading
from stillframe.analysis.job import Limits
from stillframe.analysis.sandbox import lock_down
libc = ctypes.CDLL(None, use_errno=True)
def call(name, *arguments):
    if getattr(libc, name)(*arguments) < 0:
        raise OSError(ctypes.get_errno(), name)
parent, read_only = os.getppid(), os.open("/proc/self/exe", os.O_RDONLY)
log = os.open(sys.argv[1], os.O_WRONLY)
status = os.open("/proc/self/status", os.O_RDONLY)
lock_down(Limits(cpu_seconds=1))
try:
    {attempt}
except BaseException as error:
    print(type(error).__name__, getattr(error, "errno", ""))
else:
    print("done")
"""

REFUSED = {
    "open a file for reading": 'open("/etc/hostname")',
    "open a file for writing": 'open("/tmp/escaped", "w")',
    "open its own memory": 'open("/proc/self/mem", "r+b")',
    "write to a file it has open": 'os.write(log, b"escaped")',
    "delete a file": "os.unlink(sys.argv[1])",
    "rename a file": 'os.rename(sys.argv[1], "/tmp/escaped")',
    "list a directory": 'os.listdir("/")',
    "make a socket": "socket.socket()",
    "make a unix socket": "socket.socket(socket.AF_UNIX)",
    "make a pair of sockets": "socket.socketpair()",
    "fork": "os.fork()",
    "vfork": "os.posix_spawn('/bin/true', ['true'], dict())",
    "execute": "os.execv('/bin/true', ['true'])",
    "trace its parent": 'call("ptrace", 16, parent, 0, 0)',
    "read its parent's memory": 'call("process_vm_readv", parent, None, 0, None, 0, 0)',
    "signal its parent": "os.kill(parent, signal.SIGTERM)",
    "raise its limits": 'call("setrlimit", 9, (ctypes.c_ulong * 2)(1 << 40, 1 << 40))',
    "make memory executable": "mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_EXEC)",
    "make a memory file": 'os.memfd_create("escaped")',
    "mount": 'call("mount", b"none", b"/tmp", b"tmpfs", 0, None)',
    "make a namespace": 'call("unshare", 0x10000000)',
    "become somebody else": "os.setuid(12345)",
    "become dumpable": 'call("prctl", 4, 1, 0, 0, 0)',
    "change a file's mode": "os.fchmod(log, 0o777)",
    "own signals of a descriptor": 'call("fcntl", log, 8, parent)',
}


def attempt(code: str, file: Path, who: str = "root") -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [*WHO[who], sys.executable, "-B", "-c", PREAMBLE.format(attempt=code), file],
        env={"PYTHONPATH": str(ROOT / "src"), "PATH": "/usr/sbin:/usr/bin:/sbin:/bin"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        cwd="/",
    )


@pytest.fixture
def file() -> Iterator[Path]:
    """A file that everybody may write, in a directory that everybody may change."""
    with TemporaryDirectory() as directory:
        Path(directory).chmod(0o777)
        path = Path(directory) / "file"
        path.touch()
        path.chmod(0o666)
        yield path


@pytest.mark.parametrize("who", WHO)
@pytest.mark.parametrize("what", REFUSED)
def test_the_child_may_not(what: str, who: str, file: Path) -> None:
    done = attempt(REFUSED[what], file, who)
    assert (done.stdout, done.stderr) == ("PermissionError 1\n", "")
    assert file.read_bytes() == b""


def test_a_thread_cannot_be_started(file: Path) -> None:
    assert attempt("threading.Thread(target=print).start()", file).stdout.startswith("RuntimeError")


@pytest.mark.parametrize("who", WHO)
def test_what_parsers_need_is_allowed(who: str, file: Path) -> None:
    code = "mmap.mmap(read_only, 0, prot=mmap.PROT_READ)[:4] + os.pread(os.dup(read_only), 4, 0)"
    assert attempt(code, file, who).stdout == "done\n"


def test_a_memory_bomb_meets_its_limit(file: Path) -> None:
    assert attempt("bytearray(1 << 30)", file).stdout.startswith("MemoryError")


def test_an_endless_loop_is_killed(file: Path) -> None:
    done = attempt("while True: pass", file)
    assert done.returncode in {-9, -24}
    assert done.stdout == ""


@pytest.mark.parametrize("who", WHO)
def test_the_status_of_the_locked_process_says_so(who: str, file: Path) -> None:
    done = attempt("print(os.pread(status, 4096, 0).decode())", file, who)
    status = dict(line.split(":\t", 1) for line in done.stdout.splitlines() if ":\t" in line)
    assert int(status["CapEff"], 16) == int(status["CapPrm"], 16) == 0
    assert status["NoNewPrivs"] == "1"
    assert status["Seccomp"] == "2"
