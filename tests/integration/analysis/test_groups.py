"""One bug stays one group over rebuilds; different bugs are different groups.

Bugs are made up on the spot: random chains of calls, in programs that are built again
and again with other code around them, other lines, other flags and other build IDs.
``SEED=n`` repeats a run.
"""

import os
import random
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from stillframe.corefile import CoreFile
from tests.integration.analysis.conftest import compile_c
from tests.integration.analysis.inprocess import analyze_here

MakeCore = Callable[..., Path]
BUILDS, BUGS = 20, 3
FLAGS = ("-O0", "-O1", "-O2", "-Os", "-O3", "-O2 -fno-pie -no-pie", "-O1 -fno-omit-frame-pointer",
         "-O2 -gdwarf-4", "-O2 -fcf-protection=full", "-O1 -ffunction-sections")  # fmt: skip
NAMES = [
    *("accept", "parse_header", "read_body", "lookup_user", "render", "encode", "flush"),
    *("retry", "dispatch", "validate", "commit", "merge", "visit"),
]


@pytest.fixture
def seed() -> int:
    return int(os.environ.get("SEED") or random.SystemRandom().randrange(1 << 32))


def bugs(choice: random.Random) -> list[list[str]]:
    """Chains of calls, outermost first; no two are equal."""
    lengths = range(2, 7)
    return [choice.sample(NAMES, choice.choice(lengths)) for _ in range(BUGS)]


def program(chains: Sequence[Sequence[str]], choice: random.Random) -> str:
    """One source of these bugs, with code between them that has nothing to do with them.

    A caller works on after its call, so that no compiler makes a jump of it, and no two do the
    same, so that none is folded into another.
    """

    def unrelated() -> str:
        number = choice.randrange(1 << 30)
        lines = "".join(f"  sink += x * {choice.randrange(99)};\n" for _ in range(number % 9))
        return "\n" * choice.randrange(9) + f"void unrelated_{number}(int x) {{\n{lines}}}\n"

    text = "static volatile int sink;\nstatic int *volatile zero;\n"
    constant = 0
    for number, chain in enumerate(chains):
        inner = "*zero = 1;"
        for name in reversed(chain):
            constant += 1
            text += unrelated() * choice.randrange(2)
            body = f"{inner}\n  sink += x + {constant};\n  return x;"
            text += f"static int {name}_{number}(int x) {{\n  {body}\n}}\n"
            inner = f"x += {name}_{number}(sink);"
    calls = "".join(f"case {n}: {chain[0]}_{n}(argc); break;\n" for n, chain in enumerate(chains))
    return (
        text
        + f"int main(int argc, char **argv) {{\nswitch (argc - 1) {{\n{calls}}}\nreturn 0; }}\n"
    )


def test_twenty_builds_of_a_bug_are_one_group(
    snapshot: MakeCore, tmp_path: Path, seed: int
) -> None:
    choice = random.Random(seed)
    chains = bugs(choice)
    keys: list[set[str]] = [set() for _ in chains]
    build_ids = set()
    for build in range(BUILDS):
        place = tmp_path / f"{choice.randrange(1 << 30)}"
        place.mkdir()
        (place / f"source{build}.c").write_text(program(chains, choice))
        flags = [*choice.choice(FLAGS).split(), "-w", "-Wl,--build-id"]
        app = compile_c(place / f"source{build}.c", place / "server", *flags)
        for number, found in enumerate(keys):
            report = analyze_here(snapshot(app, *["x"] * number))
            found.add(report.fingerprint)
            build_ids |= {m.build_id for m in report.modules if m.path == str(app)}
    assert [len(found) for found in keys] == [1] * BUGS, f"SEED={seed}"
    assert len(set.union(*keys)) == BUGS, f"SEED={seed}"
    assert len(build_ids) == BUILDS


CLONED = """
static volatile int sink;
static int *volatile zero;
struct pair { int first, second; };
static __attribute__((noinline)) int inner(struct pair *p, int unused, int mode) {
    if (mode == 3) *zero = p->first;
    return sink;
}
static __attribute__((noinline)) int outer(int x) {
    struct pair p = {x, x};
    return inner(&p, 7, 3) + sink;
}
int main(int argc, char **argv) { return outer(argc) + sink; }
"""


def test_clones_of_a_compiler_do_not_split_a_group(snapshot: MakeCore, tmp_path: Path) -> None:
    plain = compile_c(CLONED, tmp_path / "server", "-O0")
    (tmp_path / "fast").mkdir()
    cloned = compile_c(CLONED, tmp_path / "fast/server", "-O2", "-g0")
    symbols = subprocess.run(["nm", cloned], capture_output=True, text=True, check=True).stdout
    assert "inner.constprop" in symbols or "inner.isra" in symbols
    keys = {analyze_here(snapshot(app)).fingerprint for app in (plain, cloned)}
    assert len(keys) == 1


def test_a_stripped_build_is_one_group_and_its_bugs_are_several(
    snapshot: MakeCore, tmp_path: Path, seed: int
) -> None:
    choice = random.Random(seed)
    chains = bugs(choice)
    app = compile_c(program(chains, choice), tmp_path / "server", "-O1", "-w")
    (tmp_path / "copied").mkdir()
    copied = tmp_path / "copied/server"
    subprocess.run(["strip", "-o", copied, app], check=True)
    subprocess.run(["strip", app], check=True)
    keys = [
        {analyze_here(snapshot(path, *["x"] * n)).fingerprint for path in (app, copied, app)}
        for n in range(BUGS)
    ]
    assert [len(found) for found in keys] == [1] * BUGS, f"SEED={seed}"
    assert len(set.union(*keys)) == BUGS, f"SEED={seed}"


THREADS = """
#include <pthread.h>
#include <unistd.h>
static int *volatile zero;
static void *crash(void *unused) { *zero = 1; return 0; }
static void *idle(void *unused) { for (;;) pause(); }
int main(int argc, char **argv) {
    pthread_t thread;
    for (int i = 1; i < argc; i++) pthread_create(&thread, 0, idle, 0);
    pthread_create(&thread, 0, crash, 0);
    pthread_join(thread, 0);
}
"""


def test_neither_pid_nor_other_threads_change_a_group(snapshot: MakeCore, tmp_path: Path) -> None:
    app = compile_c(THREADS, tmp_path / "server", "-w")
    cores = [snapshot(app, *["x"] * number) for number in (0, 1, 5)]
    assert len({CoreFile.from_bytes(core.read_bytes()).threads[0].tid for core in cores}) == 3
    assert len({analyze_here(core).fingerprint for core in cores}) == 1
