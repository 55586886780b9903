"""What a pod may put into its volume, and what comes of it: a counted reason, nothing else.

Covers: every kind of forged file, a process of another pod, a process of no
pod, a snapshot that claims to be another process's, two names of one file,
names that no terminal should see, a sibling that meddles, a pod that floods.
"""

import json
import os
import re
import shutil
import signal
import socket
import stat
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from stillframe import names
from tests.integration.agent.intake import Operator
from tests.integration.agent.node import CRASHERS, Agent, Node, Pod, locked, wait_until

NAME = "0123456789abcdef0123456789abcdef.core"
_NOTE_PID_OFFSET = 32
"""Of ``pid`` in struct sf_note (preload/src/note.h)."""


FORGER = """
import fcntl, pathlib, signal, sys
data, directory = pathlib.Path(sys.argv[1]).read_bytes(), pathlib.Path(sys.argv[2])
held = []
for number in range(int(sys.argv[4])):
    path = directory / f".{number:032x}"
    held.append(path.open("xb", buffering=0))
    fcntl.lockf(held[-1], fcntl.LOCK_EX, 1)
    held[-1].write(data)
    path.rename(directory / f"{number:032x}{sys.argv[3]}")
signal.pause()
"""
"""Writes so many copies of a file under final names, holds their locks and lives on."""


def _symlink(path: Path) -> None:
    path.symlink_to("/etc/shadow")


def _sparse(path: Path) -> None:
    with path.open("wb") as file:
        file.truncate(1 << 30)


def _8_eib(path: Path) -> None:
    with path.open("wb") as file:
        file.truncate((1 << 63) - 1)


def _socket(path: Path) -> None:
    directory = os.open(path.parent, os.O_PATH)
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(f"/proc/self/fd/{directory}/{path.name}")
    os.close(directory)


def _device(path: Path) -> None:
    os.mknod(path, 0o666 | stat.S_IFCHR, os.makedev(1, 5))  # /dev/zero: no end


def _truncated_elf(path: Path) -> None:
    path.write_bytes(Path("/bin/true").read_bytes()[:100])


def _own_executable(path: Path) -> None:
    shutil.copy("/bin/true", path)


FORGERIES: dict[str, tuple[Callable[[Path], None], str]] = {
    "symlink": (_symlink, "Symlink"),
    "fifo": (os.mkfifo, "NotRegular"),
    "socket": (_socket, "NotRegular"),
    "device": (_device, "NotRegular"),
    "sparse": (_sparse, "TooLarge"),
    "8 EiB": (_8_eib, "TooLarge"),
    "empty": (Path.touch, "NotElf"),
    "text": (lambda path: path.write_text("core " * 1000) and None, "NotElf"),
    "truncated": (_truncated_elf, "Truncated"),
    "executable": (_own_executable, "NotCore"),
    "directory": (Path.mkdir, "NotRegular"),
}


@pytest.mark.parametrize("kind", FORGERIES)
def test_a_forged_file_is_refused_with_its_reason(
    agent: Agent, pod: Pod, operator: Operator, kind: str
) -> None:
    forge, reason = FORGERIES[kind]
    agent.wait_watching(pod)
    forge(pod.directory / f".{NAME}")
    (pod.directory / f".{NAME}").rename(pod.directory / NAME)
    agent.wait_metric(f'refusals_total{{reason="{reason}"}}')
    if kind != "directory":
        wait_until("an empty directory", lambda: pod.names() == [])
    assert agent.manifests() == []

    pod.crash().wait(timeout=20)
    (report,) = operator.wait_reports(1)
    assert report.attested


def test_a_process_of_another_pod_is_refused(agent: Agent, node: Node, operator: Operator) -> None:
    mine, other = Pod(node).set_up(), Pod(node, name="other").set_up()
    agent.wait_watching(mine)
    intruder = Pod(node, uid=other.uid, container_id=other.container_id)
    intruder._volume = mine._volume
    assert intruder.crash().wait(timeout=20) == -signal.SIGSEGV
    agent.wait_metric('refusals_total{reason="OtherPod"}')
    assert agent.manifests() == []
    assert operator.calls == []


