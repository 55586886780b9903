"""Codecs of the hand-over: round trips, and no crash on what a pod or kernel prints.

Names, record locks, ``maps``, ``stat`` and the lock lines of ``fdinfo``.
"""

import fcntl

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stillframe.capture.handover import Lock, SnapshotName, Stage
from stillframe.capture.identity import _parse_stat, _shows_lock
from stillframe.capture.modules import parse_maps
from stillframe.errors import InvalidInputError

IDS = st.text("0123456789abcdef", min_size=32, max_size=32)
LOCKS = st.builds(
    Lock,
    type=st.sampled_from([fcntl.F_RDLCK, fcntl.F_WRLCK, fcntl.F_UNLCK]),
    start=st.integers(0, 2**63 - 1),
    length=st.integers(0, 2**63 - 1),
    pid=st.integers(-1, 2**31 - 1),
)
PATHS = st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1).map("/{}".format)


@given(IDS, st.sampled_from(Stage))
def test_every_name_is_read_back(identifier: str, stage: Stage) -> None:
    name = SnapshotName(identifier, stage)
    assert SnapshotName.parse(name.file) == name


@given(st.text())
def test_any_text_is_a_name_that_reads_back_or_refused(text: str) -> None:
    try:
        name = SnapshotName.parse(text)
    except InvalidInputError:
        return
    assert name.file == text


@pytest.mark.parametrize(
    "text",
    [
        "a" * 32,
        "." + "a" * 32 + ".part",
        "A" * 32 + ".part",
        "a" * 31 + ".core",
        "a" * 32 + ".core\n",
        "٣" * 32 + ".core",  # a digit, but no hexadecimal one
        "../" + "a" * 32 + ".core",
    ],
)
def test_near_misses_are_bad_names(text: str) -> None:
    with pytest.raises(InvalidInputError) as caught:
        SnapshotName.parse(text)
    assert caught.value.reason == "BadName"


@given(LOCKS)
def test_every_lock_is_read_back(lock: Lock) -> None:
    assert Lock.unpack(lock.pack()) == lock


@given(PATHS, st.integers(0, 2**47), st.booleans())
def test_a_mapping_is_read_back_from_the_kernels_line(
    path: str, start: int, executable: bool
) -> None:
    mode = "r-xp" if executable else "r--p"
    line = f"{start:x}-{start + 4096:x} {mode} 00001000 fe:00 326269                     "
    (mapping,) = parse_maps(line + path.replace("\n", "\\012") + "\n")
    assert (mapping.start, mapping.executable) == (start, executable)
    assert mapping.inode == "fe:00 326269"
    assert mapping.path == path.replace("\\012", "\n")


@given(st.text(max_size=15), st.integers(0, 2**63))
def test_a_name_with_brackets_hides_no_start_time(comm: str, ticks: int) -> None:
    fields = " ".join(["S", *["0"] * 18, str(ticks), *["0"] * 30])
    name, found = _parse_stat(f"4711 ({comm}) {fields}\n")
    assert found == ticks
    assert name.isprintable()


@given(st.text())
def test_no_text_of_another_file_shows_the_lock(text: str) -> None:
    assert not _shows_lock(text, pid=2**31, file=(0, 0x44, 2))


LOCK_LINE = "pos:\t0\nflags:\t02\nmnt_id:\t9\nino:\t2\nlock:\t1: {}\n"


@pytest.mark.parametrize(
    ("line", "shown"),
    [
        ("POSIX  ADVISORY  WRITE 490 00:44:2 0 0", True),
        ("POSIX  ADVISORY  READ  490 00:44:2 0 0", False),
        ("POSIX  ADVISORY  WRITE 491 00:44:2 0 0", False),
        ("POSIX  ADVISORY  WRITE 490 00:44:3 0 0", False),
        ("POSIX  ADVISORY  WRITE 490 00:45:2 0 0", False),
        ("POSIX  ADVISORY  WRITE 490 00:44:2 1 1", False),
        ("OFDLCK ADVISORY  WRITE -1 00:44:2 0 0", False),
        ("FLOCK  ADVISORY  WRITE 490 00:44:2 0 EOF", False),
    ],
)
def test_only_the_posix_write_lock_on_byte_0_of_the_file_is_the_lock(
    line: str, shown: bool
) -> None:
    assert _shows_lock(LOCK_LINE.format(line), pid=490, file=(0, 0x44, 2)) is shown
