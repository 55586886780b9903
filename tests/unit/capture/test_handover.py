"""Names and locks in a directory: what is listed, opened, refused, locked and removed."""

import fcntl
import os
import socket
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from stillframe.capture.handover import (
    Lock,
    SnapshotDirectory,
    SnapshotName,
    Stage,
    claim,
    discard,
    list_names,
    open_snapshot,
    release,
)
from stillframe.capture.identity import owner_lock
from stillframe.capture.inotify import Inotify
from stillframe.capture.leftovers import clean_births
from stillframe.errors import InvalidInputError, PermanentError, TemporaryError

OPEN = Path("/proc/self/fd")
ID = "0123456789abcdef" * 2
CORE = SnapshotName(ID, Stage.CORE)
IN_OPEN = 0x20


@pytest.fixture
def directory(tmp_path: Path) -> Iterator[int]:
    fd = os.open(tmp_path, os.O_RDONLY | os.O_DIRECTORY)
    yield fd
    os.close(fd)


def conflict(fd: int, byte: int, length: int = 1) -> bool:
    """What the library asks: does anybody hold a lock there?"""
    answer = fcntl.fcntl(fd, fcntl.F_OFD_GETLK, Lock(fcntl.F_WRLCK, byte, length).pack())
    return Lock.unpack(answer).type != fcntl.F_UNLCK


def reason(directory: int, max_bytes: int = 1 << 20) -> str:
    with pytest.raises(InvalidInputError) as caught:
        open_snapshot(directory, CORE, max_bytes=max_bytes)
    return caught.value.reason


def test_a_listing_has_our_names_and_counts_the_others(tmp_path: Path, directory: int) -> None:
    for name in (CORE.file, f".{'a' * 32}", f"{'b' * 32}.part", "passwd", f"{'c' * 32}.exe"):
        (tmp_path / name).touch()
    listing = list_names(directory)
    assert [name.stage for name in listing.names] == [Stage.CORE, Stage.BIRTH, Stage.PART]
    assert (listing.refused, listing.cut) == (2, False)


def test_a_flooded_directory_is_not_read_to_its_end(tmp_path: Path, directory: int) -> None:
    for number in range(20):
        (tmp_path / f"{number:032x}.core").touch()
    listing = list_names(directory, limit=5)
    assert (len(listing.names), listing.cut) == (5, True)


def test_a_symlink_is_refused(tmp_path: Path, directory: int) -> None:
    (tmp_path / "secret").write_text("secret")
    (tmp_path / CORE.file).symlink_to("secret")
    assert reason(directory) == "Symlink"


def test_a_fifo_is_refused_without_waiting(tmp_path: Path, directory: int) -> None:
    os.mkfifo(tmp_path / CORE.file)
    assert reason(directory) == "NotRegular"


def test_a_directory_is_refused(tmp_path: Path, directory: int) -> None:
    (tmp_path / CORE.file).mkdir()
    assert reason(directory) == "NotRegular"


def test_a_socket_is_refused(
    tmp_path: Path, directory: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)  # a socket's path is short
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(CORE.file)
        assert reason(directory) == "NotRegular"


@pytest.mark.parametrize("kind", [stat.S_IFCHR, stat.S_IFBLK, stat.S_IFIFO])
def test_a_device_is_refused_without_opening_it(tmp_path: Path, directory: int, kind: int) -> None:
    """Opening a watchdog starts it: what is in the way of a snapshot is looked at, never opened."""
    os.mknod(tmp_path / CORE.file, 0o666 | kind, os.makedev(1, 3))
    watcher = Inotify()
    watcher.add(str(tmp_path / CORE.file), IN_OPEN)
    assert reason(directory) == "NotRegular"
    assert watcher.read() == []
    watcher.close()


def test_a_second_name_is_refused(tmp_path: Path, directory: int) -> None:
    (tmp_path / "foreign").write_text("secret")
    (tmp_path / CORE.file).hardlink_to(tmp_path / "foreign")
    assert reason(directory) == "HardLink"


@pytest.mark.parametrize("size", [1 << 30, (1 << 63) - 1])
def test_a_sparse_file_is_refused(size: int) -> None:
    with tempfile.TemporaryDirectory(dir="/dev/shm") as shared:  # tmpfs has files of 8 EiB
        with (Path(shared) / CORE.file).open("wb") as file:
            file.truncate(size)
        directory = os.open(shared, os.O_RDONLY | os.O_DIRECTORY)
        assert reason(directory, max_bytes=16 << 20) == "TooLarge"
        os.close(directory)


