"""Durable files: entirely or not at all."""

from pathlib import Path

import pytest
from stillframe_agent.files import write_durably


def test_a_file_is_replaced_as_a_whole(tmp_path: Path) -> None:
    path = tmp_path / "file"
    for data in (b"first", b"2"):
        write_durably(path, data)
        assert path.read_bytes() == data
    assert list(tmp_path.iterdir()) == [path]


def test_a_refused_write_leaves_nothing_behind(tmp_path: Path) -> None:
    path = tmp_path / "file"
    (path / "in the way").mkdir(parents=True)
    with pytest.raises(IsADirectoryError):
        write_durably(path, b"data")
    assert list(tmp_path.iterdir()) == [path]
