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
from stillframe_agent.identity import Placement, parse_cgroup
from stillframe_agent.manifest import Manifest, Phase
from stillframe_agent.mounts import sandbox_mounts, snapshot_volumes
from stillframe_agent.pods import PodIdentity, identity_in, wish_in
from stillframe_agent.report import build

from stillframe.analysis import Analysis, render_text
from stillframe.analysis.cfi import has_cfi
from stillframe.analysis.pipeline import analyze_core
from stillframe.capture.handover import SnapshotName
from stillframe.capture.identity import _parse_stat, _shows_lock
from stillframe.capture.modules import parse_maps
from stillframe.corefile import CoreFile
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
    "name": Target(name, lambda: [b"0" * 32 + b".part", b"." + b"f" * 32]),
}
