"""What the report says of a runtime's own frames, by `stillframe run` and real crashes.

- the JVM: Java frames where the native stack has generated code, on the machine's JVM and a newer
  one; what the VM says when it gives up by itself; that a log is missing, or of another death;
  that two Java bugs are two groups
- the files of a sample, copied elsewhere, give the same report by one command
- CPython: each thread's Python stack from a full core, and no value of a variable; what it takes
  where there is none; that an expanded core leaves nothing and has a limit
- Rust: the inline frames of free functions, as addr2line has them, in both versions of DWARF
- Go: the function that panicked is on top, also where its first instruction did; another function
  is another group
"""

import os
import re
import shutil
import subprocess
import sys
from contextlib import ExitStack, chdir
from pathlib import Path
from typing import Any

import msgspec
import pytest
import zstandard

from stillframe.analysis import Analysis, Limits, analyze
from stillframe.analysis.model import MAX_FRAMES_CRASHED
from tests.integration.analysis.conftest import mapped_files
from tests.integration.cli.conftest import Local
from tests.integration.runtimes.conftest import PROGRAMS
from tests.integration.runtimes.test_java import JAVAS

__all__ = ["Local"]

NO_CORE = ("prlimit", "--core=0")
LIBRARY = f"-Dcrash.library={PROGRAMS / 'jni.so'}"
PYTHONS = {path.resolve() for path in (Path(sys.executable), Path("/usr/bin/python3"))} | {
    # Where the interpreter's state has gaps in a core: see analysis/gaps.py.
    *Path.home().glob(".pyenv/versions/3.13.*/bin/python3.13")
}
SECRET = "hunter2"
CART = f"""
import ctypes, threading

class Cart:
    def total(self, password):
        return ctypes.string_at(0)

def work():
    Cart().total("{SECRET}")

thread = threading.Thread(target=work)
thread.start()
thread.join()
"""


@pytest.fixture
def local(tmp_path: Path, programs: None, monkeypatch: pytest.MonkeyPatch) -> Local:
    """Local mode in a directory of its own: the JVM writes its log there."""
    monkeypatch.chdir(tmp_path)
    return Local(tmp_path / "evidence")


def java(local: Local, version: str, way: str, *options: str) -> dict[str, Any]:
    command = (JAVAS[version], "-Xmx64m", *options, "-cp", PROGRAMS, "Crash", way)
    local.run(*NO_CORE, *command)
    analysis: dict[str, Any] = local.report["analysis"]
    return analysis


def told(analysis: dict[str, Any]) -> list[str]:
    """The frames of the crashing thread that the runtime told, and what comes before them."""
    frames = analysis["threads"][0]["frames"]
    java = [frame["trust"] == "runtime" for frame in frames]
    last = len(java) - java[::-1].index(True) if True in java else 0
    return [frame.get("function", "?") for frame in frames[:last]]


@pytest.mark.parametrize("version", JAVAS)
def test_java_code_that_crashed_the_vm_is_in_the_stack(local: Local, version: str) -> None:
    analysis = java(local, version, "unsafe", "-Xint")
    assert told(analysis) == [
        "Unsafe_PutLong",
        "jdk.internal.misc.Unsafe.putLong(Object, long, long)",
        "jdk.internal.misc.Unsafe.putAddress(Object, long, long)",
        "jdk.internal.misc.Unsafe.putAddress(long, long)",
        "sun.misc.Unsafe.putAddress(long, long)",
        "Crash.unsafe()",
        "Crash.main(String[])",
        "~StubRoutines::call_stub",
    ]
    assert analysis["java"]["thread"] == 'JavaThread "main"'
    assert "Noticed in code called from Crash.unsafe() (bytecode 5)" in analysis["message"]
    assert analysis["top_frame"] == "Crash.unsafe() (bytecode 5)"
    assert any(line.startswith("#5 Crash.unsafe() (") for line in analysis["stack"])


