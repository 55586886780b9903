"""Variables of the crashing frame: what the source says, bounded, and in artifacts only.

Covers: kinds of types, strings, what is absent and why, inline frames, bounds on
hostile types, the switch, and that no report to the operator has a value.
"""

from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest
from stillframe_agent.report import build

from stillframe.analysis import Analysis, render_text
from stillframe.analysis.model import MAX_VALUE, MAX_VARIABLES
from stillframe.analysis.variables import MAX_STRING
from tests.integration.analysis.conftest import analyze_file, compile_c
from tests.integration.analysis.test_symbols import compile_cpp
from tests.integration.capture.crash import crash
from tests.unit.agent.test_report import MANIFEST

MakeCore = Callable[..., Path]

KINDS = """
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
typedef struct { int x; union { float f; unsigned bits; }; } point;
struct node { int id; struct node *next; char tag[8]; };
enum color { RED, GREEN = 7 };
static int add(int a, int b) { return a + b; }
static const char secret_word[] = "hunter2";
static int die(int count, const char *name, struct node *node, int *(*unused)(void)) {
    char letter = 'q';
    short small = -3;
    unsigned long large = 0xfedcba9876543210UL;
    double half = 0.5;
    bool yes = true;
    enum color color = GREEN;
    point at = {4, {1.0f}};
    int numbers[3] = {10, 20, 30};
    int (*function)(int, int) = add;
    char text[12] = "a\\"b\\n\\x1b[31m";
    const char *heap = strdup("on the heap");
    struct node *lost = malloc(sizeof *lost);
    struct node *nothing = NULL;
    void *raw = &numbers;
    char **pointer = (char **)&name;
    return *(volatile int *)0 + count + letter + small + (int)large + (int)half + yes + (int)color
        + at.x + numbers[0] + function(1, 2) + text[0] + heap[0]
        + (nothing == raw) + (lost == raw) + **pointer;
}
int main(void) {
    struct node last = {2, NULL, "last"}, first = {1, &last, "12345678"};
    return die(42, secret_word, &first, NULL);
}
"""
EXPECTED = {
    "count": ("int", "42"),
    "unused": ("int *(*)(void)", "0x0"),
    "letter": ("char", "113 'q'"),
    "small": ("short", "-3"),
    "large": ("unsigned long", "18364758544493064720"),
    "half": ("double", "0.5"),
    "yes": ("_Bool", "true"),
    "color": ("enum color", "GREEN"),
    "at": ("point", "{x=4, f=1.0, bits=1065353216}"),
    "numbers": ("int [3]", "[10, 20, 30]"),
    "text": ("char [12]", '"a\\"b\\n\\x1b[31m"'),
    "nothing": ("struct node *", "0x0"),
}


def variables(analysis: Analysis, scope: int = 0) -> dict[str, tuple[str, str]]:
    found = analysis.variables[scope].variables
    return {variable.name: (variable.type, variable.value) for variable in found}


