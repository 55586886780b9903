"""What reads hostile bytes in the agent, as functions of bytes: each answers, and in its bounds.

A target raises nothing for any input: an exception that a parser documents is
an answer, any other is a finding, and so is a false statement.
"""

import re
import struct
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import msgspec
from msgspec.structs import replace
from stillframe_agent import manifest as manifests
from stillframe_agent.containerlog import parse_log
from stillframe_agent.identity import Placement, parse_cgroup
from stillframe_agent.manifest import Manifest, Phase
from stillframe_agent.mounts import sandbox_mounts, snapshot_volumes
from stillframe_agent.pods import PodIdentity, identity_in, wish_in
from stillframe_agent.report import build

from stillframe.analysis import Analysis, Frame, Process, Thread, render_text
from stillframe.analysis.cfi import has_cfi
from stillframe.analysis.fingerprint import fingerprint
from stillframe.analysis.hs_err import MAX_FRAMES
from stillframe.analysis.hs_err import parse as parse_log_of_jvm
from stillframe.analysis.java import contradiction, summary, with_java_frames
from stillframe.analysis.jvm import plain
from stillframe.analysis.model import (
    MAX_FRAMES_CRASHED,
    MAX_STACK_LINES,
    Java,
    PythonFrame,
    PythonThread,
)
from stillframe.analysis.pipeline import analyze_core
from stillframe.analysis.python import with_python
from stillframe.analysis.wording import stack_lines
from stillframe.capture.facts import Facts, Redactor, proc, render_facts
from stillframe.capture.facts.cgroup import FILES, parse, parse_mounts, places
from stillframe.capture.facts.model import Cgroup, Sockets
from stillframe.capture.facts.registry import SOCKETS
from stillframe.capture.facts.sockets import Row, match, parse_table
from stillframe.capture.handover import SnapshotName
from stillframe.capture.harmless import parse_mountinfo
from stillframe.capture.identity import _parse_stat, _shows_lock
from stillframe.capture.modules import parse_maps
from stillframe.capture.procfiles import status_field
from stillframe.corefile import CoreFile, SignalInfo
from stillframe.corefile.elf import build_id, iter_notes, parse_header
from stillframe.corefile.vendor import decode_note
from stillframe.errors import InvalidInputError
from tests.support.corewriter import Core, at, image

ROOT = Path(__file__).parents[2]
POD = "1d3b6a0c-5f0e-4b67-9d5c-2f7a1c0de111"
CONTAINER = "a" * 64
SAMPLE = Manifest(
    report_id="0" * 32,
    phase=Phase.CAPTURED,
    snapshot_id="f" * 32,
    node="node-1",
    pod=PodIdentity(POD, "shop", "cart-1", "app", CONTAINER),
    created=1e9,
    expires=2e9,
)
LOGS = ROOT / "tests/golden/hs_err"
SECRET = "correct-horse-battery"
MAX_REPORT = 64 << 10
"""Bytes of a report on the wire; the operator's own bound of an object is less."""


def _syscall(_machine: object, number: int) -> str:
    return str(number)


def core(data: bytes) -> None:
    """A snapshot, up to the report that is sent."""
    try:
        parsed = CoreFile.from_bytes(data)
    except InvalidInputError:
        return
    registers_alone = next(analyze_core(parsed, -1, (), _syscall, variables=False))
    answer(msgspec.json.encode(registers_alone), must_be_one=True)


def answer(data: bytes, must_be_one: bool = False) -> None:
    """What an analysis child answers, up to the report that is sent."""
    try:
        analysis = msgspec.json.decode(data, type=Analysis)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        assert not must_be_one
        return
    text = render_text(analysis, {"Pod": "shop/cart-1"})
    assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f-\x9f]", text)
    assert len(build(SAMPLE, analysis).SerializeToString()) <= MAX_REPORT


def note(data: bytes) -> None:
    """The library's note, and the notes around it."""
    with suppress(ValueError):
        decode_note(data)
    with suppress(ValueError):
        for record in iter_notes(data):
            assert len(record.desc) <= len(data)


