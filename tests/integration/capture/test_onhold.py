"""Sockets of a held process: whose clients fail at once, and which sockets nobody may touch.

Covers: TCP and Unix, listening, connected and waiting to be accepted; datagrams; without the
option; shared sockets, also in a thread's own table; not PID 1; not held, a lock of another
process, a dead process; descriptors that cannot be read; more than there is time for; a socket
that hangs.

The agent has the capabilities of its pod, and a pid namespace that stands for the node's: on the
machine below there may be processes that it must not look at.
"""

import json
import re
import select
import shlex
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path

import pytest

from stillframe.corefile import CoreFile
from tests.integration.capture.crash import LIBRARY, ROOT, SECONDS, end, environment
from tests.support.zstdfile import decompress

HERE = Path(__file__).parent
NODE = ("unshare", "--pid", "--fork", "--kill-child", "--mount-proc")
PID_1 = ("unshare", "--pid", "--fork", "--kill-child")
PRIVILEGES = "-all,+sys_ptrace,+dac_read_search"
FEW = "-all,+dac_read_search"
HOLD = {"HOLD_MS": "20000", "CLAIM_MS": "10000"}
DONE = "sockets shut down while the process was held: "
NOTHING = "no socket was shut down while the process was held: "


@dataclass(frozen=True)
class Taken:
    status: int
    core: CoreFile
    soft_errors: list[str]


class Server:
    """A server with a client on each socket and one that waits to be accepted; and its agent."""

    def __init__(
        self,
        place: Path,
        *,
        mode: str = "alone",
        wish: str = "shut",
        before: tuple[str, ...] = PID_1,
        privileges: str = PRIVILEGES,
        file: Path | None = None,
    ) -> None:
        directory, self.evidence = place / "snapshots", place / "evidence"
        directory.mkdir()
        self.evidence.mkdir()
        self.unix = place / "unix"
        server = [*before, "prlimit", "--core=0", "env", f"LD_PRELOAD={LIBRARY}", sys.executable]
        server += [str(HERE / "server.py"), mode, str(place), *([str(file)] if file else [])]
        # No new privileges, as in its pod: what is dropped stays dropped.
        agent = ["setpriv", "--no-new-privs", "--bounding-set", privileges, "--inh-caps", "-all"]
        agent += [sys.executable, str(HERE / "onhold_agent.py")]
        agent_arguments = shlex.join([str(directory), str(self.evidence), wish])
        script = f"{shlex.join(server)} & exec {shlex.join(agent)} $! {agent_arguments}"
        paths = ":".join(path or "." for path in sys.path)
        self.process = subprocess.Popen(
            [*NODE, "sh", "-c", script],
            env={**environment(directory, **HOLD), "PYTHONPATH": paths},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=ROOT,
        )
        self._lines: list[str] = []
        ports = self.wait_line(lambda line: line[0].isdigit())
        self.port, udp = map(int, ports.split())
        served = [] if mode == "workers" else [self.tcp_client, self.unix_client]
        self.accepted = [connect() for connect in served]
        self.wait_line(lambda line: line == "accepted")
        self.waiting = [connect() for connect in served]
        self.datagrams = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.datagrams.connect(("127.0.0.1", udp))
        self.wait_line(lambda line: line == "ready")

    @property
    def clients(self) -> list[socket.socket]:
        return [*self.accepted, *self.waiting]

    def wait_line(self, wanted: Callable[[str], bool]) -> str:
        """The first line like that, of server or agent, which write in any order."""
        assert self.process.stdout is not None
        while True:
            for line in self._lines:
                if wanted(line):
                    self._lines.remove(line)
                    return line
            line = self.process.stdout.readline()
            assert line, "it ended"
            self._lines.append(line.rstrip("\n"))

    def tcp_client(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.port), SECONDS)

    def unix_client(self) -> socket.socket:
        client = socket.socket(socket.AF_UNIX)
        client.settimeout(SECONDS)
        client.connect(str(self.unix))
        return client

    def crash(self) -> None:
        """Let it crash; it is held, and everything is taken, when this returns."""
        self.datagrams.send(b"x")
        self.wait_line(lambda line: line == "taken")

    def answer(self) -> list[str | int]:
        """What the agent says when it may go on."""
        assert self.process.stdin is not None
        print(file=self.process.stdin, flush=True)
        answer: list[str | int] = json.loads(self.wait_line(lambda line: line.startswith("[")))
        return answer

    def die(self) -> Taken:
        """Let it go; how it died, and what was taken."""
        status, core, *soft_errors = self.answer()
        assert core, soft_errors
        plain = decompress(self.evidence / str(core), self.evidence / "core")
        return Taken(
            int(status), CoreFile.from_bytes(plain.read_bytes()), list(map(str, soft_errors))
        )

    def close(self) -> None:
        for each in (*self.clients, self.datagrams):
            each.close()
        end(self.process)  # type: ignore[arg-type]


