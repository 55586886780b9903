"""``stillframe bundle``: one archive, one command, on a machine without the program.

Covers: snapshot and full core, a bare core, glibc and musl, debug files, a
program that was built anew, names that want to be commands, what is refused.
"""

import os
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Callable
from io import BytesIO
from pathlib import Path

import pytest

from stillframe import names
from stillframe.bundle import Contents, write_bundle
from tests.integration.capture.crash import CRASHER, MUSL_CRASHER
from tests.integration.cli.conftest import Local
from tests.support.bundles import debug, frames, libraries, unpack

STACK = ["null_read", "with_threads", "main"]


def run_bundle(local: Local, *arguments: object) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-m", "stillframe.cli", "bundle", *map(str, arguments)],
        env=local.environment(),
        capture_output=True,
        text=True,
        check=False,
    )


def evidence(local: Local, program: Path, *arguments: str, core: bool = False) -> Path:
    """Of a crash of a copy of ``program``, which is not ours to keep."""
    local.run(program, *arguments, options=("--core",) if core else ())
    (directory,) = local.keep.iterdir()
    return directory


@pytest.mark.parametrize(
    ("program", "core", "suffix"),
    [(CRASHER, False, "tar"), (CRASHER, True, "tar.zst"), (MUSL_CRASHER, False, "tar.zst")],
    ids=["snapshot", "core", "musl"],
)
def test_gdb_shows_the_stack_where_the_program_never_was(
    local: Local, tmp_path: Path, program: Path, core: bool, suffix: str
) -> None:
    copy = Path(shutil.copy(program, tmp_path / "my program"))
    directory = evidence(local, copy, "with_threads", "3", core=core)
    bundle = tmp_path / f"bundle.{suffix}"
    done = run_bundle(local, directory, "-o", bundle)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    copy.unlink()
    shutil.rmtree(local.keep)
    laptop = unpack(bundle, tmp_path / "some where")
    assert laptop.name == directory.name
    text = debug(laptop, "info sharedlibrary", "thread apply all bt 1", "thread 1", "bt")
    assert frames(text)[:3] == STACK
    assert text.count("\nThread ") == 4
    used = libraries(text)
    expected = {"libc.so.6"} if program == CRASHER else {"libstillframe.so"}
    assert {path.name for path in used} >= expected
    assert [path for path in used if not path.is_relative_to(laptop)] == []
    assert (laptop / names.ARTIFACT_REPORT_TEXT).exists()


def test_a_bare_core_and_an_image_that_is_unpacked_elsewhere(local: Local, tmp_path: Path) -> None:
    copy = Path(shutil.copy(CRASHER, tmp_path / "program"))
    core = evidence(local, copy, "null_read") / names.ARTIFACT_SNAPSHOT
    (image := tmp_path / "image").mkdir()
    moved = image / copy.relative_to("/")
    moved.parent.mkdir(parents=True)
    copy.rename(moved)
    done = run_bundle(local, core, "--root", image, "-o", tmp_path / "b.tar")
    assert done.returncode == 0
    assert "libc.so.6' is not below" in done.stderr
    text = debug(unpack(tmp_path / "b.tar", tmp_path / "laptop"), "bt")
    assert frames(text)[0] == "null_read"


def test_a_full_core_without_a_snapshot_is_evidence(local: Local, tmp_path: Path) -> None:
    """As ``stillframe snapshot`` leaves it."""
    local.run(CRASHER, "null_read", options=("--core", "--no-compress"))
    (directory,) = local.keep.iterdir()
    (directory / names.ARTIFACT_SNAPSHOT).unlink()
    assert run_bundle(local, directory, "-o", tmp_path / "b.tar").returncode == 0
    text = debug(unpack(tmp_path / "b.tar", tmp_path / "laptop"), "bt")
    assert frames(text)[0] == "null_read"


def test_debug_files_are_found_by_build_id(
    local: Local, tmp_path: Path, build: Callable[..., Path]
) -> None:
    source = "static void dies(volatile int *p) { *p = 1; }\nint main(void) { dies(0); }"
    program = build(source, "-O0", "-Wl,--build-id")
    symbols = tmp_path / "program.debug"
    for command in (
        ["objcopy", "--only-keep-debug", program, symbols],
        ["strip", program],
    ):
        subprocess.run(command, check=True)
    directory = evidence(local, program)
    bundle = tmp_path / "bundle.tar.zst"
    assert run_bundle(local, directory, "--debug-file", symbols, "-o", bundle).returncode == 0
    program.unlink()
    symbols.unlink()
    assert "dies (p=0x0) at <stdin>:1" in debug(unpack(bundle, tmp_path / "laptop"), "bt")


def test_a_debug_file_without_a_build_id_is_refused(local: Local, tmp_path: Path) -> None:
    core = evidence(local, CRASHER, "null_read") / names.ARTIFACT_SNAPSHOT
    done = run_bundle(local, core, "--debug-file", __file__, "-o", tmp_path / "bundle.tar")
    assert done.returncode == 1
    assert f"{__file__} has no build ID" in done.stderr
    assert not (tmp_path / "bundle.tar").exists()


