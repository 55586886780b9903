"""``stillframe run``: the program's input, output, signals and death are its own.

Also: what is reported and kept, several crashes, programs that cannot be
covered or started, and what is cleaned up.
"""

import os
import pty
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from tests.integration.capture.crash import ADVERSARY, CRASHER, LIBRARY, MUSL_CRASHER, wait_for
from tests.integration.cli.conftest import SHARED_MEMORY, Local
from tests.support.crashers import line_of
from tests.support.oracles import gdb_frames
from tests.support.zstdfile import decompress

NO_CORE = ("prlimit", "--core=0")
CRASHES = [
    "null_read", "null_write", "wild", "non_canonical", "call_null", "exec_data", "ro_write",
    "bus", "ill", "div0", "int3", "abort_call", "assert_false", "kill_self", "raise_segv",
    "raise_abrt", "seccomp_trap", "overflow_main", "overflow_thread", "thread_segv",
    "with_threads", "all_crash",
]  # fmt: skip
HARMLESS = ["exit_normal", "recovered", "ignored"]
STATIC_CRASH = "int main(void) { *(volatile int *)0 = 1; }"
PYTHON_TRAP = (
    "import signal, sys\n"
    "signal.signal(signal.SIG{name}, lambda n, f: sys.exit(40 + n))\n"
    "print('ready', flush=True)\n"
    "while True: signal.pause()\n"
)


def status_of(*command: str | Path) -> int:
    return subprocess.run(
        [*NO_CORE, *map(str, command)], capture_output=True, check=False
    ).returncode


@pytest.mark.parametrize("way", CRASHES)
def test_a_crash_has_its_exit_status_and_its_report(local: Local, way: str) -> None:
    ours = local.run(*NO_CORE, CRASHER, way)
    assert ours.returncode == status_of(CRASHER, way)
    assert ours.returncode < 0
    analysis = local.report["analysis"]
    assert analysis["signal"]["number"] == -ours.returncode
    assert analysis["cause"] in ours.stderr.decode()
    assert local.report["attested"]


@pytest.mark.parametrize(
    ("call", "involvement"),
    [
        ("string_at(8)", "none"),
        ("CDLL(None).sigprocmask(0, c_void_p(8), None)", "frame"),
        # libc stores the thread's id where it may not.
        ("CDLL(None).pthread_create(c_void_p(8), None, CDLL(None).abort, None)", "interposer"),
    ],
)
def test_the_report_says_what_part_our_library_had(
    local: Local, call: str, involvement: str
) -> None:
    script = f"from ctypes import *; {call}"
    local.run(*NO_CORE, sys.executable, "-c", script)
    assert local.report["analysis"]["involvement"] == involvement


@pytest.mark.parametrize("way", HARMLESS)
def test_no_crash_is_no_report(local: Local, way: str) -> None:
    ours = local.run(CRASHER, way)
    assert ours.returncode == status_of(CRASHER, way)
    assert ours.stderr == subprocess.run([CRASHER, way], capture_output=True, check=False).stderr
    assert local.reports() == []


@pytest.mark.parametrize(
    "script", ["exit 0", "exit 7", "exit 255", "kill -TERM $$", "kill -KILL $$", "kill -USR1 $$"]
)
def test_every_end_is_passed_through(local: Local, script: str) -> None:
    assert local.run("sh", "-c", script).returncode == status_of("sh", "-c", script)


def test_the_report_names_function_file_and_line(local: Local) -> None:
    printed = local.run(*NO_CORE, CRASHER, "null_write").stderr.decode()
    assert line_of("null_write") in printed
    home = Path(local.report["snapshot"]).parent
    assert f"gdb {CRASHER} -c {home}/snapshot.core" in printed
    assert (home / "report.txt").read_text() in printed
    assert gdb_frames(CRASHER, home / "snapshot.core")[0] == "null_write"
    assert sorted(path.name for path in home.iterdir()) == [
        "facts.json", "report.json", "report.txt", "snapshot.core",
    ]  # fmt: skip
    assert home.stat().st_mode & 0o777 == 0o700


def test_the_facts_are_printed_and_kept(local: Local) -> None:
    printed = local.run(*NO_CORE, CRASHER, "null_write", LC_ALL="C").stderr.decode()
    facts = msgspec.json.decode(Path(local.report["facts"]).read_bytes())
    assert facts["command"]["arguments"] == [str(CRASHER), "null_write"]
    assert facts["environment"]["values"]["LC_ALL"] == "C"
    assert f"\nFacts:\n  Command:     {CRASHER} null_write\n" in printed
    assert "    LC_ALL=C\n" in printed
    assert "Not known" not in printed