@pytest.fixture(name="start")
def start_(tmp_path: Path) -> Iterator[Callable[..., Server]]:
    with ExitStack() as running:

        def start(**options: object) -> Server:
            return running.enter_context(closing(Server(tmp_path, **options)))  # type: ignore[arg-type]

        yield start


def ended(client: socket.socket) -> bool:
    """Whether the other side ended the connection; waits for it."""
    try:
        return client.recv(1) == b""
    except ConnectionResetError:
        return True


def silent(clients: list[socket.socket]) -> bool:
    """Whether nothing at all has come."""
    return not select.select(clients, [], [], 0)[0]


def test_every_client_of_a_held_server_fails_at_once(start: Callable[..., Server]) -> None:
    server = start()
    server.crash()
    assert [ended(client) for client in server.clients] == [True] * 4
    with pytest.raises(ConnectionRefusedError):
        server.tcp_client()
    with pytest.raises(ConnectionRefusedError):
        server.unix_client()
    for _ in range(2):  # the second would tell that nobody has the port any more
        server.datagrams.send(b"x")
    taken = server.die()
    assert taken.soft_errors == [f"{DONE}4"]
    assert taken.status == -signal.SIGSEGV
    assert not taken.core.truncated
    assert taken.core.problems == []


def test_without_the_option_they_wait_until_it_is_dead(start: Callable[..., Server]) -> None:
    server = start(wish="leave")
    server.crash()
    assert silent(server.clients)
    with server.tcp_client(), server.unix_client():
        pass
    taken = server.die()
    assert taken.soft_errors == []
    assert taken.status == -signal.SIGSEGV
    assert [ended(client) for client in server.clients] == [True] * 4


def test_what_a_worker_serves_goes_on_being_served(start: Callable[..., Server]) -> None:
    server = start(mode="workers")
    server.crash()
    with server.tcp_client() as client:
        assert client.recv(16) == b"served"
    taken = server.die()
    (line,) = taken.soft_errors
    assert line.startswith(f"{NOTHING}2 left alone: other processes have them as well, such as ")
    assert taken.status == -signal.SIGSEGV


def test_a_socket_in_the_own_table_of_a_thread_elsewhere_is_left_alone(
    start: Callable[..., Server],
) -> None:
    server = start(mode="hidden")
    server.crash()
    assert [ended(client) for client in server.accepted] == [True] * 2
    assert silent(server.waiting)
    (line,) = server.die().soft_errors
    assert line.startswith(f"{DONE}2 (2 left alone: ")


def test_a_process_that_is_not_pid_1_is_left_alone(start: Callable[..., Server]) -> None:
    server = start(before=())
    server.crash()
    assert silent(server.clients)
    taken = server.die()
    assert taken.soft_errors == [f"{NOTHING}it is not PID 1 of a container"]
    assert taken.status == -signal.SIGSEGV


def test_where_not_all_descriptors_can_be_read_nothing_is_done(
    start: Callable[..., Server],
) -> None:
    """Without SYS_PTRACE, who has more capabilities than we cannot be looked at: its launcher."""
    few = ("setpriv", "--bounding-set", FEW, "--inh-caps", "-all")
    server = start(wish="unlocked", before=(*PID_1, *few), privileges=FEW)
    (line,) = server.answer()
    assert re.fullmatch(rf"{NOTHING}the descriptors of process \d+ cannot be read", str(line))
    assert silent(server.clients)


@pytest.mark.parametrize("case", ["unlocked", "held by another"])
def test_a_process_that_is_not_held_is_left_alone(start: Callable[..., Server], case: str) -> None:
    """A lock of another process is what is seen when a pid was used again."""
    server = start(wish=case)
    assert server.answer() == [f"{NOTHING}it is not held any more"]
    assert silent(server.clients)


def test_a_process_that_died_meanwhile_costs_nothing(start: Callable[..., Server]) -> None:
    assert start(wish="dead").answer() == [f"{NOTHING}it is not held any more"]


def test_a_socket_that_hangs_us_is_left_behind(
    start: Callable[..., Server], silent_file: Path
) -> None:
    server = start(mode="stuck", file=silent_file)
    server.crash()
    # Ends what the thread waits for: with it not even SIGKILL ends the process.
    subprocess.run(["umount", "--force", silent_file.parent], check=False, capture_output=True)
    taken = server.die()
    assert "shutting its sockets down hung" in taken.soft_errors
    assert taken.status == -signal.SIGSEGV
    assert not taken.core.truncated


@pytest.mark.parametrize(("mode", "wish"), [("alone", "late"), ("many", "soon late")])
def test_when_time_is_over_nothing_is_done(
    start: Callable[..., Server], mode: str, wish: str
) -> None:
    """To look at 100,000 descriptors takes longer than 20 ms anywhere."""
    server = start(mode=mode, wish=wish)
    (line,) = server.answer()
    assert line == f"{NOTHING}looking at the descriptors of all processes took too long"
    assert silent(server.clients)
