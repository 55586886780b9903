"""Stacks of real crashes: equal to gdb's and eu-stack's, for every kind of core and libc."""

import re
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.integration.analysis.conftest import analyze_file, compile_c, crasher, functions
from tests.support.oracles import eu_stack_frames

MakeCore = Callable[..., Path]
WAYS = ["null_write", "wild", "ro_write", "div0", "ill", "abort_call", "assert_false", "kill_self"]


def own(app: Path, names: list[str]) -> list[str]:
    """The program's own functions: those of libc have other names where it has debug info."""
    symbols = subprocess.run(["nm", app], check=True, capture_output=True, text=True).stdout
    defined = {line.split()[2] for line in symbols.splitlines() if line.split()[-2] in "tT"}
    return [name for name in names if name in defined - {"_start"}]


def gdb_frames(app: Path, core: Path) -> list[str]:
    """Functions by gdb, innermost first."""
    command = ["gdb", "-batch", "-nx", "-iex", "set debuginfod enabled off"]
    done = subprocess.run(
        [*command, app, "-c", core, "-ex", "echo BACKTRACE\\n", "-ex", "bt"],
        capture_output=True,
        text=True,
        check=True,
    )
    trace = done.stdout.partition("BACKTRACE")[2]
    return re.findall(r"^#\d+ +(?:0x[0-9a-f]+ in )?([\w.@]+) \(", trace, re.MULTILINE)


@pytest.mark.parametrize("libc", ["glibc", "glibc-nopie"])
@pytest.mark.parametrize("way", WAYS)
def test_a_snapshot_has_the_debuggers_stack(snapshot: MakeCore, libc: str, way: str) -> None:
    app = crasher(libc)
    core = snapshot(app, way)
    found = own(app, functions(analyze_file(core)))
    assert found == [way, "main"]
    assert found == own(app, gdb_frames(app, core))
    assert found == own(app, eu_stack_frames(app, core))


@pytest.mark.parametrize("way", ["null_write", "abort_call", "thread_segv"])
def test_a_kernel_core_has_the_debuggers_stack(kernel_core: MakeCore, way: str) -> None:
    app = crasher("glibc")
    core = kernel_core(app, way)
    found = own(app, functions(analyze_file(core)))
    assert len(found) == 2
    assert found == own(app, gdb_frames(app, core))
    assert found == own(app, eu_stack_frames(app, core))


@pytest.mark.parametrize(
    "way", [*WAYS, "call_null", "exec_data", "seccomp_trap", "raise_segv", "raise_abrt"]
)
@pytest.mark.parametrize("libc", ["glibc", "musl"])
def test_the_function_that_died_is_the_top_frame(snapshot: MakeCore, libc: str, way: str) -> None:
    """On musl, without call frame information, that is the work of the scan."""
    analysis = analyze_file(snapshot(crasher(libc), way))
    assert re.match(rf"{way} \(\w+\.c:\d+\)$", analysis.top_frame)
    assert functions(analysis)[-1] in {"main", "_start"}
    assert analysis.soft_errors == []


def test_frames_of_a_scan_are_labelled(snapshot: MakeCore) -> None:
    analysis = analyze_file(snapshot(crasher("musl"), "abort_call"))
    trusts = {frame.function: frame.trust for frame in analysis.threads[0].frames}
    assert trusts["abort_call"] == "scan"
    assert any(line.endswith(" [scan]") for line in analysis.stack)


def test_frames_found_by_call_frame_information_are_trusted(snapshot: MakeCore) -> None:
    frames = analyze_file(snapshot(crasher("glibc"), "abort_call")).threads[0].frames
    assert [frame.trust for frame in frames] == ["context", *["cfi"] * (len(frames) - 1)]


def test_all_threads_have_stacks(snapshot: MakeCore) -> None:
    analysis = analyze_file(snapshot(crasher("glibc"), "with_threads", "7"))
    assert analysis.threads_total == 8
    waiting = [[f.function for f in thread.frames] for thread in analysis.threads[1:]]
    assert all("wait_here" in names for names in waiting)


