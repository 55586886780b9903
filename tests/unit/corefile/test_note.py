"""The vendor note: the golden file, growth in both directions, broken notes.

`tests/golden/note-v1.c` writes the golden bytes by the header the library is
built from; the reader must get their JSON from them.
"""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from stillframe.corefile import CoreFile, Flag, Involvement, Release
from stillframe.corefile.vendor import decode_note
from tests.support.corewriter import Core

ROOT = Path(__file__).parents[3]
GOLDEN = (ROOT / "tests/golden/note-v1.bin").read_bytes()
DECODED = json.loads((ROOT / "tests/golden/note-v1.json").read_text())


def decoded(desc: bytes) -> dict[str, object]:
    note = decode_note(desc)
    fields = {**note.fields._asdict(), "id": note.fields.id.hex()}
    ranges = [list(secret) for secret in note.secrets]
    return {**fields, "secret_ranges": ranges, "annotations": note.annotations}


def test_the_header_still_writes_the_golden_note(tmp_path: Path) -> None:
    source, writer = ROOT / "tests/golden/note-v1.c", tmp_path / "writer"
    subprocess.run(["gcc", f"-I{ROOT / 'preload/src'}", "-o", writer, source], check=True)
    assert subprocess.run([writer], capture_output=True, check=True).stdout == GOLDEN


def test_the_golden_note_reads_as_its_json() -> None:
    assert decoded(GOLDEN) == DECODED


def test_a_longer_struct_of_a_newer_library_is_read_as_far_as_known() -> None:
    size = int.from_bytes(GOLDEN[:4], "little")
    newer = (size + 16).to_bytes(4, "little") + GOLDEN[4:size] + b"N" * 16 + GOLDEN[size:]
    assert decoded(newer) == {**DECODED, "size": size + 16}


def test_a_shorter_struct_of_an_older_library_reads_as_zero_beyond_its_end() -> None:
    older = (48).to_bytes(4, "little") + GOLDEN[4:48]
    fields, annotations, secrets = decode_note(older)
    assert fields.id.hex() == DECODED["id"]
    assert (fields.signal, fields.release, fields.text_bytes) == (0, 0, 0)
    assert (annotations, secrets) == ({}, ())


@pytest.mark.parametrize(("claimed", "found"), [(2, 2), (3, 5), (2**32 - 1, 5)])
def test_secrets_end_where_the_note_does(claimed: int, found: int) -> None:
    """The golden text holds three more, read as such."""
    size = int.from_bytes(GOLDEN[:4], "little")
    note = GOLDEN[: size - 4] + claimed.to_bytes(4, "little") + GOLDEN[size:]
    assert len(decode_note(note).secrets) == min(claimed, found)


def test_a_core_carries_its_note() -> None:
    core = CoreFile.from_bytes(Core().thread(1).add(1, GOLDEN, name=b"STILLFRAME").build())
    assert core.note is not None
    assert core.note.fields.signal == DECODED["signal"]


@pytest.mark.parametrize("desc", [b"", b"\xff" * 4, b"\xff" * 200, b"\0" * 200])
def test_a_broken_note_is_a_problem_of_the_core(desc: bytes) -> None:
    core = CoreFile.from_bytes(Core().thread(1).add(1, desc, name=b"STILLFRAME").build())
    assert core.note is None
    assert core.problems[0].startswith("vendor note of")


def test_names_match_the_header() -> None:
    assert Flag.STACK_OVERFLOW == 1 << 4
    assert Release.TIMEOUT == 5
    assert Involvement.INTERPOSER == 3


def test_the_generated_table_is_up_to_date() -> None:
    command = [sys.executable, ROOT / "preload/generate-note", "--check"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