@pytest.mark.parametrize("version", JAVAS)
def test_a_fault_in_compiled_java_has_its_method_on_top(local: Local, version: str) -> None:
    analysis = java(local, version, "compiled", "-XX:-TieredCompilation")
    assert told(analysis)[:3] == [
        "Crash.poke(Unsafe, long, int[])",
        "Crash.compiled()",
        "Crash.main(String[])",
    ]
    assert analysis["top_frame"] == "Crash.poke(Unsafe, long, int[]) (Java)"


@pytest.mark.parametrize("version", JAVAS)
def test_a_native_method_has_the_java_code_that_called_it(local: Local, version: str) -> None:
    analysis = java(local, version, "jni", "-Xint", LIBRARY)
    assert told(analysis)[:5] == [
        "write_to",
        "Java_Crash_write",
        "Crash.write(long)",
        "Crash.jni()",
        "Crash.main(String[])",
    ]
    assert analysis["top_frame"] == "write_to (jni.c:4)"


def test_an_error_of_the_vm_itself_is_in_the_message(local: Local) -> None:
    analysis = java(local, "machine", "outOfMemory", "-Xint", "-XX:+CrashOnOutOfMemoryError")
    assert "fatal error: OutOfMemory encountered: Java heap space" in analysis["message"]
    assert "Crash.outOfMemory()" in told(analysis)