def test_inline_frames_are_told_apart(snapshot: MakeCore, tmp_path: Path) -> None:
    source = """
        static inline __attribute__((always_inline)) void inner(volatile int *p) { *p = 1; }
        static __attribute__((noinline)) void outer(volatile int *p) { inner(p); }
        int main(int argc, char **argv) { outer((int *)(argc - 1L)); return argv == 0; }
    """
    analysis = analyze_file(snapshot(compile_c(source, tmp_path / "app", "-O1")))
    frames = analysis.threads[0].frames
    assert [(f.function, f.inline) for f in frames[:3]] == [
        ("inner", True),
        ("outer", False),
        ("main", False),
    ]
    assert frames[0].pc == frames[1].pc


def test_a_deep_stack_keeps_both_ends(kernel_core: MakeCore, tmp_path: Path) -> None:
    source = """
        static int deep(int n) { volatile int x = n; return n ? deep(n - 1) + x : *(int *)0; }
        int main(void) { return deep(500); }
    """
    thread = analyze_file(kernel_core(compile_c(source, tmp_path / "app"))).threads[0]
    assert thread.frames_total > 500
    assert thread.frames_head < len(thread.frames) < 200
    assert "main" in [frame.function for frame in thread.frames[thread.frames_head :]]


def test_the_process_may_be_alive(tmp_path: Path) -> None:
    app = compile_c("int main(void) { for (;;) __builtin_ia32_pause(); }", tmp_path / "app")
    with subprocess.Popen([app]) as process:
        try:
            deadline = time.monotonic() + 10
            while Path(f"/proc/{process.pid}/stat").read_text().split()[13] == "0":
                assert time.monotonic() < deadline, "the program does not run"
                time.sleep(0.01)
            gcore = ["gcore", "-o", str(tmp_path / "live"), str(process.pid)]
            subprocess.run(gcore, check=True, capture_output=True)
        finally:
            process.kill()
    analysis = analyze_file(tmp_path / f"live.{process.pid}")
    assert analysis.cause == "no signal: a snapshot of a live process"
    assert functions(analysis)[0] == "main"


def stripped(app: Path, *arguments: str) -> Path:
    subprocess.run(["strip", *arguments, app], check=True)
    return app


SOURCE = "void exported(void) { *(volatile int *)0 = 1; } int main(void) { exported(); }"


def test_without_debug_info_a_frame_is_function_and_offset(
    snapshot: MakeCore, tmp_path: Path
) -> None:
    core = snapshot(stripped(compile_c(SOURCE, tmp_path / "app"), "-g"))
    top = analyze_file(core).top_frame
    assert top.startswith("exported (app+0x")


def test_without_symbols_a_frame_is_module_and_offset(snapshot: MakeCore, tmp_path: Path) -> None:
    app = compile_c(SOURCE, tmp_path / "app")
    whole = subprocess.run(["nm", app], check=True, capture_output=True, text=True).stdout
    (start,) = (int(line.split()[0], 16) for line in whole.splitlines() if " exported" in line)
    analysis = analyze_file(snapshot(stripped(app)))
    assert analysis.top_frame.startswith("app+0x")
    assert 0 < int(analysis.top_frame.removeprefix("app+"), 16) - start < 64


def test_debug_info_may_come_from_another_file(snapshot: MakeCore, tmp_path: Path) -> None:
    app, debug = compile_c(SOURCE, tmp_path / "app"), tmp_path / "found-later"
    subprocess.run(["objcopy", "--only-keep-debug", app, debug], check=True)
    core = snapshot(stripped(app))
    analysis = analyze_file(core, [(str(app), app), (str(debug), debug)])
    assert analysis.top_frame == "exported (app.c:1)"


def test_another_build_of_a_module_is_not_used(snapshot: MakeCore, tmp_path: Path) -> None:
    app, other = compile_c(SOURCE, tmp_path / "app"), compile_c(SOURCE, tmp_path / "other", "-O2")
    analysis = analyze_file(snapshot(app), [(str(app), other)])
    assert [m.status for m in analysis.modules if m.path == str(app)] == ["mismatch"]
    assert analysis.top_frame.startswith("app+0x")


def test_files_of_the_host_are_never_used(snapshot: MakeCore) -> None:
    """The paths and build IDs in this core are the host's, so drgn's own finders would succeed."""
    analysis = analyze_file(snapshot(crasher("glibc"), "null_write"), [])
    assert {module.status for module in analysis.modules} == {"missing"}
    assert functions(analysis) == []
    assert analysis.cause == "null pointer: access at 0x0"
