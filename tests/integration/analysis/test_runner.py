"""The parent's side: what is left when the child dies, hangs, lies or cannot start.

`sabotage` lets the interpreter of the child run code of the test where drgn
would open the core; production code has no hook for it.
"""

import os
import random
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest

from stillframe.analysis import Analysis, AnalysisError, Limits, analyze
from tests.integration.analysis.conftest import ROOT, analyze_file, compile_c, crasher, mapped_files
from tests.support.crashers import line_of

MakeCore = Callable[..., Path]
Sabotage = Callable[[str], None]


@pytest.fixture
def core(snapshot: MakeCore) -> Path:
    return snapshot(crasher("glibc"), "null_write")


@pytest.fixture
def sabotage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Sabotage:
    """Makes the child run a statement instead of drgn (sitecustomize comes before all imports)."""

    def install(statement: str) -> None:
        (tmp_path / "sitecustomize.py").write_text(
            f"import ctypes, os, sys, time\n"
            f"def act():\n    {statement}\n"
            f"if sys.orig_argv[-1] == 'stillframe.analysis':\n"
            f"    import drgn\n    drgn.Program = act\n"
        )
        monkeypatch.syspath_prepend(str(tmp_path))

    return install


LARGE = """#include <stdlib.h>
#include <unistd.h>
int main(void) {
    char *memory = calloc(1, 3UL << 30);
    memory[0] = *(char *)0;
}"""
DEATHS = {
    "ctypes.string_at(0)": "the child was killed by SIGSEGV",
    "os.abort()": "the child was killed by SIG",
    "raise ValueError('bad DWARF')": "ValueError: bad DWARF",
    "bytearray(4 << 30)": "MemoryError",
    "open('/etc/passwd')": "PermissionError: [Errno 1] Operation not permitted: '/etc/passwd'",
    "os._exit(3)": "exit status 3",
    "while True: pass": "the child was killed by SIGXCPU (CPU time limit)",
    "time.sleep(60)": "PermissionError",
    "sys.stdin.read(); os.read(os.dup(1), 1)": "OSError",
    "print('{}'); sys.stdout.flush(); os._exit(0)": "the child answered nonsense: ",
    "print('no JSON')\n    sys.stdout.flush(); os._exit(0)": "the child answered nonsense: ",
    "while True: os.write(1, b'x' * 65536)": "answered more than ",
    "while True: os.write(2, b'x' * 65536)": "",
}


@pytest.mark.parametrize("statement", DEATHS)
def test_a_child_that_fails_costs_the_symbols_and_not_the_report(
    core: Path, sabotage: Sabotage, statement: str
) -> None:
    sabotage(statement)
    started = time.monotonic()
    analysis = analyze_file(core, limits=Limits(wall_seconds=20, cpu_seconds=1))
    assert time.monotonic() - started < 20
    assert analysis.signal.name == "SIGSEGV"
    assert analysis.cause.startswith("null pointer: write of 4 bytes")
    assert analysis.top_frame.startswith("crasher+0x")
    assert analysis.note is not None
    assert DEATHS[statement] in analysis.soft_errors[-1]
    assert analysis.soft_errors[-1].startswith("analysis incomplete: ")


def test_a_child_that_hangs_is_stopped_in_time(core: Path, sabotage: Sabotage) -> None:
    sabotage("import _thread; lock = _thread.allocate_lock(); lock.acquire(); lock.acquire()")
    started = time.monotonic()
    analysis = analyze_file(core, limits=Limits(wall_seconds=3))
    assert 3 <= time.monotonic() - started < 6
    assert analysis.soft_errors == ["analysis incomplete: stopped after 3 s"]
    with pytest.raises(ChildProcessError):
        os.waitpid(-1, os.WNOHANG)


def test_without_any_answer_in_time_it_is_an_error(core: Path) -> None:
    with pytest.raises(AnalysisError, match=r"the analysis failed: stopped after 0.001 s"):
        analyze_file(core, limits=Limits(wall_seconds=0.001))


@pytest.mark.parametrize(
    ("content", "reason"),
    [(b"", "NotElf"), (b"#!/bin/sh\n" * 99, "NotElf"), (Path("/bin/true").read_bytes(), "NotCore")],
)
def test_what_is_no_core_is_an_error_with_a_reason(
    tmp_path: Path, content: bytes, reason: str
) -> None:
    file = tmp_path / "file"
    file.write_bytes(content)
    with pytest.raises(AnalysisError, match=f"not a readable core: {reason}: "):
        analyze_file(file, [])


