"""The last lines of a container's log, as containerd and CRI-O write it; hostile ones, too."""

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from stillframe_agent.containerlog import ContainerLogs, parse_log

from stillframe.capture.facts import Log, Redactor
from stillframe.capture.facts.registry import LOG_BYTES, LOG_LINE_CHARS, LOG_LINES

UID = "1d3b6a0c-5f0e-4b67-9d5c-2f7a1c0de111"
TIME = "2024-01-01T00:00:00.000000001Z"
PLAIN = Redactor()


def record(text: str, stream: str = "stderr", tag: str = "F") -> str:
    return f"{TIME} {stream} {tag} {text}\n"


def log_of(root: Path, text: str | bytes, name: str = "0.log", container: str = "app") -> Path:
    path = root / f"shop_cart-1_{UID}" / container / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def texts(log: Log | str) -> list[str]:
    assert isinstance(log, Log), log
    return [line.removeprefix(f"{TIME} ") for line in log.lines]


def test_lines_keep_their_stream_and_partial_ones_are_joined() -> None:
    data = "".join(
        [
            record("one", "stdout"),
            record("begin ", tag="P"),
            record("two", "stdout"),
            record("end"),
        ]
    )
    log = parse_log(data.encode(), PLAIN, cut=False)
    assert texts(log) == ["stdout one", "stdout two", "stderr begin end"]
    assert log.complete


def test_a_line_that_was_not_ended_is_left_out() -> None:
    data = record("whole") + record("half", tag="P")
    assert texts(parse_log(data.encode(), PLAIN, cut=False)) == ["stderr whole"]


def test_the_first_line_of_each_stream_behind_a_cut_may_be_the_rest_of_one() -> None:
    data = "st of a line\n" + "".join(
        record(f"{n}", stream) for n in (1, 2) for stream in ("stdout", "stderr")
    )
    log = parse_log(data.encode(), PLAIN, cut=True)
    assert texts(log) == ["stdout 2", "stderr 2"]
    assert not log.complete


def test_only_the_last_lines_are_kept() -> None:
    data = "".join(record(str(number)) for number in range(LOG_LINES + 5))
    log = parse_log(data.encode(), PLAIN, cut=False)
    assert len(log.lines) == LOG_LINES
    assert texts(log)[-1] == f"stderr {LOG_LINES + 4}"
    assert not log.complete


def test_secrets_are_masked_also_across_partial_lines() -> None:
    redactor = Redactor([("DB_PASSWORD", "correct-horse")])
    data = record("login with correct-", tag="P") + record("horse, token=abc")
    (line,) = texts(parse_log(data.encode(), redactor, cut=False))
    assert line == "stderr login with [redacted], token=[redacted]"


@given(st.lists(st.binary(max_size=60) | st.builds(lambda t: record(t).encode(), st.text())))
def test_any_log_is_printable_and_bounded(parts: list[bytes]) -> None:
    for cut in (False, True):
        log = parse_log(b"".join(parts), PLAIN, cut=cut)
        assert all(line.isprintable() and len(line) <= LOG_LINE_CHARS for line in log.lines)


def test_the_newest_log_is_read_and_its_number_is_that_of_restarts(tmp_path: Path) -> None:
    for number in (0, 9, 10):
        log_of(tmp_path, record(f"life {number}"), f"{number}.log")
    log_of(tmp_path, record("rotated"), "10.log.20240101-000000")
    log_of(tmp_path, record("other"), "77.log", container="sidecar")
    logs = ContainerLogs(tmp_path, UID, "app")
    assert logs.restarts() == 10
    assert texts(logs.tail(PLAIN)) == ["stderr life 10"]


def test_only_the_end_of_a_large_log_is_read(tmp_path: Path) -> None:
    log_of(tmp_path, record("x" * 100) * (LOG_BYTES // 50) + record("last"))
    log = ContainerLogs(tmp_path, UID, "app").tail(PLAIN)
    assert texts(log)[-1] == "stderr last"
    assert isinstance(log, Log)
    assert not log.complete


@pytest.mark.parametrize("container", ["", "other", "../cart", "app/.."])
def test_what_is_not_there_is_said(tmp_path: Path, container: str) -> None:
    log_of(tmp_path, record("x"))
    logs = ContainerLogs(tmp_path, UID, container)
    assert logs.restarts() is None
    assert logs.tail(PLAIN) == "the node has no log of the container"


def test_a_link_is_not_followed_but_counts(tmp_path: Path) -> None:
    """As cri-dockerd has them; and nobody leads us to another file of the node."""
    path = log_of(tmp_path, record("x"), "secret")
    path.with_name("3.log").symlink_to(path)
    logs = ContainerLogs(tmp_path, UID, "app")
    assert logs.restarts() == 3
    assert logs.tail(PLAIN) == (
        "the container's log cannot be read: Too many levels of symbolic links"
    )


def test_a_directory_that_is_a_link_is_not_followed(tmp_path: Path) -> None:
    log_of(tmp_path / "elsewhere", record("x"))
    (tmp_path / "logs").mkdir()
    link = tmp_path / "logs" / f"shop_cart-1_{UID}"
    link.symlink_to(tmp_path / "elsewhere" / link.name)
    assert isinstance(ContainerLogs(tmp_path / "logs", UID, "app").tail(PLAIN), str)


def test_a_fifo_stalls_nobody(tmp_path: Path) -> None:
    path = log_of(tmp_path, "", "x").with_name("0.log")
    os.mkfifo(path)
    assert ContainerLogs(tmp_path, UID, "app").tail(PLAIN) == (
        "the container's log cannot be read: not a regular file"
    )
