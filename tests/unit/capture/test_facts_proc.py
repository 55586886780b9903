"""What the kernel prints of a process and its sockets, and what people read of it."""

import pytest

from stillframe.capture.facts import Container, Facts, FactsPolicy, Log, Redactor, render_facts
from stillframe.capture.facts.model import (
    Cgroup,
    Command,
    Cpu,
    Descriptors,
    Environment,
    Memory,
    Pids,
    Pressure,
    Process,
    Socket,
    Sockets,
)
from stillframe.capture.facts.proc import descriptor, descriptors, parse_limits, process
from stillframe.capture.facts.sockets import Row, match, parse_table

PLAIN = Redactor()
STATUS = (
    "Name:\tevil\\nSeccomp:\t0\nUmask:\t0022\nState:\tS (sleeping)\nTgid:\t7\nUid:\t0\t1000\t0\t0\n"
    "Gid:\t0\t1001\t0\t0\n"
    "VmPeak:\t  200 kB\nVmSize:\t  100 kB\nVmHWM:\t   40 kB\nVmRSS:\t   20 kB\n"
    "VmSwap:\t    4 kB\nThreads:\t3\nCapEff:\t0000010000000421\nNoNewPrivs:\t1\nSeccomp:\t2\n"
)
PROCESS = Process(
    uptime_seconds=1.5,
    uid=1000,
    gid=1001,
    threads=3,
    resident=20480,
    resident_peak=40960,
    virtual_peak=204800,
    swapped=4096,
    oom_score_adj=-997,
    seccomp="filter",
    no_new_privileges=True,
    capabilities=("CHOWN", "KILL", "NET_BIND_SERVICE", "CHECKPOINT_RESTORE"),
)
LIMITS = (
    "Limit                     Soft Limit           Hard Limit           Units     \n"
    "Max cpu time              unlimited            unlimited            seconds   \n"
    "Max stack size            8388608              unlimited            bytes     \n"
    "Max open files            1024                 524288               files     \n"
    "Max nice priority         0                    0                    \n"
)


def test_a_status_is_read() -> None:
    assert process(STATUS, "-997\n", 1.5) == PROCESS


def test_a_process_without_memory_has_none() -> None:
    """Its leader is a zombie."""
    lines = [line for line in STATUS.splitlines() if not line.startswith("Vm")]
    assert process("\n".join(lines), "0", 0).resident == 0


@pytest.mark.parametrize("text", ["", "Uid:\t1\n", STATUS.replace(" kB", " MB")])
def test_another_form_of_status_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"no|not"):
        process(text, "0", 0)


def test_limits_are_read() -> None:
    found = {limit.name: (limit.soft, limit.hard, limit.unit) for limit in parse_limits(LIMITS)}
    assert found == {
        "cpu time": (None, None, "seconds"),
        "stack size": (8388608, None, "bytes"),
        "open files": (1024, 524288, "files"),
        "nice priority": (0, 0, ""),
    }


@pytest.mark.parametrize(
    ("link", "kind"),
    [
        ("/srv/data", "file"),
        ("/srv/data (deleted)", "file"),
        ("/dev/shm/x", "file"),
        ("/dev/null", "device"),
        ("/memfd:cache (deleted)", "memfd"),
        ("socket:[42]", "socket"),
        ("pipe:[42]", "pipe"),
        ("anon_inode:[eventpoll]", "eventpoll"),
        ("anon_inode:inotify", "inotify"),
        ("mnt:[4026531840]", "other"),
    ],
)
def test_descriptors_have_a_kind(link: str, kind: str) -> None:
    assert descriptor(3, link, PLAIN).kind == kind


def test_kinds_are_counted_most_frequent_first() -> None:
    listed = [descriptor(n, link, PLAIN) for n, link in enumerate(["/a", "pipe:[1]", "/b"])]
    assert list(descriptors(listed, 3, complete=True).kinds.items()) == [("file", 2), ("pipe", 1)]


def internet(*rows: str) -> bytes:
    """A table of TCP or UDP sockets; a row holds addresses, state, queues and inode."""
    lines = ["  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid"]
    for number, row in enumerate(rows):
        local, remote, state, queues, inode = row.split()
        lines.append(
            f"   {number}: {local} {remote} {state} {queues} 00:00000000 00000000  1000        0 "
            f"{inode} 1 0000000000000000 100 0 0 10 0"
        )
    return "\n".join((*lines, "")).encode()


TCP = internet(
    "0100007F:1F90 00000000:0000 0A 00000000:00000003 501",
    "0100007F:1F90 0200A8C0:8235 01 00000010:00000000 502",
)
TCP6 = internet(
    f"0000000000000000FFFF00000100007F:0050 {'0' * 32}:0000 0A 00000000:00000000 503",
    f"B80D0120000000000000000001000000:0051 {'0' * 32}:0000 0A 00000000:00000000 504",
)
UNIX = (
    b"Num       RefCount Protocol Flags    Type St Inode Path\n"
    b"ffff8881: 00000002 00000000 00010000 0001 01 601 /run/app dir/app.sock\n"
    b"ffff8882: 00000003 00000000 00000000 0001 03 602\n"
    b"ffff8883: 00000003 00000000 00000000 0002 01 603 @abstract\n"
)