def test_modules_that_kill_the_child_at_once_are_left_out(
    core: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a pod does that truncates its executable while the child has it mapped."""
    app = tmp_path / "app"
    app.write_bytes(crasher("glibc").read_bytes())
    (tmp_path / "sitecustomize.py").write_text(
        "import mmap, os, sys\n"
        "class Truncating(mmap.mmap):\n"
        "    def __new__(cls, fd, size, **more):\n"
        "        found = super().__new__(cls, fd, size, **more)\n"
        f"        if os.readlink(f'/proc/self/fd/{{fd}}') == {str(app)!r}:\n"
        f"            os.truncate({str(app)!r}, 0)\n"
        "        return found\n"
        "if sys.orig_argv[-1] == 'stillframe.analysis':\n"
        "    from stillframe.analysis import sandbox\n"
        "    sandbox.lock_down = lambda *_: None\n"
        "    mmap.mmap = Truncating\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    analysis = analyze_file(core, [(str(crasher("glibc")), app)])
    assert analysis.signal.name == "SIGSEGV"
    assert analysis.soft_errors == ["analysis incomplete: the child was killed by SIGBUS"]


def test_the_callers_files_stay_open_and_where_they_were(core: Path) -> None:
    with core.open("rb") as file, crasher("glibc").open("rb") as app:
        file.seek(7)
        app.seek(9)
        analyze(file.fileno(), [(str(crasher("glibc")), app.fileno())])
        assert (file.tell(), app.tell()) == (7, 9)


def test_the_child_gets_no_other_file(core: Path, sabotage: Sabotage) -> None:
    sabotage("pass")
    hook = Path(sys.path[0]) / "sitecustomize.py"
    hook.write_text(
        "import os, sys\n"
        "if sys.orig_argv[-1] == 'stillframe.analysis':\n"
        "    fds = [f'/proc/self/fd/{n}' for n in os.listdir('/proc/self/fd')]\n"
        "    sys.exit(str({os.readlink(fd) for fd in fds if os.path.lexists(fd)}))\n"
    )
    with Path("/etc/hostname").open() as inherited, core.open("rb") as file:
        os.set_inheritable(inherited.fileno(), True)
        with pytest.raises(AnalysisError) as caught:
            analyze(file.fileno())
    assert str(core) in str(caught.value)
    assert "hostname" not in str(caught.value)


def test_a_module_of_absurd_size_is_left_out(core: Path, tmp_path: Path) -> None:
    huge = tmp_path / "huge"
    huge.write_bytes(crasher("glibc").read_bytes())
    os.truncate(huge, 1 << 40)
    analysis = analyze_file(core, [(str(crasher("glibc")), huge)])
    assert analysis.soft_errors == [f"{crasher('glibc')}: left out, {1 << 40} bytes are too many"]
    assert analysis.top_frame.startswith("crasher+0x")


def test_a_large_core_is_analyzed(kernel_core: MakeCore, tmp_path: Path) -> None:
    app = compile_c(LARGE, tmp_path / "app")
    core = kernel_core(app)
    assert core.stat().st_size > 3 << 30
    assert analyze_file(core).top_frame == "main (app.c:5)"


@pytest.mark.parametrize("seed", range(12))
def test_damaged_modules_never_cost_the_report(core: Path, tmp_path: Path, seed: int) -> None:
    choice, modules = random.Random(seed), []
    for number, path in enumerate(mapped_files(core)):
        damaged = bytearray(Path(path).read_bytes())
        for _ in range(choice.randrange(1, 200)):
            damaged[choice.randrange(64, len(damaged))] = choice.randrange(256)
        file = tmp_path / str(number)
        file.write_bytes(damaged)
        modules.append((path, file))
    analysis = analyze_file(core, modules)
    assert analysis.signal.name == "SIGSEGV"
    assert analysis.threads[0].frames


@pytest.mark.parametrize("seed", range(12))
def test_damaged_cores_end_in_an_answer_or_an_error(core: Path, seed: int) -> None:
    choice, damaged = random.Random(seed), bytearray(core.read_bytes())
    for _ in range(choice.randrange(1, 40)):
        damaged[choice.randrange(4096)] = choice.randrange(256)
    modules = [(path, Path(path)) for path in mapped_files(core)]
    core.write_bytes(damaged)
    with suppress(AnalysisError):
        assert isinstance(analyze_file(core, modules), Analysis)


SCRIPT = """
import resource, sys
from pathlib import Path
from tests.integration.analysis.conftest import analyze_file
analysis = analyze_file(Path(sys.argv[1]))
print(analysis.top_frame, analysis.soft_errors)
print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss // 1024)
"""
AGENT = ("setpriv", "--bounding-set=-all,+sys_ptrace,+dac_read_search", "--inh-caps=-all")
NO_LIBSECCOMP = (
    *("unshare", "--mount", "sh", "-c"),
    'mount --bind /dev/null /etc/ld.so.cache && exec "$@"',
    "sh",
)


def analyze_under(wrapper: tuple[str, ...], core: Path) -> "subprocess.CompletedProcess[str]":
    environment = {"PYTHONPATH": f"{ROOT}:{ROOT / 'src'}", "PATH": "/usr/sbin:/usr/bin:/sbin:/bin"}
    return subprocess.run(
        [*wrapper, sys.executable, "-B", "-c", SCRIPT, core],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        cwd="/",
    )


def test_the_agents_two_capabilities_are_enough(core: Path) -> None:
    done = analyze_under(AGENT, core)
    assert done.stdout.startswith(f"{line_of('null_write')} []\n"), done.stderr


def test_the_child_stays_small(core: Path) -> None:
    megabytes = int(analyze_under((), core).stdout.splitlines()[1])
    assert 20 < megabytes < 150


def test_a_missing_libseccomp_is_said_and_not_worked_around(core: Path) -> None:
    done = analyze_under(NO_LIBSECCOMP, core)
    assert "AnalysisError: libseccomp is missing" in done.stderr
    assert "apt install libseccomp2" in done.stderr