def elf(data: bytes) -> None:
    """The first page of a mapped file, and a whole one."""
    with suppress(InvalidInputError):
        parse_header(data)
    with suppress(InvalidInputError):
        found = build_id(data)
        assert found is None or len(found) <= len(data)
    has_cfi(data, int.from_bytes(data[:8], "little"))


def maps(data: bytes) -> None:
    """Paths and names that a pod chose, in the kernel's lines."""
    path = "/" + data.decode("utf-8", "surrogateescape").replace("\0", "")
    # fs/proc/task_mmu.c escapes this one character.
    line = f"7f00-8f00 r-xp 00001000 fe:00 42     {path.replace(chr(10), chr(92) + '012')}\n"
    (found, other) = parse_maps(line + "8f00-9f00 r--p 00001000 fe:00 43     /lib/b\n")
    assert (found.start, found.inode, other.path) == (0x7F00, "fe:00 42", "/lib/b")
    # fs/proc/array.c escapes this one; a name has at most 15 bytes.
    comm = path[:15].replace("\n", "\\n")
    assert _parse_stat(f"7 ({comm}) S {' '.join('1' * 18)} 4711 0\n")[1] == 4711
    assert not _shows_lock(path, 7, (1, 2, 3)) or "POSIX" in path


def cgroup(data: bytes) -> None:
    """Below its own cgroup a container may make others, of any name."""
    lines = data.decode("utf-8", "surrogateescape").split("\n")
    with suppress(InvalidInputError):
        place = parse_cgroup(lines)
        assert re.fullmatch(r"[0-9a-f-]{32,36}", place.pod_uid)
        assert re.fullmatch(r"[0-9a-f]{64}", place.container_id)
    ours = f"0::/kubepods/besteffort/pod{POD}/{CONTAINER}"
    below = re.sub(r"[\0\n]", "", lines[0])
    place = parse_cgroup([f"{ours}/{below}"])
    assert (place.pod_uid, place.container_id) == (POD, CONTAINER)


def mountinfo(data: bytes) -> None:
    """The node's mounts, of which a container may make some."""
    paths = [volume.path for volume in snapshot_volumes(data, Path("/pods"))]
    for path in (*paths, *sandbox_mounts(data, Path("/pods")).values()):
        assert path.is_relative_to("/pods")
        assert ".." not in path.parts


def manifest(data: bytes) -> None:
    """The journal, after anything happened to the disk."""
    try:
        found = manifests.decode(data)
    except ValueError:
        return
    assert manifests.decode(manifests.encode(found)) == found


def bundle(data: bytes) -> None:
    """A runtime's configuration of a container: root's file, with words of the pod in it."""
    found = identity_in(data, Placement(POD, CONTAINER))
    if found is not None:
        assert (found.uid, found.container_id) == (POD, CONTAINER)
        assert manifests.decode(manifests.encode(replace(SAMPLE, pod=found))).pod == found
    wish = wish_in(data)
    assert wish is None or 0 <= wish.hold_seconds < 1e6


def facts(data: bytes) -> None:
    """Environment, command line, descriptors and last lines of a process that has a secret."""
    start, _, rest = data.partition(b"\0")
    spoken = start[: len(start) // 2] + SECRET.encode() + start[len(start) // 2 :]
    variables = b"PASSWORD=%s\0SAID=%s\0%s" % (SECRET.encode(), spoken, rest)
    redactor = Redactor(proc.parse_environ(variables))
    line = b"2024-01-01T00:00:00Z stdout F %s\n" % spoken.replace(b"\n", b" ")
    linked = "/" + proc.decode(spoken)
    found = Facts(
        environment=proc.environment(variables, lambda _: True, redactor, complete=True),
        command=proc.command(b"a\0%s\0%s" % (spoken, rest), redactor, complete=True),
        descriptors=proc.descriptors([proc.descriptor(3, linked, redactor)], 1, complete=True),
        log=parse_log(rest + b"\n" + line, redactor, cut=bool(len(data) & 1)),
    )
    assert found.environment is not None
    kept = msgspec.to_builtins(replace(found, environment=None))
    assert SECRET not in f"{kept}{found.environment.values}"
    _printable(found)


def _printable(found: Facts) -> None:
    """It reads back, is bounded, and no line of it is anybody else's."""
    data = msgspec.json.encode(found)
    assert msgspec.json.decode(data, type=Facts) == found
    assert len(data) < 1 << 20
    for text in (render_facts(found), data.decode()):
        assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f-\x9f\u2028\u202e]", text)


