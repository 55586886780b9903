"""Facts of real processes that crash: what they had open, were told and were allowed.

Also: secrets, the process's own cgroup of this machine, other namespaces, many
descriptors, and processes that are not what they were.
"""

import os
import resource
import socket
import subprocess
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from stillframe.capture.facts import Facts, FactsPolicy, render_facts
from stillframe.capture.facts.registry import DESCRIPTORS
from stillframe.capture.handover import SnapshotDirectory, open_snapshot
from stillframe.capture.identity import attest, still_holds
from stillframe.capture.pipeline import DEFAULT_FACTS, capture
from tests.integration.capture.crash import CRASHER, crash, end, found, wait_for

CRASH = "; import ctypes; ctypes.string_at(8)"
SECRET = "correct-horse-battery"


def facts_of(
    snapshots: Path,
    directory: SnapshotDirectory,
    copy: Path,
    *command: str | Path,
    before: tuple[str, ...] = (),
    policy: FactsPolicy = DEFAULT_FACTS,
) -> Facts:
    """Of one crash; the whole capture must have gone well."""
    process = crash(snapshots, *command, before=before)
    try:
        with capture(directory, found(directory), copy, facts=policy) as captured:
            assert captured.soft_errors == ()
            assert captured.facts is not None
            return captured.facts.facts
    finally:
        assert process.wait() != 0


def python(script: str) -> tuple[str, str, str]:
    return sys.executable, "-c", script + CRASH


def test_the_facts_of_a_process_are_those_that_it_would_tell(
    snapshots: Path, directory: SnapshotDirectory, copy: Path
) -> None:
    before = (
        "prlimit",
        "--nofile=77:99",
        "--fsize=8:9999999",
        "setpriv",
        "--no-new-privs",
        "--reuid=1234",
        "--regid=5",
    )
    before += ("--clear-groups", "--bounding-set=-all", "--inh-caps=-all")
    snapshots.chmod(0o777)
    facts = facts_of(snapshots, directory, copy, CRASHER, "with_threads", before=before)

    assert set(facts.missing) == {"container", "log"}
    assert facts.command is not None
    assert facts.command.arguments == (str(CRASHER), "with_threads")
    assert facts.process is not None
    assert (facts.process.uid, facts.process.gid) == (1234, 5)
    assert facts.process.threads > 1
    assert 0 < facts.process.resident <= facts.process.resident_peak < facts.process.virtual_peak
    assert 0 <= facts.process.uptime_seconds < 60
    assert facts.process.no_new_privileges
    assert facts.process.capabilities == ()
    assert facts.process.oom_score_adj == int(Path("/proc/self/oom_score_adj").read_text())
    assert facts.kernel == os.uname().release
    assert facts.limits is not None
    limits = {limit.name: (limit.soft, limit.hard) for limit in facts.limits}
    # The library raises these two while it writes the snapshot.
    assert (limits["open files"], limits["file size"]) == ((77, 99), (8, 9999999))
    assert limits["core file size"] == (0, 0)
    soft, _ = resource.getrlimit(resource.RLIMIT_STACK)
    assert limits["stack size"][0] == (None if soft == resource.RLIM_INFINITY else soft)
    assert facts.descriptors is not None
    assert facts.descriptors.count == len(facts.descriptors.listed)
    targets = {one.number: one.target for one in facts.descriptors.listed}
    assert (targets[1], targets[2]) == ("/dev/null", "/dev/null")
    assert not [target for target in targets.values() if str(snapshots) in target]


