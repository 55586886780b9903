"""aarch64 by qemu-user: how a crasher runs there.

What cannot be tried without such a machine is in `matrix.not_applicable`.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from tests.integration.preload.conftest import AS_INIT, CRASHERS, NO_CORE, ROOT, Stage, crasher_of

LIBRARY = ROOT / "build/preload/aarch64/libstillframe.so"
COPIER = ROOT / "build/preload/aarch64/stillframe-copy"
REFUSE_QUEUEING = CRASHERS / "refuse_queueing"
"""The library needs it around it: qemu-user dies of a queued SIGSEGV or SIGBUS."""
SYSROOTS: Mapping[str, Path] = {
    "aarch64-glibc": Path("/usr/aarch64-linux-gnu"),
    "aarch64-glibc-nopie": Path("/usr/aarch64-linux-gnu"),
    "aarch64-musl": ROOT / "build/arm64-musl",
}
LIBCS = tuple(SYSROOTS)


def emulated(
    libc: str, program: Path, *arguments: str, library: Path | None, init: bool, cpu: str = "max"
) -> list[str]:
    """The command that runs a program of one of :data:`LIBCS`, `library` preloaded."""
    return [
        *NO_CORE,
        *(AS_INIT if init else ()),
        *([str(REFUSE_QUEUEING)] if library else []),
        *emulator(libc, library, cpu),
        *(str(program), *arguments),
    ]


def emulator(libc: str, library: Path | None, cpu: str = "max") -> list[str]:
    preload = ["-E", f"LD_PRELOAD={library}"] if library else []
    return ["qemu-aarch64", "-cpu", cpu, "-L", str(SYSROOTS[libc]), *preload]


@dataclass(frozen=True)
class EmulatedStage(Stage):
    """A :class:`Stage` whose ``libc`` is one of :data:`LIBCS`."""

    library: Path = LIBRARY
    cpu: str = "max"

    def command(self, libc: str, way: str, *arguments: str, library: bool, init: bool) -> list[str]:
        preloaded = self.library if library else None
        words = (way, *arguments)
        return emulated(libc, crasher_of(libc), *words, library=preloaded, init=init, cpu=self.cpu)
