"""Handlers of the kernel's cores, as peers: ``zstd -1``, systemd-coredump, minicoredumper.

``core_pattern`` (core(5)) belongs to the whole machine: it is changed for each run of a handler and
put back after it.  The last two are Debian's, unpacked and not installed.  systemd-coredump's
second half is started by systemd-socket-activate instead of systemd.
"""

import json
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final, NamedTuple

BUILD: Final = Path(__file__).parents[2] / "build/bench/core/handlers"
PATTERN: Final = Path("/proc/sys/kernel/core_pattern")
PIPE_LIMIT: Final = Path("/proc/sys/kernel/core_pipe_limit")
SOCKET: Final = Path("/run/systemd/coredump")
STORE: Final = Path("/var/lib/systemd/coredump")
"""Where systemd-coredump stores cores; it cannot be told another place."""
CORE: Final = "core.memory.*.zst"
"""Of our process: others may crash at the same time."""
Dump = Callable[[], float]
"""Crashes a process; ms until it was reaped."""


class Handled(NamedTuple):
    """What came of a crash."""

    ms: float
    cpu_ms: float
    """Of a handler that is the kernel's child and not ours."""
    file: Path


def unpack(package: str) -> Path:
    """The files of a Debian package, of the version that fits what is installed."""
    root = BUILD / package
    if not root.exists():
        BUILD.mkdir(parents=True, exist_ok=True)
        wanted = package
        if package == "systemd-coredump":  # shares a library of exactly its version
            query = ["dpkg-query", "-W", "-f=${Version}", "libsystemd-shared"]
            done = subprocess.run(query, check=True, capture_output=True, text=True)
            wanted = f"{package}={done.stdout}"
        subprocess.run(["apt-get", "-qq", "download", wanted], cwd=BUILD, check=True)
        (archive,) = BUILD.glob(f"{package}_*.deb")
        subprocess.run(["dpkg", "-x", archive, root], check=True)
    return root


@contextmanager
def handled_by(command: str, wait_for: int) -> Iterator[None]:
    """The kernel pipes cores to ``command`` meanwhile, and waits for so many handlers at once."""
    before = PATTERN.read_text(), PIPE_LIMIT.read_text()
    try:
        PIPE_LIMIT.write_text(str(wait_for))
        PATTERN.write_text(f"|{command}")
        yield
    finally:
        PATTERN.write_text(before[0])
        PIPE_LIMIT.write_text(before[1])


def to_file(dump: Dump, place: Path) -> Handled:
    """The kernel itself, in the directory of the process."""
    elapsed = dump()
    (core,) = place.glob("core*")
    return Handled(elapsed, 0, core)


def to_zstd(dump: Dump, place: Path) -> Handled:
    """The kernel's pipe to ``zstd -1``."""
    core = place / "core.zst"
    handler = _script("zstd", f"zstd -q -1 -o {core}", place)
    with handled_by(str(handler), 0):
        elapsed = dump()
        return Handled(elapsed, _cpu_ms(place), core)


def to_minicoredumper(dump: Dump, place: Path) -> Handled:
    """minicoredumper as it comes: a core of the stacks and of some lists of the C library."""
    root = unpack("minicoredumper")
    recept = root / "etc/minicoredumper/generic.recept.json"
    config = BUILD / "mini.json"
    watch = {"base_dir": str(place), "watch": [{"recept": str(recept)}]}
    config.write_text(json.dumps(watch))
    handler = _script("mini", f'{root}/usr/sbin/minicoredumper "$@" {config}', place)
    with handled_by(f"{handler} %P %u %g %s %t %h %e", 1):
        elapsed = dump()
    cpu_ms = _cpu_ms(place)
    (core,) = place.glob("*/core*")
    return Handled(elapsed, cpu_ms, core)


def to_systemd(dump: Dump, place: Path) -> Handled:
    """systemd-coredump as it comes; the file is moved to ``place``."""
    program = unpack("systemd-coredump") / "lib/systemd/systemd-coredump"
    handler = _script("systemd", f'{program} "$@"', place)
    SOCKET.unlink(missing_ok=True)
    activate = ["systemd-socket-activate", "--seqpacket", "--accept", f"--listen={SOCKET}"]
    with subprocess.Popen([*activate, program], stderr=subprocess.DEVNULL) as server:
        _wait(SOCKET.exists)
        with handled_by(f"{handler} %P %u %g %s %t 9223372036854775808 %h", 16):
            elapsed = dump()
        _wait(lambda: any(STORE.glob(CORE)))
        server.terminate()
    SOCKET.unlink()
    (core,) = STORE.glob(CORE)
    shutil.move(core, place)
    return Handled(elapsed, _cpu_ms(place), place / core.name)


def _script(name: str, command: str, place: Path) -> Path:
    """A handler: the kernel takes no more than 128 bytes, and no quotes."""
    BUILD.mkdir(parents=True, exist_ok=True)
    script, times = BUILD / name, place / "times"
    script.write_text(f"#!/bin/sh\n{command}\ntimes > {times}.part\nmv {times}.part {times}\n")
    script.chmod(0o755)
    return script


def _cpu_ms(place: Path) -> float:
    """Waits until a handler has ended; what it took, by ``times`` of sh(1)."""
    times = place / "times"
    _wait(times.exists)
    _own, children = times.read_text().splitlines()
    times.unlink()
    values = (value.rstrip("s").split("m") for value in children.split())
    return sum(float(minutes) * 60e3 + float(seconds) * 1e3 for minutes, seconds in values)


def _wait(there: Callable[[], bool]) -> None:
    while not there():
        time.sleep(0.001)
