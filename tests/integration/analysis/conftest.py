"""Real crashes: snapshots of our library, kernel cores, gcore's; and programs built on the spot."""

import resource
import subprocess
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from mmap import PROT_READ, mmap
from pathlib import Path

import pytest

from stillframe.analysis import Analysis, Limits, analyze
from stillframe.corefile import CoreFile

ROOT = Path(__file__).parents[3]
LIBRARY = ROOT / "build/preload/x86_64/libstillframe.so"
CRASHERS = ROOT / "build/crashers"
SECONDS = 30


def mapped_files(core: Path) -> list[str]:
    with core.open("rb") as file:
        files = CoreFile.from_bytes(mmap(file.fileno(), 0, prot=PROT_READ)).files
    return [path for path in dict.fromkeys(file.path for file in files) if Path(path).is_file()]


def analyze_file(
    core: Path,
    modules: Sequence[tuple[str, Path]] | None = None,
    limits: Limits | None = None,
    *,
    variables: bool = True,
) -> Analysis:
    """Analyze by the files at the paths the core names, or by those given."""
    if modules is None:
        modules = [(path, Path(path)) for path in mapped_files(core)]
    with ExitStack() as stack:
        opened = [(path, stack.enter_context(file.open("rb")).fileno()) for path, file in modules]
        core_fd = stack.enter_context(core.open("rb")).fileno()
        return analyze(core_fd, opened, limits=limits, variables=variables)


def compile_c(source: str | Path, target: Path, *flags: str) -> Path:
    """Build a C program from a file or from text; its paths are the caller's."""
    if isinstance(source, str):
        text, source = source, target.with_suffix(".c")
        source.write_text(text)
    subprocess.run(["gcc", "-g", *flags, "-o", target, source, "-pthread"], check=True)
    return target


@pytest.fixture
def snapshot(tmp_path: Path) -> Callable[..., Path]:
    """Runs a command under our library and returns its snapshot."""

    def run(*command: str | Path) -> Path:
        directory = tmp_path / f"snapshots{len(list(tmp_path.iterdir()))}"
        directory.mkdir()
        environment = {"LD_PRELOAD": str(LIBRARY), "STILLFRAME_DIR": str(directory)}
        subprocess.run(command, env=environment, timeout=SECONDS, check=False, capture_output=True)
        (core,) = directory.glob("*.core")
        return core

    return run


@pytest.fixture
def kernel_core(tmp_path: Path) -> Iterator[Callable[..., Path]]:
    """Runs a command without our library and returns the kernel's core."""
    pattern = Path("/proc/sys/kernel/core_pattern").read_text().strip()
    assert pattern[0] not in "|@/", f"needs kernel.core_pattern=core, it is {pattern!r}"

    def run(*command: str | Path) -> Path:
        directory = tmp_path / f"cores{len(list(tmp_path.iterdir()))}"
        directory.mkdir()
        subprocess.run(
            ["sh", "-c", 'ulimit -c unlimited; exec "$@"', "sh", *command],
            cwd=directory,
            timeout=SECONDS,
            check=False,
            capture_output=True,
        )
        (core,) = directory.glob("core*")
        return core

    limits = resource.getrlimit(resource.RLIMIT_CORE)
    yield run
    assert resource.getrlimit(resource.RLIMIT_CORE) == limits


def crasher(libc: str) -> Path:
    return CRASHERS / libc / "crasher"


def functions(analysis: Analysis) -> list[str]:
    """Named functions of the crashing thread, physical and inline, innermost first."""
    return [frame.function for frame in analysis.threads[0].frames if frame.function]