def test_its_sockets_are_found_with_their_state_and_peers(
    snapshots: Path, directory: SnapshotDirectory, copy: Path, tmp_path: Path
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        script = (
            "import socket, os\n"
            "pair = socket.socketpair()\n"
            "listening = socket.create_server(('127.0.0.1', 0)); os.dup(listening.fileno())\n"
            "six = socket.create_server(('::1', 0), family=socket.AF_INET6)\n"
            f"client = socket.create_connection(('127.0.0.1', {port}))\n"
            "waiting = socket.create_connection(listening.getsockname())\n"
            "datagrams = socket.socket(type=socket.SOCK_DGRAM); datagrams.bind(('127.0.0.1', 0))\n"
            "named = socket.socket(socket.AF_UNIX)\n"
            f"named.bind('{tmp_path}/app.sock'); named.listen()\n"
            "netlink = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0)"
        )
        facts = facts_of(snapshots, directory, copy, *python(script))
    assert facts.sockets is not None
    assert facts.sockets.complete
    listed = facts.sockets.listed
    assert facts.sockets.count == len(listed) == 9
    kinds = sorted(f"{one.protocol} {one.state}" for one in listed)
    assert kinds == [
        "other ",
        "tcp ESTABLISHED",
        "tcp ESTABLISHED",
        "tcp LISTEN",
        "tcp6 LISTEN",
        "udp CLOSE",
        "unix CONNECTED",
        "unix CONNECTED",
        "unix LISTEN",
    ]
    by_kind = {f"{one.protocol} {one.state}": one for one in listed}
    assert by_kind["unix LISTEN"].local == f"{tmp_path}/app.sock"
    assert by_kind["tcp6 LISTEN"].local.startswith("[::1]:")
    assert by_kind["tcp LISTEN"].receive_queue == 1
    assert f"127.0.0.1:{port}" in [one.remote for one in listed]


def test_of_a_thousand_descriptors_all_are_counted_and_some_listed(
    snapshots: Path, directory: SnapshotDirectory, copy: Path
) -> None:
    script = "import os; kept = [os.open('/etc/passwd', os.O_RDONLY) for _ in range(1000)]"
    facts = facts_of(snapshots, directory, copy, *python(script))
    assert facts.descriptors is not None
    assert facts.descriptors.count > 1000
    assert facts.descriptors.complete
    assert len(facts.descriptors.listed) == DESCRIPTORS
    assert facts.descriptors.kinds["file"] > DESCRIPTORS - 10
    assert len(render_facts(facts)) < 8000


def test_a_secret_is_in_nothing_but_the_cores(
    snapshots: Path, directory: SnapshotDirectory, copy: Path, tmp_path: Path
) -> None:
    script = f"import os; kept = open('{tmp_path}/data-{SECRET}', 'w'); os.getpid()"
    facts = facts_of(
        snapshots,
        directory,
        copy,
        *python(script),
        f"--token={SECRET}x",
        SECRET,
        f"pg://app:{SECRET}@db/x",
        before=("env", f"APP_PASSWORD={SECRET}", f"LANG={SECRET}", "LC_ALL=C", "APP_NOTE=x"),
    )
    assert facts.environment is not None
    assert facts.environment.values["LC_ALL"] == "C"
    assert facts.environment.values["LANG"] == "[redacted]"
    assert {"APP_PASSWORD", "APP_NOTE"} <= set(facts.environment.names)
    assert "APP_NOTE" not in facts.environment.values
    assert facts.command is not None
    assert facts.command.arguments[-3:] == (
        "--token=[redacted]",
        "[redacted]",
        "pg://[redacted]@db/x",
    )
    assert f"{tmp_path}/data-[redacted]" in render_facts(facts)
    assert SECRET not in render_facts(facts)
    assert SECRET.encode() not in msgspec.json.encode(facts)
    assert SECRET.encode() in copy.read_bytes(), "the core has it, or this shows nothing"


def test_what_is_switched_off_is_not_taken(
    snapshots: Path, directory: SnapshotDirectory, copy: Path
) -> None:
    policy = FactsPolicy.parse("limits,sockets")
    script = "import socket; kept = socket.socket()"
    facts = facts_of(snapshots, directory, copy, *python(script), policy=policy)
    assert facts.limits
    assert facts.sockets is not None
    assert facts.sockets.count == 1
    kept = {name for name in Facts.__struct_fields__ if getattr(facts, name) is not None}
    assert kept == {"limits", "sockets", "missing", "taken_millis"}
    assert set(facts.missing.values()) == {"switched off"}


@pytest.fixture
def group() -> Iterator[Path]:
    """A memory cgroup of this machine's own kind, with a limit."""
    roots = (Path("/sys/fs/cgroup/memory"), Path("/sys/fs/cgroup"))
    root = next(path for path in roots if (path / "cgroup.procs").exists())
    path = root / f"stillframe-test-{uuid.uuid4().hex[:8]}"
    path.mkdir()
    limit = path / "memory.limit_in_bytes"
    (limit if limit.exists() else path / "memory.max").write_text("1073741824")
    yield path

    def gone() -> bool:
        try:
            path.rmdir()
        except OSError:
            return False
        return True

    wait_for(gone, "empty cgroup")


AS_CONTAINER = (
    "unshare", "--mount", "--cgroup", "sh", "-c",
    "umount -R /sys/fs/cgroup && mount -t tmpfs tmpfs /sys/fs/cgroup && "
    "mkdir /sys/fs/cgroup/memory && "
    'mount -t cgroup -o memory memory /sys/fs/cgroup/memory && exec "$@"', "-",
)  # fmt: skip
"""The process's own cgroup is the root of what is mounted, as runtimes have it."""


@pytest.mark.parametrize("before", [(), AS_CONTAINER], ids=["host", "container"])
def test_its_own_cgroup_is_found_from_wherever_it_sees_it(
    snapshots: Path,
    directory: SnapshotDirectory,
    copy: Path,
    group: Path,
    before: tuple[str, ...],
) -> None:
    enter = ("sh", "-c", f'echo $$ > {group}/cgroup.procs && exec "$@"', "-")
    facts = facts_of(snapshots, directory, copy, CRASHER, "null_read", before=(*enter, *before))
    assert facts.cgroup is not None, facts.missing
    assert facts.cgroup.memory is not None
    assert facts.cgroup.memory.limit == 1 << 30
    assert 0 < facts.cgroup.memory.current <= (facts.cgroup.memory.peak or 1 << 30)
    assert set(facts.cgroup.memory.events) >= {"oom_kill"}


@pytest.mark.parametrize("over", ["/sys/fs/cgroup", "/sys/fs", "/sys"])
def test_what_a_pod_mounts_over_its_cgroup_is_not_believed(
    snapshots: Path, directory: SnapshotDirectory, copy: Path, over: str
) -> None:
    """A tmpfs with files of the same names, written by the pod."""
    below = Path("/sys/fs/cgroup/memory").relative_to(over)
    line = Path("/proc/self/cgroup").read_text()
    own = next((part.split(":")[2] for part in line.splitlines() if ":memory:" in part), "/")
    fake = f"{over}/{below}{own}"
    before = (
        *("unshare", "--mount", "sh", "-c"),
        f"mount -t tmpfs tmpfs {over} && mkdir -p {fake} && "
        f'echo 7 > {fake}/memory.usage_in_bytes && exec "$@"',
        "-",
    )
    facts = facts_of(snapshots, directory, copy, CRASHER, "null_read", before=before)
    assert facts.cgroup is None
    assert facts.missing["cgroup"] == "another filesystem is mounted over its cgroup"
    assert facts.limits


def test_a_process_in_namespaces_of_its_own_has_its_facts(
    snapshots: Path, directory: SnapshotDirectory, copy: Path
) -> None:
    """As of a user-namespaced pod: root inside, nobody outside, a network of its own."""
    before = ("unshare", "--user", "--map-root-user", "--net", "--pid", "--fork", "--kill-child")
    script = "import socket; kept = socket.socket(); kept.bind(('0.0.0.0', 80)); kept.listen()"
    facts = facts_of(snapshots, directory, copy, *python(script), before=before)
    assert set(facts.missing) == {"container", "log"}
    assert facts.process is not None
    assert "NET_BIND_SERVICE" in facts.process.capabilities
    assert facts.sockets is not None
    assert [(one.local, one.state) for one in facts.sockets.listed] == [("0.0.0.0:80", "LISTEN")]


def test_a_dead_leaders_process_has_its_facts(
    snapshots: Path, directory: SnapshotDirectory, copy: Path, orphan_thread: Path
) -> None:
    facts = facts_of(snapshots, directory, copy, orphan_thread)
    assert set(facts.missing) == {"container", "log"}
    assert facts.command is not None
    assert facts.command.arguments == (str(orphan_thread),)


def test_hostile_names_come_out_printable(
    snapshots: Path, directory: SnapshotDirectory, copy: Path, tmp_path: Path
) -> None:
    script = (
        "import os\n"
        f"kept = os.open(b'{tmp_path}/\\xff\\x1b[2J\\n\\xe2\\x80\\xae', os.O_CREAT)\n"
        f"import socket; s = socket.socket(socket.AF_UNIX); s.bind('{tmp_path}/a\\nb')"
    )
    facts = facts_of(
        snapshots, directory, copy, *python(script), "\x1b]0;x\x07", before=("env", "TZ=\x1b[31m\n")
    )
    text = render_facts(facts)
    assert all(line.isprintable() for line in text.split("\n"))
    targets = [one.target for one in facts.descriptors.listed] if facts.descriptors else []
    names = [one.local for one in facts.sockets.listed] if facts.sockets else []
    assert targets
    assert names
    assert all(name.isprintable() for name in targets + names)
    assert r"\udcff\x1b[2J\n\u202e" in text
    assert r"TZ=\x1b[31m\n" in text
    assert facts.sockets is not None
    assert facts.sockets.listed[0].local in (f"{tmp_path}/a", f"{tmp_path}/a\\nb")


def test_environment_on_a_page_that_waits_for_its_owner_stalls_nobody(
    snapshots: Path, directory: SnapshotDirectory, copy: Path
) -> None:
    """userfaultfd: a reader of /proc/PID/mem was hung for ever by such a page."""
    script = (
        "import ctypes, fcntl, os, struct\n"
        "libc = ctypes.CDLL(None, use_errno=True)\n"
        "libc.mmap.restype = ctypes.c_void_p\n"
        "libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, *[ctypes.c_int] * 4]\n"
        "page = int(open('/proc/self/stat').read().rpartition(')')[2].split()[47]) & ~4095\n"
        "uffd = libc.syscall(323, os.O_CLOEXEC)\n"
        "assert uffd >= 0\n"
        "fcntl.ioctl(uffd, 0xC018AA3F, bytearray(struct.pack('QQQ', 0xAA, 0, 0)))\n"
        "assert libc.mmap(page, 4096, 3, 0x32, -1, 0) == page\n"
        "fcntl.ioctl(uffd, 0xC020AA00, bytearray(struct.pack('QQQQ', page, 4096, 1, 0)))"
    )
    facts = facts_of(snapshots, directory, copy, *python(script))
    assert facts.environment is not None
    assert facts.environment.names == ()
    assert facts.limits


HOLD_AND_EXEC = (
    "import fcntl, os, sys\n"
    "fd = os.open(sys.argv[1], os.O_RDWR | os.O_CREAT)\n"
    "fcntl.lockf(fd, fcntl.LOCK_EX, 1, 0)\n"
    "print('ready', flush=True); sys.stdin.readline()\n"
    "os.execvp('sleep', ['sleep', '60'])"
)


def test_a_process_that_became_another_program_is_told_apart(
    snapshots: Path, directory: SnapshotDirectory
) -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD_AND_EXEC, snapshots / f"{'5eed' * 8}.core"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert process.stdout is not None
    assert process.stdin is not None
    assert process.stdout.readline() == b"ready\n"
    with open_snapshot(directory.fd, found(directory), max_bytes=1) as snapshot:
        holder = attest(snapshot.fd)
        assert still_holds(snapshot.fd, holder)
        process.stdin.write(b"\n")
        process.stdin.flush()
        wait_for(lambda: not still_holds(snapshot.fd, holder), "exec")
        assert holder.alive(), "it is the same process, but another program"
        holder.close()
    end(process)


def test_a_process_that_dies_meanwhile_loses_its_facts_only(
    snapshots: Path,
    directory: SnapshotDirectory,
    copy: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    process = crash(snapshots, CRASHER, "null_write")
    monkeypatch.setattr("stillframe.capture.pipeline.still_holds", lambda fd, holder: False)
    with capture(directory, found(directory), copy) as captured:
        assert captured.facts is None
        assert captured.soft_errors == (
            "no facts: the process went on or died while they were read",
        )
        assert captured.attested
    process.wait()


def test_without_time_left_there_are_reasons_instead_of_facts(
    snapshots: Path,
    directory: SnapshotDirectory,
    copy: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("stillframe.capture.facts.take.TIME_LIMIT", -1.0)
    facts = facts_of(snapshots, directory, copy, CRASHER, "null_write")
    assert facts.command is None
    assert facts.missing["command"].startswith("no time left")
