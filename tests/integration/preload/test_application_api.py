"""stillframe.h: an application's words are in the report, its secrets are not.

- it binds in every kind of executable and library, and does nothing without ours
- what is set last is shown, for the crashing thread; limits are refused with a reason
- named bytes, and no others, are zeros in the file
- an update that a crash cuts short shows the value before or after, never a mixture
- the examples of docs/reference/application-api.md are run
"""

import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.integration.preload.conftest import LIBRARY, NO_CORE, ROOT, Outcome, Stage
from tests.integration.preload.snapshot import Flag, description_of

SOURCE = Path(__file__).with_name("annotated.c")
INCLUDE = ROOT / "preload/include"
DOCUMENT = ROOT / "docs/reference/application-api.md"
SEGV = -11
OK, ABSENT, INVALID, TOO_LONG, FULL = 0, -38, -22, -7, -28
RUNS = 50

STRICT = ("-Wall", "-Wextra", "-Wpedantic", "-Werror", "-O2", "-g", "-pthread")
PIE, NO_PIE = ("-fPIE", "-pie"), ("-fno-pie", "-no-pie")
BUILDS = {
    "gcc": ("gcc", "-std=c99", *PIE),
    "gcc-nopie": ("gcc", "-std=c99", *NO_PIE),
    "gcc-nopie-O0": ("gcc", *NO_PIE, "-O0"),
    "gcc-nopie-noplt": ("gcc", *NO_PIE, "-fno-plt"),
    "gcc-nopie-lto": ("gcc", *NO_PIE, "-flto"),
    "gcc-nopie-gold": ("gcc", *NO_PIE, "-fuse-ld=gold"),
    "gcc-intel": ("gcc", *NO_PIE, "-masm=intel"),
    "g++": ("g++", "-xc++", "-std=c++11", *PIE),
    "g++-nopie": ("g++", "-xc++", *NO_PIE, "-fvisibility=hidden"),
    "clang": ("clang", "-std=c99", *PIE),
    "clang-nopie": ("clang", *NO_PIE),
    "clang++-nopie": ("clang++", "-xc++", *NO_PIE),
    "musl": ("musl-gcc", "-std=c11", *PIE),
    "musl-nopie": ("musl-gcc", *NO_PIE),
}
STATIC = {
    "gcc-static": ("gcc", "-static"),
    "gcc-static-pie": ("gcc", "-static-pie", "-fPIE"),
    "musl-static": ("musl-gcc", "-static"),
}


@dataclass(frozen=True)
class Compiler:
    directory: Path
    built: dict[str, Path] = field(default_factory=dict)

    def build(self, name: str, *more: str) -> Path:
        if name not in self.built:
            command = ({**BUILDS, **STATIC} | {"plugin": ("gcc", "-shared", "-fPIC")})[name]
            output = self.directory / name
            subprocess.run(
                [*command, *STRICT, *more, f"-I{INCLUDE}", SOURCE, "-o", output], check=True
            )
            self.built[name] = output
        return self.built[name]


@pytest.fixture(scope="module")
def compiler(tmp_path_factory: pytest.TempPathFactory) -> Compiler:
    return Compiler(tmp_path_factory.mktemp("annotated"))


@dataclass(frozen=True)
class Application:
    """Runs the application, by a name that leaves room in NT_PRPSINFO."""

    stage: Stage
    compiler: Compiler

    def run(
        self,
        way: str,
        *arguments: str,
        build: str = "gcc",
        library: bool = True,
        **variables: str,
    ) -> tuple[list[str], Outcome]:
        preload = {"LD_PRELOAD": str(LIBRARY)} if library else {}
        done = subprocess.run(
            [*NO_CORE, "env", *(f"{k}={v}" for k, v in preload.items()),
             f"./{self.compiler.build(build).name}", way, *arguments],
            cwd=self.compiler.directory,
            env=self.stage.environment(**variables),
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )  # fmt: skip
        snapshots = self.stage.snapshots("glibc")
        return done.stdout.splitlines(), Outcome(done.returncode, done.stderr, snapshots)


@pytest.fixture
def application(stage: Stage, compiler: Compiler) -> Application:
    return Application(stage, compiler)


def results(lines: list[str]) -> list[int]:
    return [int(line) for line in lines]


@pytest.mark.parametrize("build", BUILDS)
def test_calls_bind_whatever_compiled_them(application: Application, build: str) -> None:
    without = application.run("absent", build=build, library=False)
    bound = application.run("absent", build=build)

    assert (results(without[0]), without[1].status) == ([ABSENT] * 4, 0)
    assert (results(bound[0]), bound[1].status) == ([OK] * 4, 0)


@pytest.mark.parametrize("build", STATIC)
def test_calls_do_nothing_in_a_static_executable(application: Application, build: str) -> None:
    lines, outcome = application.run("absent", build=build)

    assert (results(lines), outcome.status) == ([ABSENT] * 4, 0)