def status(data: bytes) -> None:
    """What the kernel prints of a process, with the one name that the process chose; and noise."""
    # fs/proc/array.c escapes newline and backslash, nothing else.
    comm = data[:15].replace(b"\0", b"").replace(b"\\", b"\\\\").replace(b"\n", b"\\n")
    text = (
        b"Name:\t%s\nState:\tS (sleeping)\nNStgid:\t490\t1\nUid:\t5\t6\t7\t8\nGid:\t1\t2\t3\t4\n"
        b"VmRSS:\t  12 kB\nThreads:\t2\nCapEff:\t0000000000000401\nSeccomp:\t2\n" % comm
    )
    assert status_field(text, b"NStgid:") == [b"490", b"1"]
    assert status_field(text, b"Uid:") == [b"5", b"6", b"7", b"8"]
    found = proc.process(proc.decode(text), "0", 1.0)
    assert (found.uid, found.gid, found.threads, found.resident) == (6, 2, 2, 12 << 10)
    assert found.capabilities == ("CHOWN", "NET_BIND_SERVICE")
    noise = proc.decode(data)
    limits = proc.parse_limits(noise)
    assert len(limits) <= noise.count("\n") + 1
    with suppress(ValueError):
        proc.process(noise, noise[:8], 0.0)
    with suppress(InvalidInputError):
        status_field(data, b"Uid:")


def sockets(data: bytes) -> None:
    """A table of sockets: a path in it may hold lines, which must not speak for other sockets."""
    for protocol, ours, row in (
        (
            "unix",
            b"ffff2: 00000003 00000000 00000000 0001 03 424242 /true",
            Row("unix", "CONNECTED", "/true"),
        ),
        (
            "tcp",
            b"   0: 0100007F:1F90 00000000:0000 0A 00000000:00000000 00:0 00000000 0 0 424242 1",
            Row("tcp", "LISTEN", "127.0.0.1:8080", "0.0.0.0:0"),
        ),
    ):
        first, _, second = data.partition(b"\0")
        rows = parse_table(protocol, b"\n".join([b"header", first, ours, second]))
        assert rows.get(424242, row) == row
        opened = [(number, inode) for number, inode in enumerate([*rows, 424242])]
        listed = match(opened, rows, Redactor())
        assert len(listed) == len(rows.keys() | {424242})
        _printable(Facts(sockets=Sockets(count=1, listed=listed[:SOCKETS], complete=True)))


def cgroupfs(data: bytes) -> None:
    """Mounts whose places and sources a pod chose, and the files of a cgroup."""
    first, _, second = data.partition(b"\0")
    path, source = b"/" + first, second or b"none"
    lines = (
        b"31 24 0:26 %s %s ro,nosuid shared:7 - cgroup2 %s rw\n32 24 0:27 / %s rw - tmpfs %s rw\n"
        % tuple(map(_mangled, (path, path, source, path, source)))
    )
    assert parse_mountinfo(lines) == {31: "cgroup2", 32: "tmpfs"}
    (mount,) = parse_mounts(proc.decode(lines))
    assert (mount.id, mount.root, mount.point) == (31, proc.decode(path), proc.decode(path))
    with suppress(ValueError):
        parse_mounts(proc.decode(data))
    own = proc.decode(path).replace("\n", "")
    for controller in ("memory", "cpu", "pids"):
        for place in places([f"0::{own}", f"4:{controller}:{own}"], [mount], controller):
            assert ".." not in place.path.split("/")
            assert not place.path.startswith("/")
        for version in (1, 2):
            files = dict.fromkeys(FILES[version][controller], proc.decode(first))
            files |= dict.fromkeys(list(files)[: len(second) % 7], "7\n")
            with suppress(ValueError):
                _printable(Facts(cgroup=Cgroup(**{controller: parse(version, controller, files)})))