def test_tables_of_sockets_are_read() -> None:
    assert parse_table("tcp", TCP) == {
        501: Row("tcp", "LISTEN", "127.0.0.1:8080", "0.0.0.0:0", 3, 0),
        502: Row("tcp", "ESTABLISHED", "127.0.0.1:8080", "192.168.0.2:33333", 0, 16),
    }
    found = {inode: row.local for inode, row in parse_table("tcp6", TCP6).items()}
    assert found == {503: "[::ffff:127.0.0.1]:80", 504: "[2001:db8::1]:81"}
    assert parse_table("unix", UNIX) == {
        601: Row("unix", "LISTEN", "/run/app dir/app.sock"),
        602: Row("unix", "CONNECTED", ""),
        603: Row("unix", "UNCONNECTED", "@abstract"),
    }


def test_a_line_that_a_sockets_path_forges_is_not_believed() -> None:
    forged = UNIX + b"ffff8884: 2 0 0 1 1 604 /x\n0: 2 0 10000 1 01 602 /forged\n"
    assert 602 not in parse_table("unix", forged)
    assert 601 in parse_table("unix", forged)


def test_a_cut_table_loses_its_last_line_only() -> None:
    assert set(parse_table("unix", UNIX[:-30])) == {601, 602}


def test_one_socket_with_two_descriptors_is_one() -> None:
    rows = {1: Row("tcp", "LISTEN", "a", "b")}
    found = match([(3, 1), (4, 1), (5, 2)], rows, PLAIN)
    assert [(one.number, one.protocol) for one in found] == [(3, "tcp"), (5, "other")]


def test_people_read_what_matters() -> None:
    facts = Facts(
        command=Command(arguments=("app", "--x\\n"), complete=True),
        environment=Environment(
            count=2, names=("LANG", "TOKEN"), values={"LANG": "C"}, complete=True
        ),
        process=PROCESS,
        limits=parse_limits(LIMITS),
        kernel="6.18",
        cgroup=Cgroup(
            memory=Memory(
                current=130 << 20,
                limit=128 << 20,
                peak=128 << 20,
                events={"oom_kill": 1, "low": 0},
                pressure=Pressure(some_avg10=12.5, some_avg60=1.0),
            ),
            cpu=Cpu(limit=0.5, periods=80, throttled_periods=31, throttled_seconds=1.5),
            pids=Pids(current=12, limit=100),
        ),
        descriptors=descriptors([descriptor(3, "/srv/data", PLAIN)], 1, complete=True),
        sockets=Sockets(
            count=1,
            complete=True,
            listed=(
                Socket(
                    number=4,
                    protocol="tcp",
                    state="ESTABLISHED",
                    local="127.0.0.1:8080",
                    remote="10.0.0.2:33333",
                    send_queue=16,
                ),
            ),
        ),
        container=Container(image="shop/cart:1", image_digest="sha256:ab", restarts=2),
        log=Log(lines=("2024-01-01T00:00:00Z stderr assertion failed",), complete=True),
        missing={"kernel": "gone", "log": "switched off"},
    )
    assert render_facts(facts) == (
        "\n"
        "Facts:\n"
        "  Command:     app --x\\n\n"
        "  Image:       shop/cart:1 (sha256:ab)\n"
        "  Restarts:    2\n"
        "  Lived:       1.5 s, 3 threads\n"
        "  Memory:      20 KiB resident (at most 40 KiB), 4 KiB swapped, "
        "OOM score adjusted by -997\n"
        "  Privileges:  uid 1000, gid 1001, seccomp filter, no new privileges, "
        "capabilities: CHOWN, KILL, NET_BIND_SERVICE, CHECKPOINT_RESTORE\n"
        "  Its cgroup:  130 MiB of 128 MiB, at most 128 MiB, oom_kill 1, pressure 12.5 %\n"
        "  CPU limit:   0.5 CPUs, throttled in 31 of 80 periods\n"
        "  Tasks:       12 of 100\n"
        "  Limits:      stack size 8 MiB, open files 1024\n"
        "  Kernel:      6.18\n"
        "  Descriptors: 1 of 1024: 1 file\n"
        "       3 /srv/data\n"
        "  Sockets, 1:\n"
        "       4 tcp ESTABLISHED 127.0.0.1:8080 -> 10.0.0.2:33333 (queues: 0 in, 16 out)\n"
        "  Environment, 1 of 2 variables:\n"
        "    LANG=C\n"
        "  The container's last lines:\n"
        "    2024-01-01T00:00:00Z stderr assertion failed\n"
        "  Not known:   kernel: gone\n"
    )


def test_nothing_known_is_a_short_section() -> None:
    assert render_facts(Facts(missing=dict.fromkeys(FactsPolicy().wanted, "switched off"))) == (
        "\nFacts:\n"
    )
    empty = Descriptors(count=0, complete=False, kinds={}, listed=())
    assert "at least 0" in render_facts(Facts(descriptors=empty))
