"""``stillframe snapshot``: a live process is looked at and goes on; a first user's mistakes."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import msgspec
import pytest

from stillframe.corefile import CoreFile
from tests.integration.capture.crash import ROOT, end, wait_for
from tests.support.oracles import drgn_frames, gdb_frames

PROGRAM = """
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
char *memory;
static void *beside(void *unused) { for (;;) pause(); return unused; }
__attribute__((noinline)) static int waits(void)
{
	int c, sum = 0;
	while ((c = getchar()) != EOF) {
		sum += c;
		printf("%d\\n", sum);
		fflush(stdout);
	}
	return sum;
}
int main(void)
{
	pthread_t thread;
	for (int i = 0; i < 3; i++)
		pthread_create(&thread, NULL, beside, NULL);
	memory = malloc(4 << 20);
	memset(memory, 7, 4 << 20);
	puts("ready");
	fflush(stdout);
	return waits() & 1;
}
"""


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("program") / "live"
    compiler = ["gcc", "-g", "-O1", "-pthread", "-x", "c", "-", "-o", path]
    subprocess.run(compiler, input=PROGRAM, text=True, check=True)
    return path


@pytest.fixture
def live(program: Path) -> Iterator["subprocess.Popen[bytes]"]:
    with subprocess.Popen([program], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        yield process
        process.kill()


def snapshot(
    pid: int, keep: Path, *options: str, before: tuple[str, ...] = ()
) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-m", "stillframe.cli", "snapshot", str(pid), "--keep", keep]
    return subprocess.run(
        [*before, *command, *options],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(path or "." for path in sys.path)},
        cwd=ROOT,
    )


def ask(process: "subprocess.Popen[bytes]", letter: bytes) -> bytes:
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(letter)
    process.stdin.flush()
    return process.stdout.readline()


def test_the_report_is_of_the_main_thread_and_the_process_goes_on(
    live: "subprocess.Popen[bytes]", program: Path, tmp_path: Path
) -> None:
    assert ask(live, b"A") == b"65\n"
    done = snapshot(live.pid, tmp_path)
    assert done.returncode == 0, done.stderr
    assert "live: no signal: a snapshot of a live process" in done.stdout
    assert "waits" in done.stdout
    (core,) = tmp_path.glob("*/full.core")
    assert f"-c {core}" in done.stdout
    for frames in (gdb_frames, drgn_frames):
        found = frames(program, core)
        assert found[found.index("waits") + 1] == "main"
    file = CoreFile.from_bytes(core.read_bytes())
    assert len(file.threads) == 4
    assert file.threads[0].tid == live.pid
    assert file.signal is None
    assert "TracerPid:\t0" in Path(f"/proc/{live.pid}/status").read_text()
    assert ask(live, b"B") == b"131\n"
    assert live.communicate()[0] == b""
    assert live.returncode == 1


def test_the_report_for_programs(live: "subprocess.Popen[bytes]", tmp_path: Path) -> None:
    done = snapshot(live.pid, tmp_path, "--json")
    report = msgspec.json.decode(done.stdout)
    (kept,) = tmp_path.glob("*/report.json")
    assert msgspec.json.decode(kept.read_bytes()) == report
    assert report["analysis"]["signal"]["number"] == 0
    assert report["soft_errors"] == []
    assert report["bytes"] == Path(report["core"]).stat().st_size


def test_a_process_that_was_stopped_stays_stopped(
    live: "subprocess.Popen[bytes]", tmp_path: Path
) -> None:
    live.send_signal(signal.SIGSTOP)
    wait_for(lambda: state(live.pid) == "T", "stop")
    assert snapshot(live.pid, tmp_path).returncode == 0
    wait_for(lambda: state(live.pid) == "T", "stop")
    live.send_signal(signal.SIGCONT)
    assert ask(live, b"A") == b"65\n"


def test_a_size_that_is_too_small_is_said(live: "subprocess.Popen[bytes]", tmp_path: Path) -> None:
    done = snapshot(live.pid, tmp_path, "--core-bytes", "2000000")
    assert done.returncode == 0, done.stderr
    assert "the full core is truncated" in done.stdout


def state(pid: int) -> str:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]


def refused(done: "subprocess.CompletedProcess[str]", keep: Path) -> str:
    assert done.returncode != 0
    assert list(keep.iterdir()) == []
    assert "Traceback" not in done.stderr
    return done.stderr


def test_a_pid_that_is_not_there(tmp_path: Path) -> None:
    assert "there is no process 4194304" in refused(snapshot(4194304, tmp_path), tmp_path)


def test_a_process_of_somebody_else(live: "subprocess.Popen[bytes]") -> None:
    user = ("setpriv", "--reuid", "1000", "--regid", "1000", "--clear-groups")
    with TemporaryDirectory(dir="/dev/shm") as public:
        Path(public).chmod(0o777)
        words = refused(snapshot(live.pid, Path(public), before=user), Path(public))
    assert f"the kernel does not let us look at process {live.pid}" in words
    assert f"sudo stillframe snapshot {live.pid}" in words


def test_a_process_that_is_traced(live: "subprocess.Popen[bytes]", tmp_path: Path) -> None:
    script = ROOT / "tests/integration/capture/seize.py"
    tracer = subprocess.Popen(
        [sys.executable, script, str(live.pid)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert tracer.stdout is not None
    assert tracer.stdout.readline() == b"ready\n"
    words = refused(snapshot(live.pid, tmp_path), tmp_path)
    end(tracer)
    assert f"is being traced by process {tracer.pid}" in words


def test_itself(tmp_path: Path) -> None:
    script = f'exec {sys.executable} -m stillframe.cli snapshot $$ --keep "{tmp_path}"'
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path or "." for path in sys.path)}
    done = subprocess.run(
        ["sh", "-c", script], capture_output=True, text=True, check=False, env=environment, cwd=ROOT
    )
    assert "is this command itself" in refused(done, tmp_path)


def test_a_kernel_thread(tmp_path: Path) -> None:
    assert "process 2 is a kernel thread" in refused(snapshot(2, tmp_path), tmp_path)


def test_a_zombie(tmp_path: Path) -> None:
    process = subprocess.Popen(["true"])
    wait_for(lambda: state(process.pid) == "Z", "death")
    words = refused(snapshot(process.pid, tmp_path), tmp_path)
    process.wait()
    assert f"it is a zombie that process {os.getpid()} has not reaped" in words


def test_a_thread(live: "subprocess.Popen[bytes]", tmp_path: Path) -> None:
    tids = sorted(int(path.name) for path in Path(f"/proc/{live.pid}/task").iterdir())
    words = refused(snapshot(tids[-1], tmp_path), tmp_path)
    assert f"{tids[-1]} is a thread of process {live.pid}" in words
    assert f"stillframe snapshot {live.pid}" in words
