"""The example service: answers, dies in the ways it promises, and stops when told to."""

import http.client
import re
import signal
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import pytest

ROOT = Path(__file__).resolve().parents[3]
SECONDS = 20


@pytest.fixture(scope="session")
def segfault(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The service, built by its own Makefile."""
    build = tmp_path_factory.mktemp("examples")
    subprocess.run(["make", "-s", "-C", ROOT / "examples", f"BUILD={build}"], check=True)
    return build / "segfault"


@contextmanager
def serving(command: Sequence[str | Path]) -> "Iterator[tuple[subprocess.Popen[str], int]]":
    """The process of ``command`` and the port that its service took."""
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield process, port_of(process.stdout)
        finally:
            process.kill()


def port_of(output: IO[str] | None) -> int:
    assert output
    for line in output:
        if found := re.search(r"listening on port (\d+)", line):
            return int(found[1])
    raise AssertionError("the service ended before it listened")


def get(port: int, path: str) -> str:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=SECONDS)
    connection.request("GET", path)
    return connection.getresponse().read().decode()


def test_it_answers_with_three_threads(segfault: Path) -> None:
    with serving([segfault, "0"]) as (process, port):
        assert get(port, "/") == "ok\n"
        tasks = Path(f"/proc/{process.pid}/task").glob("*/comm")
        assert sorted(t.read_text().strip() for t in tasks) == ["segfault", "worker-0", "worker-1"]


@pytest.mark.parametrize(
    ("path", "death"),
    [("/crash", signal.SIGSEGV), ("/abort", signal.SIGABRT), ("/trap", signal.SIGTRAP)],
)
def test_it_dies_as_it_is_asked_to(segfault: Path, path: str, death: signal.Signals) -> None:
    with serving([segfault, "0"]) as (process, port):
        # The answer never comes: the process dies while it makes it.
        with pytest.raises(ConnectionError):
            get(port, path)
        assert process.wait(SECONDS) == -death


def test_sigterm_stops_it(segfault: Path) -> None:
    with serving([segfault, "0"]) as (process, _):
        process.terminate()
        assert process.wait(SECONDS) == 0


def test_a_debugger_shows_the_bug_on_top(segfault: Path) -> None:
    commands = ["run", "bt"]
    gdb = ["gdb", "-batch", "-nx", "-iex", "set debuginfod enabled off"]
    gdb += [word for command in commands for word in ("-ex", command)]
    with serving([*gdb, "--args", segfault, "0"]) as (process, port):
        with pytest.raises(ConnectionError):
            get(port, "/crash")
        shown, _ = process.communicate(timeout=SECONDS)
    assert re.search(r"^#0 .*parse_header .*segfault\.c:\d+$", shown, re.M)
    assert re.search(r"^#1 .*answer ", shown, re.M)