def test_a_process_of_no_pod_is_refused(agent: Agent, node: Node, operator: Operator) -> None:
    pod = Pod(node).set_up()
    agent.wait_watching(pod)
    pod.container_id = "not-a-container"
    pod.cgroup.mkdir()
    assert pod.crash().wait(timeout=20) == -signal.SIGSEGV
    agent.wait_metric('refusals_total{reason="NoPod"}')
    assert operator.calls == []


def test_a_snapshot_that_claims_another_process_is_not_attributed(
    agent: Agent, pod: Pod, operator: Operator
) -> None:
    agent.wait_watching(pod)
    pod.crash().wait(timeout=20)
    (first,) = operator.wait_reports(1)
    genuine = agent.node.state / "artifacts" / first.id / "snapshot.core"
    core = bytearray(genuine.read_bytes())
    pid_at = core.index(b"STILLFRAME\0\0") + 12 + _NOTE_PID_OFFSET
    core[pid_at : pid_at + 4] = (4242).to_bytes(4, "little")
    forged = agent.node.directory / "forged"
    forged.write_bytes(core)

    process = pod.start(sys.executable, "-c", FORGER, forged, pod._volume.path, ".core", 1)
    reports = operator.wait_reports(2)
    process.kill()
    (second,) = (report for report in reports if report.id != first.id)
    assert not second.attested
    assert second.pod.uid == pod.uid
    assert any("4242" in error for error in second.soft_errors)


def test_a_crash_that_waits_for_its_turn_is_claimed_and_attested(
    node: Node, operator: Operator, start_agent: Callable[..., Agent]
) -> None:
    """The node's only capture is taken for two seconds; unclaimed processes go after a quarter."""
    agent = start_agent(captures=1).wait_ready()
    stalling, other = Pod(node).set_up(), Pod(node, name="quiet").set_up()
    agent.wait_watching(stalling)
    agent.wait_watching(other)
    forged = stalling.directory / f"{0:032x}.part"
    stalling.start(sys.executable, "-c", FORGER, "/dev/null", stalling._volume.path, ".part", 1)
    wait_until("the file", forged.exists)
    wait_until("its claim", lambda: locked(forged, names.LOCK_CLAIM))
    victim = other.crash(STILLFRAME_HOLD_MS=10_000)
    assert victim.wait(timeout=20) == -signal.SIGSEGV
    (report,) = operator.wait_reports(1)
    assert report.attested
    assert agent.metric('refusals_total{reason="NeverComplete"}') == 1


LINKER = """
import fcntl, os, pathlib, signal, sys
data, directory = pathlib.Path(sys.argv[1]).read_bytes(), pathlib.Path(sys.argv[2])
births = [directory / f".{number:032x}" for number in range(3)]
file = births[0].open("xb", buffering=0)
fcntl.lockf(file, fcntl.LOCK_EX, 1)
file.write(data)
for other in births[1:]:
    other.hardlink_to(births[0])
for birth in births:
    birth.rename(directory / f"{birth.name[1:]}.core")
signal.pause()
"""
"""Gives one snapshot, held as it should be, three names."""


def test_a_snapshot_of_several_names_counts_at_most_once(
    agent: Agent, pod: Pod, operator: Operator
) -> None:
    agent.wait_watching(pod)
    pod.crash().wait(timeout=20)
    (first,) = operator.wait_reports(1)
    genuine = agent.node.state / "artifacts" / first.id / "snapshot.core"
    process = pod.start(sys.executable, "-c", LINKER, genuine, pod._volume.path)
    agent.wait_metric('refusals_total{reason="HardLink"}', 2)
    wait_until("an empty directory", lambda: pod.names() == [])
    process.kill()
    pod.crash("div0").wait(timeout=20)
    wait_until("the next one", lambda: operator.calls[-1].signal.name == "SIGFPE")
    assert len(agent.manifests()) <= 3


EVIL = b"\x1b]0;a\x07\nb\xff\xe2\x80\xae"
"""A terminal's command, a new line, no UTF-8, and a change of direction: 15 bytes, a whole name."""
_DELETED = 'exec 9<"$1" && rm "$1" && exec /proc/self/fd/9 null_read'
_UNSAFE = re.compile(r"[\x00-\x09\x0b-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069]")


