"""The copier of the injector image: whole files, or an error that says why."""

import os
import stat
import subprocess
from pathlib import Path

import pytest

from tests.integration.preload.conftest import COPIER, LIBRARY

SMALL = 16 * 1024

pytestmark = pytest.mark.usefixtures("note_dump")  # builds everything


def copy(*arguments: object, **options: object) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(  # type: ignore[call-overload, no-any-return]
        [COPIER, *arguments], capture_output=True, text=True, check=False, timeout=10, **options
    )


def test_copier_needs_nothing_but_the_kernel() -> None:
    headers = subprocess.run(
        ["readelf", "-lW", COPIER], capture_output=True, text=True, check=True
    ).stdout

    assert "INTERP" not in headers
    assert "DYNAMIC" not in headers
    assert COPIER.stat().st_size <= SMALL


def test_copy_is_whole_and_executable_past_the_umask(tmp_path: Path) -> None:
    done = copy(LIBRARY, tmp_path, umask=0o077)

    (copied,) = tmp_path.iterdir()
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert copied.name == "libstillframe.so"
    assert copied.read_bytes() == LIBRARY.read_bytes()
    assert stat.S_IMODE(copied.stat().st_mode) == 0o755


def test_second_copy_replaces_the_first_and_its_leftover(tmp_path: Path) -> None:
    (tmp_path / "libstillframe.so").write_text("old")
    (tmp_path / ".libstillframe.so").write_text("a copier was killed here")
    old = (tmp_path / "libstillframe.so").open()
    done = copy(LIBRARY, tmp_path)

    assert done.returncode == 0
    assert [path.name for path in tmp_path.iterdir()] == ["libstillframe.so"]
    assert (tmp_path / "libstillframe.so").read_bytes() == LIBRARY.read_bytes()
    assert old.read() == "old", "a process that maps the old one keeps it"


def test_missing_source_is_named(tmp_path: Path) -> None:
    done = copy("/no/such/file", tmp_path)

    assert done.returncode == 1
    assert done.stderr == (
        "stillframe-copy: cannot read /no/such/file: errno 2, no such file or directory\n"
    )


def test_read_only_volume_is_named(tmp_path: Path) -> None:
    """In a mount namespace of its own."""
    script = 'mount -t tmpfs -o ro none "$2" && exec "$0" "$1" "$2"'
    done = subprocess.run(
        ["unshare", "--mount", "sh", "-c", script, COPIER, LIBRARY, tmp_path],
        capture_output=True,
        text=True,
        check=False,
        timeout=10,
    )

    assert done.returncode == 1
    assert done.stderr == (
        f"stillframe-copy: cannot write into {tmp_path}: errno 30, read-only file system\n"
    )


def test_full_volume_leaves_nothing_behind(tmp_path: Path) -> None:
    script = 'mount -t tmpfs -o size=8k none "$2" && { "$0" "$1" "$2"; echo $?; ls -A "$2"; }'
    done = subprocess.run(
        ["unshare", "--mount", "sh", "-c", script, COPIER, LIBRARY, tmp_path],
        capture_output=True,
        text=True,
        check=False,
        timeout=10,
    )

    assert done.stdout == "1\n"
    assert done.stderr == (
        f"stillframe-copy: cannot write into {tmp_path}: errno 28, no space left\n"
    )


def test_wrong_arguments_show_the_usage() -> None:
    done = copy("one")

    assert (done.returncode, done.stderr) == (2, "usage: stillframe-copy SRC DST_DIR\n")


def test_copier_works_as_any_user(tmp_path: Path) -> None:
    os.chown(tmp_path, 65532, 65532)
    for parent in tmp_path.parents:
        if Path("/tmp") in parent.parents:
            parent.chmod(0o755)
    done = copy(LIBRARY, tmp_path, user=65532, group=65532)

    assert done.stderr == ""
    assert done.returncode == 0
