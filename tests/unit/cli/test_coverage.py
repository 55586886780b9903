"""Which programs a preload library cannot see, judged by their files."""

import os
import shutil
import struct
import sys
from pathlib import Path

import pytest

from stillframe.cli.coverage import PT_INTERP, why_uncovered
from stillframe.cli.library import find_library
from stillframe.corefile.elf import PT_LOAD
from stillframe.errors import PermanentError


def test_a_dynamic_program_is_covered() -> None:
    assert why_uncovered(Path(sys.executable).resolve()) is None


def elf(*segment_types: int, machine: int = 62) -> bytes:
    """An executable of headers alone (elf(5))."""
    ident = b"\x7fELF\x02\x01\x01".ljust(16, b"\0")
    header = struct.pack(
        "<HHIQQQIHHHHHH", 3, machine, 1, 0, 64, 0, 0, 64, 56, len(segment_types), 0, 0, 0
    )
    return ident + header + b"".join(struct.pack("<I52x", kind) for kind in segment_types)


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (elf(PT_LOAD, PT_INTERP), None),
        (elf(PT_LOAD), "statically linked"),
        (elf(PT_LOAD, PT_INTERP, machine=8), "no ELF file of this kind"),
        (b"#!\n", None),
    ],
)
def test_a_program_is_judged_by_its_headers(
    tmp_path: Path, content: bytes, why: str | None
) -> None:
    (tmp_path / "program").write_bytes(content)
    said = why_uncovered(tmp_path / "program")
    assert said is None if why is None else why in str(said)


def test_a_script_is_judged_by_its_interpreter(tmp_path: Path) -> None:
    (tmp_path / "static").write_bytes(elf(PT_LOAD))
    (tmp_path / "script").write_text(f"#! {tmp_path}/static -u\n")
    assert why_uncovered(tmp_path / "script") == why_uncovered(tmp_path / "static")


@pytest.mark.parametrize(
    ("text", "expected"),
    [("", None), ("text", "it is no ELF file of this kind of machine (not an ELF file)")],
)
def test_what_exec_refuses_is_left_to_exec(tmp_path: Path, text: str, expected: str | None) -> None:
    (tmp_path / "file").write_text(text)
    assert why_uncovered(tmp_path / "file") == expected


def test_another_users_setuid_program_is_not_covered(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = tmp_path / "program"
    shutil.copy(os.path.realpath(sys.executable), program)
    program.chmod(0o4755)
    assert why_uncovered(program) is None
    monkeypatch.setattr(os, "geteuid", lambda: 12345)
    why = why_uncovered(program)
    assert why is not None
    assert "setuid" in why


def test_the_named_library_is_the_one(tmp_path: Path) -> None:
    (tmp_path / "lib.so").touch()
    found = find_library({"STILLFRAME_LIBRARY": str(tmp_path / "lib.so")})
    assert found == tmp_path / "lib.so"


def test_a_named_library_that_is_missing_is_not_replaced_by_another(tmp_path: Path) -> None:
    with pytest.raises(PermanentError, match="no preload library"):
        find_library({"STILLFRAME_LIBRARY": str(tmp_path / "lib.so")})


@pytest.mark.parametrize("name", ["a b.so", "a:b.so"])
def test_a_path_that_a_preload_list_would_split_is_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / name).touch()
    with pytest.raises(PermanentError, match="space or a colon"):
        find_library({"STILLFRAME_LIBRARY": str(tmp_path / name)})