def test_a_name_is_harmless_wherever_it_is_told(
    agent: Agent, pod: Pod, operator: Operator, tmp_path: Path
) -> None:
    agent.wait_watching(pod)
    program = tmp_path / os.fsdecode(EVIL) / os.fsdecode(EVIL)
    program.parent.mkdir()
    shutil.copy(CRASHERS / "glibc/crasher", program)
    assert pod.start(program, "thread_segv", preload=True).wait(timeout=20) == -signal.SIGSEGV
    (report,) = operator.wait_reports(1)
    assert report.attested
    assert report.process.startswith("\\x1b]0;a\\x07\\nb")
    told = (report.process, report.cause, report.message, report.top_frame, *report.stack)
    assert not _UNSAFE.search("".join(told))
    assert "\n" not in "".join(told)

    sample = agent.node.state / "artifacts" / report.id
    text = (sample / "report.txt").read_text("utf-8")
    assert not _UNSAFE.search(text)
    assert report.process in text.splitlines()[0]
    document = (sample / "report.json").read_text("utf-8")
    assert not _UNSAFE.search(document)
    assert json.loads(document)["process"]["comm"] == report.process

    deleted = pod.start("sh", "-c", _DELETED, "-", program, preload=True)
    assert deleted.wait(timeout=20) == -signal.SIGSEGV
    operator.wait_reports(2)
    other = operator.calls[-1]
    assert [error for error in other.soft_errors if "\\x1b]0;a" in error]
    assert not _UNSAFE.search("".join(other.soft_errors))
    assert re.fullmatch(rb"([ -~]+\n)+", agent.log.read_bytes())
    told_of = [line["report"] for line in agent.lines("crash")]
    assert told_of == [report.id, other.id], "one line for each crash"


MEDDLER = """
import contextlib, fcntl, os, pathlib, struct, sys
what, directory = sys.argv[1], pathlib.Path(sys.argv[2])
lock = struct.pack("hhqqi4x", fcntl.F_WRLCK, os.SEEK_SET, 1, 2, 0)
held = []
while True:
    for path in list(directory.iterdir()):
        with contextlib.suppress(OSError):
            if what == "deletes":
                path.unlink()
            elif what == "replaces":
                other = directory / ".other"
                other.write_bytes(path.read_bytes())
                other.rename(path)
            elif what == "holds":
                held.append(path.open("r+b", buffering=0))
                fcntl.fcntl(held[-1], fcntl.F_OFD_SETLK, lock)
            elif what == "writes":
                with path.open("r+b", buffering=0) as file:
                    file.truncate(file.write(os.urandom(4096)))
            elif what == "denies":
                path.rename(directory / "taken")
"""
"""A sibling container: does something to every file it sees, as fast as it can."""


@pytest.mark.parametrize("what", ["deletes", "replaces", "holds", "writes", "denies"])
def test_a_sibling_that_meddles_changes_no_death_and_stops_nothing(
    agent: Agent, pod: Pod, operator: Operator, what: str
) -> None:
    agent.wait_watching(pod)
    sibling = pod.start(sys.executable, "-c", MEDDLER, what, pod._volume.path)
    for _ in range(3):
        assert pod.crash(STILLFRAME_HOLD_MS=1000).wait(timeout=20) == -signal.SIGSEGV
    sibling.kill()
    sibling.wait()
    for path in pod.directory.iterdir():
        path.unlink(missing_ok=True)
    pod.crash(STILLFRAME_HOLD_MS=1000).wait(timeout=20)
    wait_until("a genuine report", lambda: any(report.attested for report in operator.calls))
    wait_until(
        "samples that are reported",
        lambda: {m.report_id for m in agent.manifests()} == set(operator.reports),
    )
    assert "error" not in {line["level"] for line in agent.lines()}


def test_a_flood_is_cut_off_and_others_are_served(
    agent: Agent, node: Node, operator: Operator
) -> None:
    flooding, other = Pod(node).set_up(), Pod(node, name="quiet").set_up()
    agent.wait_watching(flooding)
    agent.wait_watching(other)
    for number in range(1000):
        (flooding.directory / f"{number:032x}.core").write_text("junk")
    other.crash().wait(timeout=20)
    (report,) = operator.wait_reports(1)
    assert report.pod.uid == other.uid
    assert report.held_millis < 250
    wait_until("an empty directory", lambda: flooding.names() == [])
    reasons = ("PodRateLimited", "PodQueueFull", "NotElf")
    counted = [agent.metric(f'refusals_total{{reason="{reason}"}}') for reason in reasons]
    assert sum(counted) == 1000
    assert counted[2] <= 64, "more captured than the pod's burst"