def test_calls_do_nothing_when_disabled(application: Application) -> None:
    lines, outcome = application.run("absent", DISABLED="1")

    assert (results(lines), outcome.status) == ([ABSENT] * 4, 0)


@pytest.mark.parametrize("build", ["gcc", "gcc-nopie", "musl", "musl-nopie"])
def test_a_plugin_binds_too(application: Application, build: str) -> None:
    plugin = application.compiler.build("plugin", "-DPLUGIN")
    lines, outcome = application.run("plugin", str(plugin), build=build)

    assert results(lines) == [OK]
    assert outcome.snapshot.annotations == {"plugin": b"loaded"}


@pytest.mark.parametrize("build", ["gcc", "gcc-nopie", "g++", "clang", "musl"])
def test_the_last_words_are_in_the_snapshot(application: Application, build: str) -> None:
    lines, outcome = application.run("report", build=build)

    assert (set(results(lines)), outcome.status) == ({OK}, SEGV)
    assert outcome.snapshot.annotations == {
        "stillframe.request": b"r-2",
        "build": b"1.2.3",
        "shard": b"7",
        "hostile": b"a\x1b[31m\nSignal: none\xff",
    }


def test_a_thread_without_a_request_shows_none(application: Application) -> None:
    assert application.run("no_request")[1].snapshot.annotations == {}


def test_limits_are_refused_with_a_reason(application: Application) -> None:
    """And what was there before stays."""
    lines, outcome = application.run("limits")
    annotations = outcome.snapshot.annotations

    keys = [FULL, OK, OK, OK, OK, TOO_LONG, TOO_LONG, OK, INVALID, INVALID, INVALID]
    requests = [TOO_LONG, OK]
    secrets = [FULL, OK, INVALID, OK, INVALID, INVALID]
    errno_kept = [1]
    assert results(lines) == keys + requests + secrets + errno_kept
    assert annotations["k5"] == b"new"
    assert annotations["k8"] == b"old"
    assert annotations["k" * 63] == b"v" * 255
    assert annotations["stillframe.request"] == b"r" * 63
    assert annotations.keys().isdisjoint(("k6", "k7"))
    assert len(annotations) == 64 + 1
    assert len(outcome.snapshot.note["secrets"]) == 64


def pattern(size: int) -> bytes:
    """As ``byte()`` in annotated.c."""
    return bytes((i * 167 + (i >> 8) * 59) & 0xFF | 0x80 for i in range(size))


def windows(data: bytes, size: int = 8) -> Iterator[bytes]:
    return (data[i : i + size] for i in range(len(data) - size + 1))


@pytest.mark.parametrize("build", ["gcc", "musl"])
def test_named_bytes_and_no_others_are_left_out(application: Application, build: str) -> None:
    lines, outcome = application.run("secret", "named", build=build)
    snapshot = outcome.snapshot
    places = [(int(at, 16), int(size)) for at, size in map(str.split, lines)]

    assert sorted(size for _, size in places) == [33, 101, 9001]
    assert snapshot.note["secrets"] == [list(place) for place in sorted(places)]
    for address, size in places:
        around = snapshot.memory(address - 16, size + 32)
        assert around == b"B" * 16 + bytes(size) + b"A" * 16
    secret = set(windows(pattern(9001)))
    assert not [w for w in windows(snapshot.path.read_bytes()) if w in secret]


def test_bytes_that_nobody_named_are_there(application: Application) -> None:
    """The search of the test above finds what is not left out."""
    lines, outcome = application.run("secret", "unnamed")
    snapshot = outcome.snapshot

    for address, size in ((int(at, 16), int(size)) for at, size in map(str.split, lines)):
        assert snapshot.memory(address, size) == pattern(size)
        assert pattern(size) in snapshot.path.read_bytes()


def test_debuggers_read_a_snapshot_with_holes(application: Application) -> None:
    snapshot = application.run("secret", "named")[1].snapshot

    assert [f.function for f in snapshot.eu_stack_frames()][:3] == ["crash", "secret", "main"]


@pytest.mark.parametrize("way", ["torn", "torn_unstopped"])
def test_no_crash_shows_half_an_annotation(application: Application, way: str) -> None:
    """Another thread rewrites it all the time: stopped anywhere, or not stopped at all."""
    seen = set()
    for run in range(RUNS):
        snapshot = application.run(way, str(100 + 37 * run))[1].snapshot
        seen.add(snapshot.annotations["flip"])
        application.stage.clear()

    assert seen == {b"a" * 255, b"b" * 200}