def test_a_log_that_is_elsewhere_is_missed(local: Local, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere.log"
    analysis = java(local, "machine", "unsafe", "-Xint", f"-XX:ErrorFile={elsewhere}")
    assert elsewhere.exists()
    assert told(analysis) == []
    assert "java" not in analysis or analysis["java"] is None
    assert any("no Java frames: there is no log" in e for e in analysis["soft_errors"])


SHOP = """
import java.lang.reflect.Field;
import sun.misc.Unsafe;

public final class Shop {{
    static native void write(long address);

    {above}
    static void put(String how) {{
        try {{
            Field field = Unsafe.class.getDeclaredField("theUnsafe");
            field.setAccessible(true);
            if (how.equals("jni")) write(0); else ((Unsafe) field.get(null)).putLong(0, 0);
        }} catch (ReflectiveOperationException e) {{
            throw new AssertionError(e);
        }}
    }}

    public static void main(String[] arguments) throws Exception {{
        System.load(System.getProperty("crash.library"));
        {before}
        Runnable task = () -> {{ {bug}.total(arguments[0]); }};
        task.run();
    }}
}}
class Cart {{ static void total(String how) {{ Shop.put(how); }} }}
class Order {{ static void total(String how) {{ Shop.put(how); }} }}
"""
WRITE = """
void write_to(volatile int *at) { *at = 7; }
void Java_Shop_write(void *env, void *type, long at) { write_to((volatile int *)at); }
"""


@pytest.mark.parametrize(("version", "how"), [("machine", "jni"), ("newer", "unsafe")])
def test_two_java_bugs_in_one_native_function_are_two_groups_and_a_rebuild_is_none(
    local: Local, tmp_path: Path, version: str, how: str
) -> None:
    library = tmp_path / "libshop.so"
    gcc = ["gcc", "-g", "-shared", "-fPIC", "-x", "c", "-", "-o", library]
    subprocess.run(gcc, input=WRITE.encode(), check=True)

    def group(number: int, bug: str, **changes: str) -> str:
        classes = tmp_path / f"{number}"
        (classes / "src").mkdir(parents=True)
        source = SHOP.format(bug=bug, **{"above": "", "before": "", **changes})
        (classes / "src/Shop.java").write_text(source)
        javac = ["javac", "-XDignore.symbol.file", "-d", classes, classes / "src/Shop.java"]
        subprocess.run(javac, check=True)
        known = {report["id"] for report in local.reports()}
        options = ("-Xint", "-Xmx64m", f"-Dcrash.library={library}", "-cp", classes)
        local.run(*NO_CORE, JAVAS[version], *options, "Shop", how)
        (analysis,) = (r["analysis"] for r in local.reports() if r["id"] not in known)
        assert "Shop.lambda$main$" in "".join(told(analysis))
        key: str = analysis["fingerprint"]
        return key

    cart = group(1, "Cart")
    more = "\n\n    static int more(int n) { return n + 1; }\n"
    lambdas = "Runnable first = () -> more(1); first.run();"
    assert group(2, "Cart", above=more, before=lambdas) == cart
    assert group(3, "Order") != cart


def test_a_java_bug_is_one_group_interpreted_and_compiled(local: Local) -> None:
    """Compiled code goes through Unsafe without a frame of it."""
    command = (JAVAS["machine"], "-Xmx64m", "-cp", PROGRAMS, "Crash", "compiled")
    for option in ("-Xint", "-XX:-TieredCompilation"):
        local.run(*NO_CORE, command[0], option, *command[1:])
    first, second = (report["analysis"] for report in local.reports())
    assert {told(first)[0], told(second)[0]} == {
        "Unsafe_PutLong",
        "Crash.poke(Unsafe, long, int[])",
    }
    assert first["fingerprint"] == second["fingerprint"]


@pytest.fixture(scope="module")
def dead_jvm(tmp_path_factory: pytest.TempPathFactory, programs: None) -> Path:
    """The sample of a crashed JVM."""
    work = tmp_path_factory.mktemp("jvm")
    local = Local(work / "evidence")
    with chdir(work):
        java(local, "machine", "unsafe", "-Xint")
    (home,) = local.keep.iterdir()
    return home


@pytest.mark.parametrize(
    ("written", "instead", "says"),
    [
        (r"pid=\d+", "pid=7", "it has pid 0x7, not 0x"),
        (r"SIGSEGV \(0xb\)", "SIGBUS (0x7)", "it has signal 0x7, not 0xb"),
        (r"si_addr: 0x0+", "si_addr: 0x10", "it has fault address 0x10, not 0x0"),
    ],
    ids=["pid", "signal", "address"],
)
def test_a_log_of_another_death_is_not_believed(
    dead_jvm: Path, tmp_path: Path, written: str, instead: str, says: str
) -> None:
    sample = Path(shutil.copytree(dead_jvm, tmp_path / "sample"))
    log = sample / "hs_err.log"
    text, count = re.subn(written, instead, log.read_text())
    assert count
    log.write_text(text)
    doubtful = msgspec.json.decode(analyzed(sample, "--json"))
    log.unlink()
    without = msgspec.json.decode(analyzed(sample, "--json"))
    assert told(doubtful) == []
    assert doubtful["java"] is None
    assert [error for error in doubtful["soft_errors"] if says in error]
    assert doubtful["fingerprint"] == without["fingerprint"]


def test_a_python_crash_is_in_one_group_with_and_without_a_full_core(
    local: Local, tmp_path: Path
) -> None:
    (script := tmp_path / "cart.py").write_text(CART)
    for options in ((), ("--core",)):
        local.run(*NO_CORE, sys.executable, script, options=options)
    first, second = (report["analysis"] for report in local.reports())
    assert bool(first["threads"][0].get("python")) != bool(second["threads"][0].get("python"))
    assert first["fingerprint"] == second["fingerprint"]


@pytest.mark.parametrize("python", sorted(PYTHONS), ids=str)
def test_python_code_is_told_for_each_thread(local: Local, python: Path, tmp_path: Path) -> None:
    script = tmp_path / "cart.py"
    script.write_text(CART)
    local.run(*NO_CORE, python, script, options=("--core",))

    analysis = local.report["analysis"]
    stacks = [
        [(f["function"].split(".")[-1], f["line"]) for f in t["python"] if f["file"] == str(script)]
        for t in analysis["threads"]
    ]
    # The main thread is in start() or in join() by then.
    assert stacks in [[[("total", 6), ("work", 9)], [("<module>", line)]] for line in (12, 13)]
    assert "total (cart.py:6)" in analysis["message"]
    assert analysis["threads"][0]["python"][-1]["function"].endswith("_bootstrap")
    assert analysis["soft_errors"] == []
    (home,) = local.keep.iterdir()
    assert sorted(path.name for path in home.iterdir()) == [
        "facts.json",
        "full.core.zst",
        "report.json",
        "report.txt",
        "snapshot.core",
    ]
    for report in home.glob("report.*"):
        assert SECRET not in report.read_text()


def analyzed(evidence: Path, *options: str) -> str:
    command = [sys.executable, "-m", "stillframe.cli", "analyze", evidence, *options]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


@pytest.mark.parametrize("runtime", ["java", "python"])
def test_a_copied_sample_is_reported_by_one_command_as_it_was_at_first(
    local: Local, tmp_path: Path, runtime: str
) -> None:
    if runtime == "java":
        java(local, "machine", "unsafe", "-Xint")
        expected = ["Crash.unsafe() (bytecode ", 'JavaThread "main"']
    else:
        (script := tmp_path / "cart.py").write_text(CART)
        local.run(*NO_CORE, sys.executable, script, options=("--core",))
        expected = ["total (cart.py:6)"]
    first = local.report
    (home,) = local.keep.iterdir()
    sample = home.rename(tmp_path / "copied")
    for name in ("report.json", "report.txt"):
        (sample / name).unlink()
    assert msgspec.json.decode(analyzed(sample, "--json")) == first["analysis"]
    text = analyzed(sample)
    assert [words for words in [*expected, "\nFacts:\n  Command: "] if words not in text] == []


def test_without_a_full_core_the_report_says_how_to_get_one(local: Local) -> None:
    local.run(*NO_CORE, sys.executable, "-c", "import ctypes; ctypes.string_at(0)")
    (error,) = local.report["analysis"]["soft_errors"]
    assert error.startswith("no Python stack: that takes a full core; ask for one by ")
    assert "stillframe.dev/capture: core" in error


@pytest.fixture(scope="module")
def crashed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The evidence of a crashed CPython, its full core included."""
    local = Local(tmp_path_factory.mktemp("crashed"))
    script = "import ctypes; ctypes.string_at(0)"
    local.run(*NO_CORE, sys.executable, "-c", script, options=("--core",))
    (home,) = local.keep.iterdir()
    return home


def again(home: Path, full_core: Path, limits: Limits | None = None) -> Analysis:
    snapshot = home / "snapshot.core"
    with ExitStack() as files:
        modules = [
            (path, files.enter_context(Path(path).open("rb")).fileno())
            for path in mapped_files(snapshot)
        ]
        core = files.enter_context(snapshot.open("rb"))
        return analyze(core.fileno(), modules, full_core=full_core, limits=limits)


def test_a_core_that_expands_beyond_its_limit_is_not_read(crashed: Path) -> None:
    analysis = again(crashed, crashed / "full.core.zst", Limits(core_bytes=1 << 20))
    (error,) = analysis.soft_errors
    assert "expanding the full core takes more than 1048576 bytes" in error
    assert analysis.threads[0].python == []
    assert analysis.threads[0].frames


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(b"no zstd at all", id="not compressed"),
        pytest.param(zstandard.compress(b"\0" * 5000), id="no core"),
        pytest.param(zstandard.compress(os.urandom(5000))[:1000], id="cut"),
        pytest.param(b"", id="empty"),
    ],
)
def test_what_is_no_core_costs_the_python_stack_alone(
    crashed: Path, data: bytes, tmp_path: Path
) -> None:
    broken = tmp_path / "broken"
    broken.write_bytes(data)
    analysis = again(crashed, broken)
    (error,) = analysis.soft_errors
    assert error.startswith("no Python stack: ")
    assert analysis.threads[0].frames


INLINED = """
pub mod shop {
    #[inline(never)]
    pub fn each<T: Fn(u32) -> u32>(add: T) -> u32 {
        let sum = add(1);
        std::hint::black_box(());
        sum
    }
    pub struct Cart(pub *const u32);
    impl Cart {
        #[inline(always)]
        pub fn price(&self) -> u32 {
            unsafe { *self.0 }
        }
    }
}

fn main() {
    let cart = shop::Cart(std::hint::black_box(std::ptr::null()));
    println!("{}", shop::each(|n| n + cart.price()));
}
"""


def addr2line(program: Path, offset: int) -> list[tuple[str, str]]:
    """(function, file and line) at an offset, innermost first."""
    command = ["addr2line", "-f", "-i", "-e", program, hex(offset)]
    lines = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split("\n")
    return [
        (name, Path(at).name.split(" ")[0])
        for name, at in zip(lines[::2], lines[1::2], strict=False)
    ]


@pytest.mark.parametrize("dwarf", [4, 5])
def test_rust_has_the_inline_frames_that_addr2line_has(
    local: Local, dwarf: int, tmp_path: Path
) -> None:
    source, program = tmp_path / "cart.rs", tmp_path / "cart"
    source.write_text(INLINED)
    options = ["-g", "-C", "opt-level=1", "-C", f"dwarf-version={dwarf}"]
    subprocess.run(["rustc", "--edition", "2021", *options, "-o", program, source], check=True)
    local.run(*NO_CORE, program)

    ours = [
        f for f in local.report["analysis"]["threads"][0]["frames"] if f["module"] == str(program)
    ]
    top = [frame for frame in ours if frame["pc"] == ours[0]["pc"]]
    oracle = addr2line(program, top[0]["offset"])
    assert [f"{Path(f['file']).name}:{f['line']}" for f in top] == [at for _, at in oracle]
    assert [frame.get("inline", False) for frame in top] == [True, True, False]
    assert [frame["function"] for frame in top[:2]] == [
        "cart::shop::Cart::price",
        "cart::main::{closure#0}",
    ]
    assert "shop" in top[2]["function"]
    assert "main" in next(f for f in ours if f["pc"] != top[0]["pc"])["function"]


DEEP = """
mod shop {
    #[inline(always)]
    pub fn total(depth: u32, price: &u32) -> u32 {
        crate::add(depth, price) + std::hint::black_box(1)
    }
}

#[inline(never)]
fn add(depth: u32, price: &u32) -> u32 {
    if depth == 0 {
        return unsafe { *(*price as *const u32) };
    }
    shop::total(depth - 1, price) + std::hint::black_box(2)
}

fn main() {
    println!("{}", add(120, &std::hint::black_box(0)));
}
"""


def test_a_deep_stack_of_inlined_functions_keeps_its_bounds(local: Local, tmp_path: Path) -> None:
    source, program = tmp_path / "deep.rs", tmp_path / "deep"
    source.write_text(DEEP)
    options = ["--edition", "2021", "-g", "-C", "opt-level=1"]
    subprocess.run(["rustc", *options, "-o", program, source], check=True)
    local.run(*NO_CORE, program)

    analysis = local.report["analysis"]
    thread = analysis["threads"][0]
    assert analysis["soft_errors"] == []
    assert thread["frames_head"] == MAX_FRAMES_CRASHED
    assert thread["frames_total"] > 200
    assert thread["frames"][-1]["function"] == "_start"


def go(local: Local, way: str) -> dict[str, Any]:
    local.run(*NO_CORE, PROGRAMS / "go-cgo", way, GOTRACEBACK="crash")
    analysis: dict[str, Any] = max(
        local.reports(), key=lambda report: report["analysis"]["process"]["pid"]
    )["analysis"]
    return analysis


@pytest.mark.parametrize(
    ("way", "stack"),
    [
        # Its first instruction faults: behind it in memory is another function.
        ("nil", ["main.read", "main.main", "runtime.main"]),
        ("panic", ["main.main", "runtime.main"]),
        ("c_abort", ["c_abort"]),
        ("c_null_write", ["c_null_write", "runtime.asmcgocall"]),
    ],
)
def test_the_function_that_ended_a_go_program_is_on_top(
    local: Local, way: str, stack: list[str]
) -> None:
    analysis = go(local, way)
    functions = [frame.get("function") for frame in analysis["threads"][0]["frames"]]
    start = functions.index(stack[0])
    assert functions[start : start + len(stack)] == stack
    assert re.fullmatch(rf"{re.escape(stack[0])} \(main\.go:\d+\)", analysis["top_frame"])


def test_another_bug_in_go_is_another_group(local: Local) -> None:
    assert go(local, "nil")["fingerprint"] != go(local, "panic")["fingerprint"]