FILES = 200_000
"""Of a flood; a million took four minutes of this machine's time and showed the same."""
FLOODER = """
import os, sys
os.chdir(sys.argv[1])
for number in range(int(sys.argv[3])):
    os.close(os.open(sys.argv[2] % number, os.O_CREAT | os.O_WRONLY, 0o600))
"""


@pytest.mark.parametrize("name", ["%032x.core", "junk%d"])
def test_a_directory_full_of_files_costs_the_node_little(
    agent: Agent, node: Node, operator: Operator, name: str
) -> None:
    flooding, other = Pod(node).set_up(size="1g"), Pod(node, name="quiet").set_up()
    agent.wait_watching(flooding)
    agent.wait_watching(other)
    flood = flooding.start(sys.executable, "-c", FLOODER, flooding._volume.path, name, FILES)
    agent.wait_metric("floods_total")
    for _ in range(3):
        assert other.crash().wait(timeout=20) == -signal.SIGSEGV
    operator.wait_reports(3)
    assert flood.wait(timeout=60) == 0
    assert {report.pod.uid for report in operator.calls} == {other.uid}
    held = sorted(report.held_millis for report in operator.calls)

    _, text = agent.get("/metrics")
    refused = sum(map(float, re.findall(r"^stillframe_agent_refusals_total.* (\S+)$", text, re.M)))
    looks = agent.metric("floods_total") + 2
    woken = agent.metric('wakeups_total{source="inotify"}')
    peak = int(re.findall(r"VmHWM:\s+(\d+)", Path(f"/proc/{agent.pid}/status").read_text())[0])
    print(f"{FILES} files: {refused:.0f} looked at, {woken:.0f} wake-ups, {peak >> 10} MiB, {held}")
    assert refused <= looks * 2000, "more looked at than a look allows"
    assert woken <= looks * 100
    assert peak >> 10 <= 150


LATE = """
import fcntl, os, pathlib, signal, sys, time
data, directory, go = pathlib.Path(sys.argv[1]).read_bytes(), *map(pathlib.Path, sys.argv[2:])
path = directory / ("." + "5eed" * 8)
file = path.open("xb", buffering=0)
fcntl.lockf(file, fcntl.LOCK_EX, 1)
path = path.rename(directory / ("5eed" * 8 + ".part"))
while not go.exists():
    time.sleep(0.01)
file.write(data)
path.rename(directory / ("5eed" * 8 + ".core"))
signal.pause()
"""
"""Takes its time over a copy of a snapshot."""


def test_a_snapshot_that_is_complete_late_is_captured_all_the_same(
    node: Node, operator: Operator, start_agent: Callable[..., Agent]
) -> None:
    agent = start_agent(hold_seconds=0.1).wait_ready()
    pod = Pod(node).set_up()
    agent.wait_watching(pod)
    pod.crash().wait(timeout=20)
    (first,) = operator.wait_reports(1)
    genuine = node.state / "artifacts" / first.id / "snapshot.core"
    go = node.directory / "go"

    process = pod.start(sys.executable, "-c", LATE, genuine, pod._volume.path, go)
    agent.wait_metric('refusals_total{reason="NeverComplete"}')
    go.touch()
    assert len(operator.wait_reports(2)) == 2
    wait_until("an empty directory", lambda: pod.names() == [])
    process.kill()


def test_a_pod_that_never_completes_its_snapshots_does_not_delay_others(
    agent: Agent, node: Node, operator: Operator
) -> None:
    stalling, other = Pod(node).set_up(), Pod(node, name="quiet").set_up()
    agent.wait_watching(stalling)
    agent.wait_watching(other)
    stalling.start(sys.executable, "-c", FORGER, "/dev/null", stalling._volume.path, ".part", 40)
    wait_until("a queue", lambda: agent.metric("captures_waiting") >= 36)
    other.crash().wait(timeout=20)
    (report,) = operator.wait_reports(1)
    assert report.pod.uid == other.uid
    assert report.attested
    assert report.held_millis < 250