def test_facts_are_switched_off_and_more_variables_allowed(local: Local) -> None:
    options = ("--facts=none,environment", "--facts-env-allow", "APP_*")
    printed = local.run(*NO_CORE, CRASHER, "int3", options=options, APP_ENV="x").stderr.decode()
    assert "APP_ENV=x" in printed
    assert "Command:" not in printed
    wrong = local.run("true", options=("--facts", "everything"))
    assert wrong.returncode == 2
    assert b"'everything' is no fact" in wrong.stderr


def test_a_secret_is_printed_nowhere_and_kept_in_cores_only(local: Local) -> None:
    secret = "correct-horse-battery"
    ours = local.run(
        *NO_CORE, CRASHER, "null_write", f"--token={secret}", secret, APP_PASSWORD=secret
    )
    assert secret.encode() not in ours.stderr
    home = Path(local.report["snapshot"]).parent
    for path in home.iterdir():
        assert (secret.encode() in path.read_bytes()) == path.name.endswith(".core"), path


def test_a_musl_program_is_covered(local: Local) -> None:
    ours = local.run(*NO_CORE, MUSL_CRASHER, "null_write")
    assert ours.returncode == -signal.SIGSEGV
    assert "null_write (faults.c:" in ours.stderr.decode()


def test_input_and_output_are_the_programs(local: Local) -> None:
    data = os.urandom(1 << 20)
    ours = local.run("cat", stdin=data)
    assert ours.stdout == data
    assert ours.stderr == b""


def test_a_crash_leaves_standard_output_alone(local: Local) -> None:
    ours = local.run(*NO_CORE, "sh", "-c", f"echo before; {CRASHER} int3; echo $?")
    assert ours.stdout == b"before\n133\n"


def test_the_exit_status_of_a_crash_does_not_need_a_reader(local: Local) -> None:
    process = subprocess.Popen(
        local.command(*NO_CORE, CRASHER, "null_write"),
        env=local.environment(),
        stderr=subprocess.PIPE,
    )
    assert process.stderr is not None
    process.stderr.close()
    assert process.wait() == -signal.SIGSEGV
    assert local.report["attested"]


def test_every_crash_of_a_tree_is_captured(local: Local) -> None:
    script = f"{CRASHER} null_write & {CRASHER} int3 & {CRASHER} div0 & wait; {CRASHER} bus; true"
    ours = local.run(*NO_CORE, "sh", "-c", script)
    assert ours.returncode == 0
    tops = {report["analysis"]["top_frame"].split()[0] for report in local.reports()}
    assert tops == {"null_write", "int3", "div0", "bus"}


def test_json_is_one_line_per_crash(local: Local) -> None:
    ours = local.run(*NO_CORE, CRASHER, "div0", options=("--json",))
    (line,) = [text for text in ours.stderr.splitlines() if text.startswith(b"{")]
    assert msgspec.json.decode(line) == local.report


def test_evidence_goes_to_the_state_directory_by_default(local: Local, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "stillframe.cli", "run", CRASHER, "div0"]
    environment = local.environment(XDG_STATE_HOME=str(tmp_path / "state"))
    subprocess.run([*NO_CORE, *command], env=environment, capture_output=True, check=False)
    assert len(list((tmp_path / "state/stillframe").glob("*/snapshot.core"))) == 1


def test_the_log_of_a_jvm_is_kept(local: Local, tmp_path: Path) -> None:
    script = f"cd {tmp_path}; echo a log > hs_err_pid$$.log; exec {CRASHER} null_write"
    said = local.run("sh", "-c", script).stderr.decode()
    log = local.keep / local.report["id"] / "hs_err.log"
    assert log.read_text() == "a log\n"
    assert f"JVM's log:   {log}\n" in said


def test_an_existing_preload_stays_behind_ours(local: Local) -> None:
    script = ["env", "LD_PRELOAD=libm.so.6", *local.command("printenv", "LD_PRELOAD")]
    ours = subprocess.run(script, env=local.environment(), capture_output=True, check=True)
    assert ours.stdout.decode() == f"{LIBRARY}:libm.so.6\n"


def test_nothing_stays_in_shared_memory(local: Local) -> None:
    before = set(SHARED_MEMORY.glob("stillframe-*"))
    printed = local.run("sh", "-c", "echo $STILLFRAME_DIR; stat -c %a $STILLFRAME_DIR/..").stdout
    directory, mode = printed.decode().splitlines()
    assert mode == "700"
    assert not Path(directory).parent.exists()
    assert set(SHARED_MEMORY.glob("stillframe-*")) <= before