def test_a_program_that_was_built_anew_is_left_out(
    local: Local, tmp_path: Path, build: Callable[..., Path]
) -> None:
    source = "int main(void) { *(volatile int *)0 = 1; }"
    directory = evidence(local, build(source, "-Wl,--build-id"))
    program = build(f"int new;\n{source}", "-Wl,--build-id")
    done = run_bundle(local, directory, "-o", tmp_path / "bundle.tar")
    assert done.returncode == 0
    assert f"{str(program)!r} is of another build than the one that crashed" in done.stderr
    laptop = unpack(tmp_path / "bundle.tar", tmp_path / "laptop")
    assert not (laptop / "program").exists()
    assert "SIGSEGV" in debug(laptop, "info threads")


def test_paths_of_the_process_neither_lead_out_nor_run(tmp_path: Path) -> None:
    evil = [
        "/app/$(touch ran)'; touch ran; '\n-ex shell touch ran",
        *("/../../escaped", "relative", "/a/./b", "/a//b", "//x", "/", ""),
        *("/lib/-rf", "/lib/libc.so.6", "/lib/\udcff"),
    ]
    core = tmp_path / "core"
    core.write_bytes(b"\x7fELF")
    fd = os.open("/dev/null", os.O_RDONLY)
    out = BytesIO()
    contents = Contents(name="b", core=core, modules=[(path, fd) for path in evil], program=evil[0])
    write_bundle(out, contents)
    os.close(fd)
    with tarfile.open(fileobj=BytesIO(out.getvalue())) as archive:
        members = archive.getmembers()
    inside = {member.name for member in members if member.name.startswith("b/sysroot")}
    assert inside == {
        f"b/sysroot{evil[0]}",
        "b/sysroot/lib/-rf",
        "b/sysroot/lib/libc.so.6",
        "b/sysroot/lib/\udcff",
    }
    (tmp_path / "bundle.tar").write_bytes(out.getvalue())
    laptop = unpack(tmp_path / "bundle.tar", tmp_path / "laptop")
    subprocess.run([laptop / "debug", "-batch"], cwd=tmp_path, check=False, capture_output=True)
    assert not list(tmp_path.rglob("ran"))


def test_scripts_that_binaries_bring_along_do_not_run(
    local: Local, tmp_path: Path, build: Callable[..., Path]
) -> None:
    """gdb runs what a program's section .debug_gdb_scripts holds, where it trusts the place."""
    script = f"import pathlib; pathlib.Path('{tmp_path}/ran').touch()"
    section = "".join(f".byte {byte}\\n" for byte in b"\4x\n" + script.encode() + b"\0")
    source = (
        f'asm(".pushsection .debug_gdb_scripts,\\"MS\\",@progbits,1\\n{section}.popsection");\n'
        "int main(void) { *(volatile int *)0 = 1; }"
    )
    program = build(source)
    gdb = ["gdb", "-nx", "-batch", "-iex", "set auto-load safe-path /", program]
    subprocess.run(gdb, check=True, capture_output=True)
    assert (tmp_path / "ran").exists(), "the trap works"
    (tmp_path / "ran").unlink()
    directory = evidence(local, program)
    assert run_bundle(local, directory, "-o", tmp_path / "bundle.tar").returncode == 0
    laptop = unpack(tmp_path / "bundle.tar", tmp_path / "laptop")
    safe = ["-iex", "set auto-load safe-path /", "-nx", "-batch", "-ex", "bt"]
    subprocess.run([laptop / "debug", *safe], check=True, capture_output=True)
    assert not (tmp_path / "ran").exists()


def test_a_damaged_core_is_said(local: Local, tmp_path: Path) -> None:
    directory = evidence(local, CRASHER, "null_read", core=True)
    (core,) = directory.glob("full.core*")
    core.write_bytes(core.read_bytes()[:4] + b"\xff" * 1000)
    done = run_bundle(local, directory, "-o", tmp_path / "bundle.tar")
    assert done.returncode == 1
    assert f"{core.name} is damaged" in done.stderr
    assert not (tmp_path / "bundle.tar").exists()


@pytest.mark.parametrize(
    ("content", "says"),
    [(None, "has no snapshot.core"), (b"", "the core is empty"), (b"text", "not an ELF file")],
)
def test_what_is_no_evidence_is_said(
    local: Local, tmp_path: Path, content: bytes | None, says: str
) -> None:
    evidence = tmp_path / "evidence"
    if content is None:
        evidence.mkdir()
    else:
        evidence.write_bytes(content)
    done = run_bundle(local, evidence, "-o", tmp_path / "bundle.tar")
    assert done.returncode == 1
    assert says in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "bundle.tar").exists()