def _mangled(text: bytes) -> bytes:
    """As ``seq_path`` and ``mangle`` print it (fs/seq_file.c, fs/proc_namespace.c)."""
    for character in b"\\ \t\n#":
        text = text.replace(bytes([character]), b"\\%03o" % character)
    return text


def hs_err(data: bytes) -> None:
    """A JVM's log, up to the stack and the group that the crash is counted in."""
    secret = SECRET.encode()
    data = data.replace(secret, b"")
    log = parse_log_of_jvm(data + b"\njvm_args: -Dpassword=" + secret)
    if log is None:
        return
    assert SECRET not in f"{log}"
    assert max(len(log.native_frames), len(log.java_frames)) <= MAX_FRAMES
    shown = summary(log)
    assert msgspec.json.decode(msgspec.json.encode(shown), type=Java) == shown
    known = [
        Frame(pc=1, trust="cfi", function="f", module="/lib/libx.so", offset=0x10F9),
        Frame(pc=2, trust="frame_pointer"),
        Frame(pc=3, trust="cfi", function="JavaMain", module="/lib/libjli.so", offset=1),
    ]
    thread = Thread(tid=7, frames=known, frames_head=3, frames_total=3)
    merged = with_java_frames(thread, log.stack)
    assert msgspec.json.decode(msgspec.json.encode(merged), type=Thread) == merged
    assert len(merged.frames) == merged.frames_head <= MAX_FRAMES_CRASHED
    if len(merged.frames) < MAX_FRAMES_CRASHED:
        assert [f for f in merged.frames if f.trust == "cfi"] == [known[0], known[2]]
    assert len(stack_lines(merged.frames)) == len(merged.frames[:MAX_STACK_LINES])
    key = fingerprint(merged.frames)
    moved = [replace(f, pc=f.pc + 8, line=f.line + 1) for f in merged.frames]
    assert re.fullmatch(r"v1:[0-9a-f]{16}", key)
    assert fingerprint(moved) == key
    for frame in log.stack:
        assert "(" not in plain(frame.function)
    process = Process(pid=1, tid=7, comm="java", init_process=True)
    contradiction(log, process, SignalInfo(11, 1, 0, 0, 0, 0)).encode("ascii")


def python(data: bytes) -> None:
    """What the child for Python's stacks answers, up to the report that is sent."""
    try:
        threads = msgspec.json.decode(data, type=list[PythonThread])
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return
    native = msgspec.json.decode(next(iter(_answers())), type=Analysis)
    found = with_python(native, threads)
    assert found.fingerprint == native.fingerprint
    assert [thread.frames for thread in found.threads] == [t.frames for t in native.threads]
    answer(msgspec.json.encode(found), must_be_one=True)


def name(data: bytes) -> None:
    """A name in a pod's directory."""
    text = data.decode("utf-8", "surrogateescape")
    with suppress(InvalidInputError):
        assert SnapshotName.parse(text).file == text


@dataclass(frozen=True)
class Target:
    """A function to fuzz and inputs near the real thing."""

    check: Callable[[bytes], None]
    seeds: Callable[[], Iterable[bytes]]


def _cores() -> Iterable[bytes]:
    program = image(b"\x01" * 20)
    small = Core()
    small.thread(7, 11, rip=0x401000, rsp=0x7FFD0000)
    small.process(7, b"cart")
    small.signal(11, 1, at(0x10))
    small.files((0x400000, 0x402000, 0, b"/usr/bin/cart"))
    small.map(0x400000, program, 5, 4096)
    small.map(0x401000, b"\x48\x8b\x42\x10\xc3", 5, 4096)
    yield small.build()
    small.thread(8, 0, rip=1)
    yield small.build()