def test_no_descriptor_of_ours_reaches_the_program(local: Local) -> None:
    script = "import os; print(*sorted(map(int, os.listdir('/proc/self/fd')))[:4])"
    # 3 is the listing's own.
    assert local.run(sys.executable, "-c", script).stdout == b"0 1 2 3\n"


@pytest.mark.parametrize("name", ["TERM", "INT", "HUP", "QUIT", "USR1", "USR2", "WINCH", "ALRM"])
def test_a_signal_sent_to_us_reaches_the_program(local: Local, name: str) -> None:
    number = signal.Signals[f"SIG{name}"]
    process = local.start(sys.executable, "-c", PYTHON_TRAP.format(name=name))
    assert process.stdout is not None
    assert process.stdout.readline() == b"ready\n"
    process.send_signal(number)
    process.communicate()
    assert process.returncode == 40 + number


def test_a_signal_that_kills_the_program_kills_us(local: Local) -> None:
    process = local.start("sh", "-c", "echo ready; exec sleep 60")
    assert process.stdout is not None
    assert process.stdout.readline() == b"ready\n"
    process.send_signal(signal.SIGTERM)
    process.communicate()
    assert process.returncode == -signal.SIGTERM


def test_the_programs_signal_mask_and_dispositions_are_what_they_were(local: Local) -> None:
    command = ["grep", "-E", "^Sig(Blk|Ign)", "/proc/self/status"]
    plain = subprocess.run(command, capture_output=True, check=True)
    assert signal_sets(local.run(*command).stdout) == signal_sets(plain.stdout)


def signal_sets(status: bytes) -> list[int]:
    """The sets without 32 and 33, libc's own: glibc's posix_spawn ignores them (spawni.c)."""
    return [int(line.split()[1], 16) & ~(3 << 31) for line in status.splitlines()]


def test_a_stopped_program_stops_us_and_continues_with_us(local: Local) -> None:
    process = local.start("sh", "-c", "echo $$; read line; echo $line")
    assert process.stdin is not None
    assert process.stdout is not None
    program = int(process.stdout.readline())
    os.kill(program, signal.SIGSTOP)
    assert wait_for(lambda: state(process.pid) == "T", "stop")
    process.send_signal(signal.SIGCONT)
    assert process.communicate(b"went on\n")[0] == b"went on\n"
    assert process.returncode == 0


def state(pid: int) -> str:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]


def test_the_terminals_interrupt_arrives_once(local: Local) -> None:
    script = (
        "import signal, sys\n"
        "hits = []\n"
        "def hit(n, f): hits.append(n); print('hit', flush=True)\n"
        "signal.signal(signal.SIGINT, hit)\n"
        "signal.signal(signal.SIGUSR1, lambda n, f: sys.exit(len(hits)))\n"
        "print('ready', flush=True)\n"
        "while True: signal.pause()\n"
    )
    pid, terminal = pty.fork()
    if pid == 0:
        os.execve(sys.executable, local.command(sys.executable, "-c", script), local.environment())
    output = b""
    sent = False
    while b"hit" not in output:
        output += os.read(terminal, 1024)
        if b"ready" in output and not sent:
            os.write(terminal, b"\x03")
            sent = True
    os.kill(pid, signal.SIGUSR1)
    _, status = os.waitpid(pid, 0)
    os.close(terminal)
    assert os.waitstatus_to_exitcode(status) == 1


def test_as_pid_1_the_status_is_what_a_shell_would_say(local: Local) -> None:
    command = ["unshare", "--pid", "--fork", "--mount-proc", *local.command(CRASHER, "div0")]
    ours = subprocess.run(
        [*NO_CORE, *command], env=local.environment(), capture_output=True, check=False
    )
    assert ours.returncode == 128 + signal.SIGFPE
    assert "div0 (faults.c:" in ours.stderr.decode()


def test_no_capability_is_needed(local: Local) -> None:
    without = ("setpriv", "--bounding-set=-all", "--inh-caps=-all")
    ours = subprocess.run(
        [*without, *NO_CORE, *local.command(CRASHER, "null_write")],
        env=local.environment(),
        capture_output=True,
        check=False,
    )
    assert ours.returncode == -signal.SIGSEGV
    assert "null_write (faults.c:" in ours.stderr.decode()
    assert local.report["attested"]


def test_an_unknown_program_is_127(local: Local) -> None:
    ours = local.run("no-such-program")
    assert ours.returncode == 127
    assert b"stillframe: no-such-program: not found" in ours.stderr