def test_no_crash_shows_half_a_request(application: Application) -> None:
    """A signal handler interrupts its update with another one, or with a crash."""
    seen = set()
    for run in range(RUNS):
        snapshot = application.run("torn_request", str(20 + run))[1].snapshot
        seen.add(snapshot.annotations["stillframe.request"])
        application.stage.clear()

    assert seen <= {b"a" * 63, b"b" * 40, b"c" * 50}
    assert len(seen) > 1


def test_many_threads_write_at_once(application: Application) -> None:
    lines, outcome = application.run("writers")
    annotations = outcome.snapshot.annotations

    assert lines == [], "every call succeeded"
    assert len(annotations) == 16
    for n in range(8):
        assert annotations[f"own{n}"] == b"2000"
        shared = annotations[f"shared{n}"]
        letter = shared[0] - ord("a")
        assert shared == bytes([shared[0]]) * (20 * letter + 1)


def test_a_crashed_vfork_child_leaves_its_parent_able_to_speak(application: Application) -> None:
    lines, outcome = application.run("vfork_child")

    assert results(lines) == [OK]
    assert sorted(s.annotations["who"] for s in outcome.snapshots) == [b"child", b"parent"]


def test_a_secret_argument_is_not_in_the_command_line(application: Application) -> None:
    """Copies in registers, and those that the loader saved on the stack, are another matter."""
    word = "sesame" * 5
    control = application.run("no_request", word)[1].snapshot
    assert word.encode() in description_of(control.path, "NT_PRPSINFO")
    application.stage.clear()
    hidden = application.run("secret_argument", word)[1].snapshot
    ((address, size),) = hidden.note["secrets"]

    assert hidden.memory(address - 16, 16 + size + 1) == b"secret_argument\0" + bytes(size + 1)
    assert b"secret_argument   " in description_of(hidden.path, "NT_PRPSINFO")
    assert b"sesame" not in description_of(hidden.path, "NT_PRPSINFO")


def test_registers_alone_keep_a_page_of_words(application: Application) -> None:
    """64 annotations of the longest kind are 20 KiB."""
    snapshot = application.run("many_long", MAX_BYTES=str(16 << 10))[1].snapshot

    assert Flag.REGISTERS_ONLY in snapshot.flags
    assert snapshot.annotations["stillframe.request"] == b"r-1"
    assert 2048 < snapshot.note["text_bytes"] <= 4096
    assert snapshot.registers()


@pytest.mark.parametrize("build", ["gcc", "musl"])
def test_the_report_for_people_has_the_words(
    application: Application, tmp_path: Path, build: str
) -> None:
    """As `stillframe run` prints it; hostile text stays on its line."""
    crasher = application.compiler.build(build)
    run = [sys.executable, "-m", "stillframe.cli", "run"]
    done = subprocess.run(
        [*run, "--keep", tmp_path, "--", crasher, "report"],
        capture_output=True,
        check=False,
        timeout=60,
        env=application.stage.environment(LIBRARY=str(LIBRARY)) | {"PYTHONPATH": str(ROOT / "src")},
    )
    lines = done.stderr.decode().splitlines()

    assert "Request:     r-2" in lines
    assert "Annotation:  build=1.2.3" in lines
    assert "Annotation:  hostile=a\\x1b[31m\\nSignal: none\\xff" in lines
    assert not [line for line in lines if "gone" in line]
    assert all(line.isprintable() for line in lines)


EXAMPLES = dict(re.findall(r"```(c|cpp|python)\n(.*?)```", DOCUMENT.read_text(), re.DOTALL))


@pytest.mark.parametrize(("language", "compiler_"), [("c", "gcc"), ("cpp", "g++")])
def test_examples_of_the_documentation_compile_and_run(
    stage: Stage, tmp_path: Path, language: str, compiler_: str
) -> None:
    program = tmp_path / "example"
    source = program.with_suffix(f".{language}")
    source.write_text(EXAMPLES[language])
    subprocess.run([compiler_, *STRICT, f"-I{INCLUDE}", source, "-o", program], check=True)

    for preload in ("", str(LIBRARY)):
        subprocess.run([program], env=stage.environment() | {"LD_PRELOAD": preload}, check=True)


def test_the_python_example_annotates_a_crash(stage: Stage) -> None:
    program = EXAMPLES["python"]
    assert len([line for line in program.splitlines() if line]) <= 10
    statuses = [
        subprocess.run(
            [*NO_CORE, "env", f"LD_PRELOAD={preload}", sys.executable, "-S", "-c", program + end],
            env=stage.environment(),
            check=False,
            timeout=60,
        ).returncode
        for preload, end in (("", ""), (LIBRARY, "ctypes.string_at(0)"))
    ]
    (snapshot,) = stage.snapshots("glibc")

    assert statuses == [0, SEGV]
    assert snapshot.annotations == {"stillframe.request": b"GET /cart 77", "build": b"1.2.3"}
