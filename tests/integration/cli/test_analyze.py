"""``stillframe analyze``: reports of what is kept of a crash, with and without the program's files.

What a JVM's log and a full core add is in ``../runtimes/test_reports.py``.
"""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest
import zstandard

from stillframe.analysis import Analysis
from tests.integration.capture.crash import CRASHER, ROOT, crash


@pytest.fixture(scope="module")
def core(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("core")
    crash(place, CRASHER, "null_write").wait()
    (snapshot,) = place.glob("*.core")
    return snapshot


def analyze(*arguments: str | Path) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-m", "stillframe.cli", "analyze", *map(str, arguments)],
        env={**os.environ, "PYTHONPATH": str(ROOT / "src")},
        capture_output=True,
        text=True,
        check=False,
    )


def test_a_core_is_reported_with_the_files_of_this_machine(core: Path) -> None:
    done = analyze(core)
    assert done.returncode == 0
    assert "null_write (faults.c:" in done.stdout
    assert "libc.so.6" in done.stdout


def test_json_is_the_whole_analysis(core: Path) -> None:
    answer = msgspec.json.decode(analyze(core, "--json").stdout, type=Analysis)
    assert answer.signal.name == "SIGSEGV"
    assert {module.status for module in answer.modules if module.path != "[vdso]"} == {"matched"}


def test_a_directory_with_a_full_core_alone_is_evidence(core: Path, tmp_path: Path) -> None:
    shutil.copy(core, tmp_path / "full.core")
    assert "null_write (faults.c:" in analyze(tmp_path).stdout


def test_facts_of_another_version_are_said_to_be(core: Path, tmp_path: Path) -> None:
    shutil.copy(core, tmp_path / "snapshot.core")
    (tmp_path / "facts.json").write_text('{"command": 7}')
    assert "facts.json is not in the form that this version knows" in analyze(tmp_path).stdout


@pytest.mark.parametrize(
    ("name", "says"),
    [("full.core.zst", "full.core.zst is compressed\n"), ("other", "has no snapshot.core\n")],
)
def test_a_directory_without_a_readable_core_is_one_clear_error(
    core: Path, tmp_path: Path, name: str, says: str
) -> None:
    (tmp_path / name).write_bytes(zstandard.compress(core.read_bytes()))
    done = analyze(tmp_path)
    assert (done.returncode, done.stdout) == (1, "")
    assert says in done.stderr
    assert "Traceback" not in done.stderr


def test_another_root_is_not_this_machine(core: Path, tmp_path: Path) -> None:
    answer = msgspec.json.decode(analyze(core, "--json", "--root", tmp_path).stdout, type=Analysis)
    assert {module.status for module in answer.modules} == {"missing"}


def test_a_root_holds_the_programs_files(core: Path, tmp_path: Path) -> None:
    copy = tmp_path / str(CRASHER).lstrip("/")
    copy.parent.mkdir(parents=True)
    copy.write_bytes(CRASHER.read_bytes())
    assert "null_write (faults.c:" in analyze(core, "--root", tmp_path).stdout


def test_a_module_given_by_hand_is_found_by_its_build_id(core: Path, tmp_path: Path) -> None:
    (tmp_path / "root").mkdir()
    renamed = tmp_path / "renamed"
    renamed.write_bytes(CRASHER.read_bytes())
    done = analyze(core, "--root", tmp_path / "root", "--module", renamed)
    assert "null_write (faults.c:" in done.stdout


@pytest.mark.parametrize("content", [b"", b"rubbish", b"\x7fELF" + bytes(100)])
def test_a_bad_core_is_one_clear_error(tmp_path: Path, content: bytes) -> None:
    bad = tmp_path / "bad"
    bad.write_bytes(content)
    done = analyze(bad)
    assert done.returncode == 1
    assert done.stderr.startswith("Error: ")
    assert "Traceback" not in done.stderr


def test_a_fifo_in_the_programs_place_blocks_nobody(
    core: Path, tmp_path: Path, build: Callable[..., Path]
) -> None:
    place = tmp_path / str(CRASHER).lstrip("/")
    place.parent.mkdir(parents=True)
    os.mkfifo(place)
    assert analyze(core, "--root", tmp_path).returncode == 0
