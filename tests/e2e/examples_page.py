"""docs/reference/examples.md: made of what a cluster answered.  Pure.

What differs from run to run (hashes of names, ids, ages, addresses) and from build to build of the
system's libraries (offsets, lines, versions) is `…` in it.
"""

import re
import textwrap
from collections.abc import Mapping, Sequence
from functools import reduce
from itertools import zip_longest
from typing import NamedTuple

NAMESPACE = "shop"
HEAD = """\
<!-- Written by `make generate-reports` from a real cluster. -->
# Crashes and their reports

A small program in each of four languages, what is wrong with it, and what a cluster tells of its
crash: the output of real commands, where `…` stands for what differs from run to run and from
system to system. The whole report is the artifact `report.txt`: it has registers, other threads,
modules and facts, too, and is what `stillframe run` prints of a program on your own machine.

`make -C examples languages` builds the programs, `tests/cluster/images examples` their images.
"""
_STACK = re.compile(r" +#\d+ ")
_OURS = re.compile("[cC]art")
LIST = f"kubectl get crashreports -n {NAMESPACE}"


class Example(NamedTuple):
    """One program."""

    name: str
    language: str
    source: str
    about: str
    look: str = ""
    """A command that shows what of the fetched ``report.txt`` no CrashReport has."""


EXAMPLES = (
    Example(
        "cpp",
        "C++",
        "cart.cpp",
        "The inlined and the templated functions are in the stack, and the cause names the "
        "register that was null and the offset in the object that it should point to. Values of "
        "variables are in no CrashReport, only in the evidence.",
        "grep -A2 ^Variables */report.txt",
    ),
    Example(
        "rust",
        "Rust",
        "cart.rs",
        "Built with `panic=abort`, as a panic that unwinds ends no process: the stack of the panic "
        "is that of the crash.",
        "grep -A2 ^Variables */report.txt",
    ),
    Example(
        "python",
        "Python",
        "cart.py",
        "Python's own frames (`py#`) take a full core: `stillframe.dev/capture: core`. Without one "
        "the report has the interpreter's stack and says what is missing. Values of variables are "
        "never shown.",
    ),
    Example(
        "java",
        "Java",
        "Cart.java",
        "The Java frames are from the JVM's own log, which Stillframe keeps with the snapshot and "
        "finds in the working directory or in `/tmp`; `[runtime]` says that nothing but the JVM "
        "vouches for them. The number is the index of the bytecode, as `javap -c` shows it.",
        "grep ^J */report.txt",
    ),
)


def commands(example: Example, report: str, fetch: str) -> list[str]:
    """What is asked about one program, given its CrashReport and what fetches its sample."""
    part = "sed -n '/^  Message:/p; /^  Stack:/,/^  Top/p'"
    describe = f"kubectl describe crashreport -n {NAMESPACE} {report} | {part}"
    return [describe, fetch, example.look] if example.look else [describe]


def page(listed: str, told: Mapping[str, Sequence[tuple[str, str]]]) -> str:
    """The page: ``listed`` is the output of `LIST`, ``told`` by example each command and its."""
    sections = [_section(example, told[example.name]) for example in EXAMPLES]
    return HEAD + _console([(LIST, _table(listed))]) + "".join(sections)


def compared(text: str) -> list[str]:
    """The lines that are the same wherever the page is made.

    A compiler's or a VM's own frames are others in other versions, and so are the numbers of those
    below them.  What tar says in the pod comes through kubectl or is lost.
    """
    lines = [
        line
        for line in text.splitlines()
        if (not _STACK.match(line) or _OURS.search(line)) and not line.startswith("tar: ")
    ]
    return [re.sub(r"#\d+", "#", line) for line in lines]


def _section(example: Example, told: Sequence[tuple[str, str]]) -> str:
    folder = f"examples/languages/{example.name}"
    return f"""
## {example.language}

[{example.source}](../../{folder}/{example.source}), [pod.yaml](../../{folder}/pod.yaml).
{textwrap.fill(example.about, 100)}
{_console(told)}"""


def _console(told: Sequence[tuple[str, str]]) -> str:
    lines = [plain(f"$ {command}\n{answer}".rstrip()) for command, answer in told]
    return "\n```console\n" + "\n".join(lines) + "\n```\n"


def _table(text: str) -> str:
    """kubectl's table with the columns of what is left of its cells."""
    rows = [[plain(cell) for cell in re.split(" {2,}", line.strip())] for line in text.splitlines()]
    rows = [rows[0], *([*row[:-2], "…", "…"] for row in rows[1:])]  # LAST and AGE
    widths = [max(map(len, column)) for column in zip_longest(*rows, fillvalue="")]
    lines = ("   ".join(map(str.ljust, row, widths)).rstrip() for row in rows)
    return "\n".join(lines)


_VARYING = (
    (re.compile(r"\b0x[0-9a-f]{9,16}\b"), "0x…"),
    (re.compile(r"\+0x[0-9a-f]+"), "+0x…"),
    (re.compile(r"thread \d+"), "thread …"),
    (re.compile(r"\b(cart-[a-z]+-)[0-9a-f]{12}\b"), r"\1…"),
    (re.compile(r"(stillframe-artifacts-)[a-z0-9]{5}\b"), r"\1…"),
    (re.compile(r"/[0-9a-f]{32}\b"), "/…"),
    (re.compile(r"(Server VM )\([^)]*\)"), r"\1(…)"),
    # Lines of the standard libraries: those of the examples are kept.
    (re.compile(r"(?<![cC]art\.py)(?<![cC]art\.rs)(?<!cart\.cpp):\d+(?=\))"), ":…"),
)


def plain(text: str) -> str:
    """Text without what varies."""
    return reduce(lambda told, varying: varying[0].sub(varying[1], told), _VARYING, text)
