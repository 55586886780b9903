"""The machines of the matrix: how a case is run on each, and what can be told of it there."""

import re
from collections.abc import Mapping
from pathlib import Path

from tests.integration.preload import aarch64
from tests.integration.preload.conftest import AS_INIT, CRASHERS, LIBRARY
from tests.integration.preload.matrix import not_applicable
from tests.integration.preload.matrix.cases import Case


class Machine:
    """The one that the tests run on, x86_64."""

    kernel_core = True
    """Whether a core file of the kernel is the crasher's."""
    init_dies = True
    """Whether what is pid 1 of a pid namespace can die of a signal."""

    def crasher(self, case: Case, libc: str) -> Path:
        return CRASHERS / libc / case.program

    def not_applicable(self, case: Case) -> str:
        """Why a case cannot be run, empty where it can."""
        return ""

    def command(self, case: Case, libc: str, *, library: bool, init: bool) -> list[str]:
        preload = [f"LD_PRELOAD={LIBRARY}"] if library else []
        # The namespace's own parent repeats the death, and must not dump a core of it.
        around = ["prlimit", "--core=0:unlimited", *AS_INIT] if init else []
        crasher = [str(self.crasher(case, libc)), case.way, *case.arguments]
        return [*around, "prlimit", "--core=unlimited", "env", *preload, *crasher]

    def said(self, stderr: bytes) -> bytes:
        """What the crasher and those it starts wrote to stderr."""
        return stderr


class Emulated(Machine):
    """aarch64, by qemu-user."""

    kernel_core = False
    init_dies = False

    def crasher(self, case: Case, libc: str) -> Path:
        return CRASHERS / f"aarch64-{libc}" / case.program

    def not_applicable(self, case: Case) -> str:
        return not_applicable.WAYS.get(case.way, "")

    def command(self, case: Case, libc: str, *, library: bool, init: bool) -> list[str]:
        return aarch64.emulated(
            f"aarch64-{libc}",
            self.crasher(case, libc),
            case.way,
            *case.arguments,
            library=aarch64.LIBRARY if library else None,
            init=init,
        )

    def said(self, stderr: bytes) -> bytes:
        """The host's programs are offered our library, too: their loader says that it is none."""
        of_loader = rb"ERROR: ld\.so: object '%b' from LD_PRELOAD cannot be preloaded [^\n]*\n"
        return re.sub(of_loader % re.escape(bytes(aarch64.LIBRARY)), b"", stderr)


MACHINES: Mapping[str, Machine] = {"x86_64": Machine(), "aarch64": Emulated()}
"""By architecture."""