def _answers() -> Iterable[bytes]:
    for data in _cores():
        yield msgspec.json.encode(
            next(analyze_core(CoreFile.from_bytes(data), -1, (), _syscall, variables=False))
        )


def _notes() -> Iterable[bytes]:
    yield (ROOT / "tests/golden/note-v1.bin").read_bytes()


TARGETS = {
    "core": Target(core, _cores),
    "answer": Target(answer, _answers),
    "note": Target(note, _notes),
    "elf": Target(elf, lambda: [image(b"\x01" * 20), struct.pack("<Q", 0) + image(b"")]),
    "maps": Target(maps, lambda: [b"usr/bin/cart", b"a b\n(deleted)", b"lock:\t1: POSIX  "]),
    "cgroup": Target(
        cgroup,
        lambda: [
            f"0::/kubepods/pod{POD}/{CONTAINER}\n".encode(),
            f"0::/kubepods.slice/kubepods-pod{POD.replace('-', '_')}.slice/"
            f"cri-containerd-{CONTAINER}.scope".encode(),
        ],
    ),
    "mountinfo": Target(
        mountinfo,
        lambda: [
            f"131 128 0:50 / /pods/{POD}/volumes/kubernetes.io~empty-dir/stillframe-shm"
            " rw,relatime master:34 - tmpfs tmpfs rw\n".encode()
        ],
    ),
    "bundle": Target(
        bundle,
        lambda: [
            msgspec.json.encode(
                {
                    "annotations": {f"io.kubernetes.cri.{key}": value for key, value in each},
                    "process": {"env": ["STILLFRAME_CAPTURE=core", "STILLFRAME_HOLD_MS=500"]},
                }
            )
            for each in ([("sandbox-uid", POD), ("sandbox-name", "cart-1")], [])
        ],
    ),
    "manifest": Target(manifest, lambda: [manifests.encode(SAMPLE)]),
    "facts": Target(
        facts,
        lambda: [
            b"--password x\0A_KEY=a-long-secret\0URL=pg://bob:secret@db/x",
            b"token: \0--api-key=7\0-----BEGIN PRIVATE KEY-----\nMIIE\n",
        ],
    ),
    "status": Target(
        status,
        lambda: [
            b"\rUid:\t0",
            b"Uid:\t0\t0\t0\t0\nGid:\t0\t0\t0\t0\nCapEff:\tff\n",
            b"Max open files            1024     unlimited     files     \n",
        ],
    ),
    "sockets": Target(
        sockets,
        lambda: [
            b"ffff1: 00000002 00000000 00010000 0001 01 601 /a\n"
            b"ffff2: 00000003 00000000 00000000 0001 03 424242 /forged",
            b"   1: 0000000000000000FFFF00000100007F:1F90 00000000:0000 01 0:1 0:0 0 0 0 424242 1",
        ],
    ),
    "cgroupfs": Target(
        cgroupfs,
        lambda: [
            b"a\fb\0c d",
            b"nr_periods 3\nnr_throttled 1\nthrottled_usec 7\0",
            b"some avg10=1.50 avg60=0.25 avg300=0.00 total=9\nfull avg10=0 avg60=0 total=1\0xx",
        ],
    ),
    "hs_err": Target(hs_err, lambda: [log.read_bytes() for log in LOGS.glob("*.log")]),
    "python": Target(
        python,
        lambda: [
            b'[{"tid":7,"frames":[{"function":"f","file":"/a/__init__.py","line":3}],'
            b'"frames_total":1},{"tid":8,"frames":[],"frames_total":900}]',
            msgspec.json.encode(
                [
                    PythonThread(
                        tid=7,
                        frames=[PythonFrame(function="f" * 1024, file="g" * 1024, line=1)] * 20,
                        frames_total=20,
                    )
                ]
            ),
        ],
    ),
    "name": Target(name, lambda: [b"0" * 32 + b".part", b"." + b"f" * 32]),
}
