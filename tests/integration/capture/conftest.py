"""A fresh directory on tmpfs, a place for evidence, and one real snapshot as material."""

import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from stillframe.capture.handover import SnapshotDirectory
from tests.integration.capture.crash import CRASHER, LIBRARY, ROOT, crash


def pytest_collection_modifyitems() -> None:
    for needed in (LIBRARY, CRASHER):
        if not needed.exists():
            pytest.exit(f"{needed} is missing: run `make build`", returncode=2)


@pytest.fixture
def snapshots() -> Iterator[Path]:
    """A directory on tmpfs, as in a pod."""
    path = Path(tempfile.mkdtemp(prefix="stillframe-test-", dir="/dev/shm"))
    yield path
    shutil.rmtree(path)


@pytest.fixture
def directory(snapshots: Path) -> Iterator[SnapshotDirectory]:
    """The same, open: an agent is here."""
    with SnapshotDirectory.open(snapshots) as opened:
        yield opened


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """Where the capture's copy goes."""
    (tmp_path / "evidence").mkdir()
    return tmp_path / "evidence/snapshot.core"


@pytest.fixture(scope="session")
def material(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A complete snapshot, written by the library with no agent near."""
    place = tmp_path_factory.mktemp("material")
    crash(place, CRASHER, "null_write").wait()
    (snapshot,) = place.glob("*.core")
    return snapshot


@pytest.fixture(scope="session")
def orphan_thread(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A program whose leader has ended when another of its threads crashes."""
    program = tmp_path_factory.mktemp("bin") / "orphan_thread"
    source = Path(__file__).with_name("orphan_thread.c")
    subprocess.run(["gcc", "-g", "-pthread", "-o", program, source], check=True)
    return program


@pytest.fixture
def silent_file(tmp_path: Path) -> Iterator[Path]:
    """A file whose pages nobody ever gets."""
    place = tmp_path / "silent"
    place.mkdir()
    with subprocess.Popen(
        [sys.executable, ROOT / "tests/support/silent_fuse.py", place],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as server:
        assert server.stdout is not None
        assert server.stdout.readline() == b"ready\n", "needs root and /dev/fuse"
        yield place / "file"
        server.communicate()
