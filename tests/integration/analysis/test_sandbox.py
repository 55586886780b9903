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
from functools import partial
from stillframe.analysis.job import Limits
from stillframe.analysis.paths import answer_paths
from stillframe.analysis.sandbox import lock_down, syscall_name
from stillframe.corefile.elf import Machine
libc = ctypes.CDLL(None, use_errno=True)
def call(name, *arguments):
    if getattr(libc, name)(*arguments) < 0:
        raise OSError(ctypes.get_errno(), name)
parent, read_only = os.getppid(), os.open("/proc/self/exe", os.O_RDONLY)
log = os.open(sys.argv[1], os.O_WRONLY)
status = os.open("/proc/self/status", os.O_RDONLY)
given, scratch = os.open("/proc/self/exe", os.O_RDONLY), os.memfd_create("scratch")
{lock_down}
try:
    {attempt}
except BaseException as error:
    print(type(error).__name__, getattr(error, "errno", ""))
else:
    print("done")
"""

LOCK_DOWN = "lock_down(Limits(cpu_seconds=1))"
PYTHON_LOCK_DOWN = (
    'answer_paths({"/lib/given.so": given}, partial(syscall_name, Machine.X86_64)); '
    "lock_down(Limits(core_bytes=5), scratch_fd=scratch, trap_paths=True)"
)
"""As the child for Python stacks does it."""
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


def attempt(
    code: str, file: Path, who: str = "root", lock_down: str = LOCK_DOWN
) -> "subprocess.CompletedProcess[str]":
    script = PREAMBLE.format(attempt=code, lock_down=lock_down)
    return subprocess.run(
        [*WHO[who], sys.executable, "-B", "-c", script, file],
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


@pytest.mark.parametrize("what", REFUSED)
def test_the_child_for_python_may_not_either(what: str, file: Path) -> None:
    done = attempt(REFUSED[what], file, lock_down=PYTHON_LOCK_DOWN)
    named = {"FileNotFoundError 2\n"} if what.startswith(("open", "list")) else set()
    assert done.stdout in {"PermissionError 1\n", *named}
    assert file.read_bytes() == b""


@pytest.mark.parametrize(
    ("code", "shown"),
    [
        ('print(open("/lib/given.so", "rb").read(4))', "b'\\x7fELF'\ndone\n"),
        # Twice from its start, and by another way to its name.
        ('[open("/lib/given.so", "rb").read(4) for _ in "12"]; open("/other/given.so")', "done\n"),
        ('print(os.stat("/lib/given.so") == os.fstat(given))', "True\ndone\n"),
        ('print(os.access("/lib/given.so", os.R_OK))', "True\ndone\n"),
        ('os.readlink("/lib/given.so")', "OSError 22\n"),
        ('os.write(os.open("/lib/given.so", os.O_RDWR), b"escaped")', "PermissionError 1\n"),
        ('open("/etc/passwd")', "FileNotFoundError 2\n"),
        ('os.stat("/etc/passwd")', "FileNotFoundError 2\n"),
        ('os.lstat("/etc/passwd")', "FileNotFoundError 2\n"),
        ('os.readlink("/proc/self/exe")', "FileNotFoundError 2\n"),
        ("os.getcwd()", "PermissionError 1\n"),
        ("os.open(os.path.basename(sys.argv[1]), os.O_RDONLY, dir_fd=given)",
         "FileNotFoundError 2\n"),
        ('call("open", None, 0)', "FileNotFoundError 2\n"),
        ('os.write(scratch, b"12345")', "done\n"),
        ('os.write(scratch, b"12345"); os.write(scratch, b"6")', "OSError 27\n"),
    ],
)  # fmt: skip
def test_a_path_is_of_a_given_file_or_of_none(code: str, shown: str, file: Path) -> None:
    done = attempt(code, file, lock_down=PYTHON_LOCK_DOWN)
    assert (done.stdout, done.stderr) == (shown, "")
