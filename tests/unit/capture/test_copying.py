"""Our copy: exact, bounded, whole or absent."""

import hashlib
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from stillframe.capture.copying import CHUNK, stage
from stillframe.errors import InvalidInputError

OPEN = Path("/proc/self/fd")


@pytest.fixture
def target(tmp_path: Path) -> Iterator[int]:
    (tmp_path / "target").mkdir()
    fd = os.open(tmp_path / "target", os.O_RDONLY | os.O_DIRECTORY)
    yield fd
    os.close(fd)


@pytest.fixture
def source(tmp_path: Path) -> Iterator[int]:
    (tmp_path / "source").write_bytes(os.urandom(2 * CHUNK + 17))
    fd = os.open(tmp_path / "source", os.O_RDONLY)
    yield fd
    os.close(fd)


def test_a_commit_is_the_whole_file_and_its_digest(
    tmp_path: Path, source: int, target: int
) -> None:
    os.lseek(source, 5, os.SEEK_SET)  # where somebody left it must not matter
    staged = stage(source, target, "snapshot.core", max_bytes=1 << 30)
    assert not (tmp_path / "target/snapshot.core").exists()
    copied = staged.commit()
    data = (tmp_path / "source").read_bytes()
    assert (tmp_path / "target/snapshot.core").read_bytes() == data
    assert (copied.bytes, copied.sha256) == (len(data), hashlib.sha256(data).hexdigest())
    assert os.listdir(target) == ["snapshot.core"]
    assert (tmp_path / "target/snapshot.core").stat().st_mode & 0o777 == 0o640


def test_a_file_that_grew_past_the_limit_is_refused(source: int, target: int) -> None:
    with pytest.raises(InvalidInputError) as caught:
        stage(source, target, "snapshot.core", max_bytes=2 * CHUNK)
    assert caught.value.reason == "TooLarge"
    assert os.listdir(target) == []


def test_an_abandoned_copy_leaves_nothing(source: int, target: int) -> None:
    stage(source, target, "snapshot.core", max_bytes=1 << 30).abandon()
    assert os.listdir(target) == []


def test_what_a_killed_copy_left_is_overwritten(tmp_path: Path, source: int, target: int) -> None:
    stage(source, target, "snapshot.core", max_bytes=1 << 30)
    stage(source, target, "snapshot.core", max_bytes=1 << 30).commit()
    assert os.listdir(target) == ["snapshot.core"]


def test_descriptors_are_closed(source: int, target: int) -> None:
    before = len(list(OPEN.iterdir()))
    stage(source, target, "a", max_bytes=1 << 30).commit()
    stage(source, target, "a", max_bytes=1 << 30).abandon()
    assert len(list(OPEN.iterdir())) == before