def test_a_program_that_cannot_be_executed_is_126(local: Local, tmp_path: Path) -> None:
    (tmp_path / "data").write_text("data")
    ours = local.run(tmp_path / "data")
    assert ours.returncode == 126
    assert b"cannot be executed: Permission denied" in ours.stderr


def test_a_script_without_an_interpreter_line_is_run_by_sh(local: Local, tmp_path: Path) -> None:
    script = tmp_path / "script"
    script.write_text("echo from sh $1; exit 3\n")
    script.chmod(0o755)
    ours = local.run(script, "argument")
    assert (ours.stdout, ours.returncode) == (b"from sh argument\n", 3)


def test_a_static_program_runs_with_a_warning(local: Local, build: Callable[..., Path]) -> None:
    ours = local.run(*NO_CORE, "env", build(STATIC_CRASH, "-static"))
    assert ours.returncode == -signal.SIGSEGV
    told = local.run(build(STATIC_CRASH, "-static"))
    assert told.returncode == -signal.SIGSEGV
    assert b"will not be captured: it is statically linked" in told.stderr
    assert local.reports() == []


def test_a_sanitized_program_starts(local: Local, build: Callable[..., Path]) -> None:
    program = build('int puts(const char *);int main(void) { puts("ran"); }', "-fsanitize=address")
    assert local.run(program).stdout == b"ran\n"


def test_a_missing_library_is_our_failure(local: Local) -> None:
    ours = local.run("true", STILLFRAME_LIBRARY="/nowhere.so")
    assert ours.returncode == 125
    assert b"no preload library at /nowhere.so" in ours.stderr
    assert b"make build" in ours.stderr


def test_an_unwritable_place_for_evidence_is_our_failure() -> None:
    ours = Local(Path("/proc/evidence")).run("true")
    assert ours.returncode == 125
    assert b"--keep" in ours.stderr


def test_a_hold_of_zero_captures_what_is_left_behind(local: Local) -> None:
    ours = local.run(*NO_CORE, CRASHER, "null_write", options=("--timeout-hold", "0"))
    assert ours.returncode == -signal.SIGSEGV
    assert len(local.reports()) == 1


def test_a_killed_writer_leaves_a_message_not_a_hang(local: Local) -> None:
    script = "echo rubbish > $STILLFRAME_DIR/00112233445566778899aabbccddeeff.part"
    ours = local.run("sh", "-c", script)
    assert ours.returncode == 0
    assert b"a snapshot was not captured: not an ELF file" in ours.stderr
    assert list(local.keep.iterdir()) == []


def test_a_snapshot_refused_while_its_process_lived_is_taken_after_it(
    local: Local, tmp_path: Path
) -> None:
    material = tmp_path / "material"
    local.run(*NO_CORE, CRASHER, "div0")
    Path(local.report["snapshot"]).rename(material)
    script = f'exec {sys.executable} {ADVERSARY} hold_part "$STILLFRAME_DIR" {material}'
    process = local.start("sh", "-c", script)
    kept = local.keep / ("5eed" * 8)
    wait_for(kept.exists, "attempt")
    wait_for(lambda: not kept.exists(), "refusal")
    process.communicate()
    assert process.returncode == 0
    report = msgspec.json.decode((kept / "report.json").read_bytes())
    assert (report["attested"], report["complete"]) == (False, False)


def test_a_full_core_is_kept_and_named(local: Local, tmp_path: Path) -> None:
    ours = local.run(*NO_CORE, CRASHER, "with_threads", "8", options=("--core",))
    assert ours.returncode == -signal.SIGSEGV
    path = Path(local.report["core"])
    assert f"Full core:   {path}" in ours.stderr.decode()
    core = decompress(path, tmp_path / "core")
    assert gdb_frames(CRASHER, core)[:3] == ["null_read", "with_threads", "main"]


def test_a_full_core_that_is_not_compressed_is_named(local: Local) -> None:
    options = ("--core", "--no-compress")
    ours = local.run(*NO_CORE, CRASHER, "with_threads", "8", options=options)
    assert ours.returncode == -signal.SIGSEGV
    path = Path(local.report["core"])
    assert path.name == "full.core"
    assert gdb_frames(CRASHER, path)[:3] == ["null_read", "with_threads", "main"]


def test_no_full_core_is_kept_unasked(local: Local) -> None:
    ours = local.run(*NO_CORE, CRASHER, "null_read")
    assert local.report["core"] is None
    assert "Full core" not in ours.stderr.decode()
    assert list(local.keep.glob("*/full.core*")) == []