@pytest.fixture(scope="module")
def core(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("kinds")
    crash(place, compile_c(KINDS, place / "app", "-O0")).wait()
    (snapshot,) = place.glob("*.core")
    return snapshot


@pytest.fixture(scope="module")
def analysis(core: Path) -> Analysis:
    return analyze_file(core)


def test_parameters_and_locals_are_what_the_source_says(analysis: Analysis) -> None:
    found = variables(analysis)
    assert {name: found[name] for name in EXPECTED} == EXPECTED
    assert analysis.threads[0].frames[analysis.variables[0].frame].function == "die"
    assert set(found) == {
        *(*EXPECTED, "name", "node", "function"),
        *("heap", "lost", "raw", "pointer"),
    }


def test_pointers_are_followed_once(analysis: Analysis) -> None:
    found = {name: value for name, (_, value) in variables(analysis).items()}
    node = found["node"]
    assert node.startswith("0x")
    assert node.partition(" -> ")[2].startswith("{id=1, next=0x")
    assert node.endswith(', tag="12345678"...}')
    assert found["function"].endswith(" add")
    assert found["name"].endswith(' "hunter2"')
    assert found["raw"].isalnum()
    assert found["pointer"].isalnum()


def test_memory_that_was_not_saved_is_said(analysis: Analysis) -> None:
    for name in ("heap", "lost"):
        address, _, rest = variables(analysis)[name][1].partition(" ")
        assert (address[:2], rest) == ("0x", "<not in the snapshot>")


def test_what_was_optimized_out_is_said(snapshot: MakeCore, tmp_path: Path) -> None:
    app = compile_c(KINDS, tmp_path / "app", "-O2")
    analysis = analyze_file(snapshot(app))
    values = [v.value for scope in analysis.variables for v in scope.variables]
    assert "<optimized out>" in values
    assert "Variables of #0 die (app.c:" in render_text(analysis)


def test_a_cpp_reference_is_said_and_the_rest_is_read(snapshot: MakeCore, tmp_path: Path) -> None:
    source = """
        static int die(int &reference, const char *name) {
            enum { ON, OFF } state = OFF;
            return *(volatile int *)0 + reference + name[0] + state;
        }
        int main() { int value = 1; return die(value, "x"); }
    """
    found = variables(analyze_file(snapshot(compile_cpp(source, tmp_path / "app", "-O0"))))
    assert found["reference"][1] == "<a C++ reference, which cannot be read>"
    assert found["name"][1].endswith(' "x"')
    assert found["state"][1] == "OFF"
    assert set(found) == {"reference", "name", "state"}  # and no enumerators


def test_inlined_code_has_the_variables_of_its_caller_too(
    snapshot: MakeCore, tmp_path: Path
) -> None:
    source = """
        static inline __attribute__((always_inline))
        int inner(int *p) { int in = 5; return *p + in; }
        static __attribute__((noinline)) int outer(int *p) { int out = 6; return inner(p) + out; }
        int main(int argc, char **argv) { return outer((int *)(argc - 1L)) + (argv == 0); }
    """
    analysis = analyze_file(snapshot(compile_c(source, tmp_path / "app", "-O0")))
    assert [scope.frame for scope in analysis.variables] == [0, 1]
    assert variables(analysis, 0)["in"] == ("int", "5")
    assert variables(analysis, 1)["out"] == ("int", "6")


def test_the_frame_that_called_abort_is_the_one_looked_into(
    snapshot: MakeCore, tmp_path: Path
) -> None:
    source = """
        #include <stdlib.h>
        static int give_up(int attempts) { int left = attempts - 3; abort(); return left; }
        int main(void) { return give_up(3); }
    """
    analysis = analyze_file(snapshot(compile_c(source, tmp_path / "app")))
    assert variables(analysis) == {"attempts": ("int", "3"), "left": ("int", "0")}
    frame = analysis.threads[0].frames[analysis.variables[0].frame]
    assert frame.function == "give_up"


def test_many_and_large_variables_are_bounded(kernel_core: MakeCore, tmp_path: Path) -> None:
    many = "".join(f"int v{i} = {i};" for i in range(100))
    source = f"""
        struct deep {{ struct {{ struct {{ struct {{ int x; }} c; }} b; }} a; int list[100]; }};
        struct wide {{ {"".join(f"long m{i};" for i in range(200))} }};
        static int die(const char *text) {{
            char large[100000]; struct deep deep = {{0}}; struct wide wide[500] = {{0}};
            for (int i = 0; i < 100000; i++) large[i] = 'x';
            {many}
            return *(volatile int *)0 + large[7] + deep.a.b.c.x + (int)wide[0].m0 + v0 + text[0];
        }}
        static char long_text[5000];
        int main(void) {{
            for (int i = 0; i < 4999; i++) long_text[i] = 'y';
            char copy[5000]; __builtin_memcpy(copy, long_text, 5000);
            return die(copy);
        }}
    """
    analysis = analyze_file(kernel_core(compile_c(source, tmp_path / "app", "-O0")))
    (scope,) = analysis.variables
    found = variables(analysis)
    assert len(scope.variables) == MAX_VARIABLES
    assert scope.left_out == 104 - MAX_VARIABLES
    assert found["large"][1] == f'"{"x" * MAX_STRING}"...'
    assert found["text"][1].endswith(f' "{"y" * MAX_STRING}"...')
    assert found["deep"][1] == "{a={b={c={...}}}, list=[0, 0, 0, 0, 0, 0, 0, 0, ...]}"
    assert len(found["wide"][1]) <= MAX_VALUE
    assert found["wide"][1].endswith("...]")
    assert f"  ... {scope.left_out} more\n" in render_text(analysis)


def test_the_switch_leaves_them_out(core: Path) -> None:
    analysis = analyze_file(core, variables=False)
    assert analysis.variables == []
    assert analysis.stack[0].startswith("#0 die (app.c:")
    assert "hunter2" not in msgspec.json.encode(analysis).decode()


def test_no_value_reaches_the_operator(analysis: Analysis) -> None:
    """Whoever may read CrashReports need not be allowed to read secrets."""
    assert "hunter2" in render_text(analysis)
    report = build(MANIFEST, analysis).SerializeToString()
    assert b"die (app.c:" in report
    assert b"hunter2" not in report
    assert b"12345678" not in report