def test_a_missing_file_is_no_refusal(directory: int) -> None:
    with pytest.raises(FileNotFoundError):
        open_snapshot(directory, CORE, max_bytes=1)


def test_refusals_leave_no_descriptor_open(tmp_path: Path, directory: int) -> None:
    os.mkfifo(tmp_path / CORE.file)
    before = len(list(OPEN.iterdir()))
    for _ in range(3):
        reason(directory)
    assert len(list(OPEN.iterdir())) == before


def test_claim_and_release_are_seen_and_end_with_the_descriptor(
    tmp_path: Path, directory: int
) -> None:
    (tmp_path / CORE.file).touch()
    ours = open_snapshot(directory, CORE, max_bytes=1)
    with (tmp_path / CORE.file).open("r+b") as theirs:
        assert not conflict(theirs.fileno(), 1)
        claim(ours.fd)
        assert (conflict(theirs.fileno(), 1), conflict(theirs.fileno(), 2)) == (True, False)
        release(ours.fd)
        assert conflict(theirs.fileno(), 2)
        assert not conflict(theirs.fileno(), 0)
        ours.close()
        assert not conflict(theirs.fileno(), 1, length=2)


@pytest.mark.parametrize(("byte", "lock"), [(1, claim), (2, release)])
def test_a_byte_locked_against_us_is_a_refusal(
    tmp_path: Path, directory: int, byte: int, lock: object
) -> None:
    (tmp_path / CORE.file).touch()
    with (
        (tmp_path / CORE.file).open("r+b") as theirs,
        open_snapshot(directory, CORE, max_bytes=1) as ours,
    ):
        fcntl.fcntl(theirs, fcntl.F_OFD_SETLK, Lock(fcntl.F_WRLCK, byte).pack())
        with pytest.raises(InvalidInputError) as caught:
            lock(ours.fd)  # type: ignore[operator]
    assert caught.value.reason == "ClaimRefused"


def test_the_beacon_is_seen_while_the_directory_is_open(tmp_path: Path, directory: int) -> None:
    with SnapshotDirectory.open(tmp_path):
        assert conflict(directory, 0, length=0)
    assert not conflict(directory, 0, length=0)


def test_a_beacon_through_a_descriptor_has_a_life_of_its_own(
    tmp_path: Path, directory: int
) -> None:
    with SnapshotDirectory.open(directory) as opened:
        assert os.path.sameopenfile(opened.fd, directory)
        assert conflict(directory, 0, length=0)
    assert not conflict(directory, 0, length=0)


def test_a_directory_behind_a_symlink_is_not_opened(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path)
    with pytest.raises(PermanentError, match="cannot open the snapshot directory"):
        SnapshotDirectory.open(tmp_path / "link")


def test_a_directory_not_there_yet_may_come(tmp_path: Path) -> None:
    with pytest.raises(TemporaryError):
        SnapshotDirectory.open(tmp_path / "none")


def test_no_descriptor_is_inherited(tmp_path: Path, directory: int) -> None:
    (tmp_path / CORE.file).touch()
    with (
        SnapshotDirectory.open(tmp_path) as opened,
        open_snapshot(opened.fd, CORE, max_bytes=1) as snapshot,
    ):
        assert not os.get_inheritable(opened.fd)
        assert not os.get_inheritable(snapshot.fd)


def test_discarding_twice_is_fine(tmp_path: Path, directory: int) -> None:
    (tmp_path / CORE.file).touch()
    assert discard(directory, CORE)
    assert discard(directory, CORE)
    assert not (tmp_path / CORE.file).exists()


def test_a_directory_in_place_of_a_file_is_not_discarded(tmp_path: Path, directory: int) -> None:
    (tmp_path / CORE.file).mkdir()
    assert not discard(directory, CORE)


def test_births_are_cleaned_when_old_and_not_held(tmp_path: Path, directory: int) -> None:
    free, held, young = (tmp_path / f".{letter * 32}" for letter in "abc")
    for birth in (free, held):
        birth.touch()
    with held.open("r+b") as theirs:
        fcntl.fcntl(theirs, fcntl.F_OFD_SETLK, Lock(fcntl.F_WRLCK, 0).pack())
        assert clean_births(directory, list_names(directory), older_than=-1) == 1
        young.touch()
        assert clean_births(directory, list_names(directory)) == 0
    assert (free.exists(), held.exists(), young.exists()) == (False, True, True)


def test_an_unlocked_file_has_no_owner(tmp_path: Path) -> None:
    with (tmp_path / "x").open("wb") as file:
        assert owner_lock(file.fileno()) is None
