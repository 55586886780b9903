"""The crash corpus as the analysis tells it: each case run once, under our library, on glibc."""

import re
import subprocess
import tempfile
from functools import cache
from pathlib import Path

from stillframe.analysis import Analysis
from tests.integration.analysis.conftest import CRASHERS, LIBRARY, SECONDS, compile_c
from tests.integration.analysis.generated import Program, source
from tests.integration.analysis.inprocess import analyze_here
from tests.integration.preload.matrix.cases import CASES, SUBJECTS, Case, key

LEFT_OUT = {"with_threads 1000"}
"""Only slower than what is there."""
ROOT = Path(__file__).parents[3]
TARGET = ROOT / "docs/reference/causes.md"
EXAMPLES = {
    "an object that is null, its field read": "sink = ((volatile long *)zero)[3];",
    "an index before a null array": "((volatile int *)zero)[-2] = 1;",
    "a null pointer handed to libc": "sink = strlen(zero);",
    "a pointer read from freed memory": "char **volatile p = malloc(40); free(p); sink = **p;",
    "memory that was unmapped": (
        "volatile char *p = mmap(0, 40960, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);"
        " munmap((void *)p, 40960); sink = p[20000];"
    ),
    "an index past the end": "sink = ((volatile char *)0x200000300000)[4100];",
    "the result of a failed mmap()": "sink = *(volatile char *)mmap(0, 0, 0, 0, -1, 0);",
    "an object filled by memset()": (
        "char *volatile p; memset((void *)&p, 0xa5, sizeof(p)); sink = *p;"
    ),
    "a pointer overwritten by a string": (
        'char *volatile p; memcpy((void *)&p, "GET /car", 8); sink = *p;'
    ),
    "a function pointer to unmapped memory": "((void (*)(void))0x123456789000)(); sink = 1;",
    "an overwritten return address": (
        "((volatile long *)__builtin_frame_address(0))[1] = 0x8182838485868788;"
    ),
    "a stack pointer that is none": (
        '__asm__ volatile("movabs $0xa5b4000000001230, %rsp; push %rax");'
    ),
    "the smallest integer divided by -1": (
        "volatile int a = -2147483647 - 1, b = -1; sink = a / b;"
    ),
    "__builtin_unreachable() and __builtin_trap()": "__builtin_trap();",
    "an instruction of another processor": '__asm__ volatile(".byte 0x06");',
    "a privileged instruction": '__asm__ volatile("cli");',
}
"""What the corpus has no case for, as the C code of a function."""


@cache
def reports() -> dict[str, list[Analysis]]:
    """The analyses by case; a few cases have two, those without a report have none."""
    return {key(case): _reports(case) for case in wanted()}


def wanted() -> list[Case]:
    """The cases of the corpus that there are on glibc."""
    return [case for case in CASES if _wanted(case)]


def _wanted(case: Case) -> bool:
    return "glibc" in case.libcs and key(case) not in LEFT_OUT


def _reports(case: Case) -> list[Analysis]:
    return reports_of(case, CRASHERS / "glibc" / case.program)


def reports_of(case: Case, program: Path) -> list[Analysis]:
    """The analyses of a case of another build of its program."""
    return _run(program, case.way, *case.arguments)


def _run(*command: str | Path) -> list[Analysis]:
    # Not below pytest's own directory, which a user without privileges cannot enter.
    with tempfile.TemporaryDirectory(prefix="corpus-") as directory:
        handover = Path(directory, "stillframe")
        handover.mkdir()
        for path in (Path(directory), handover):
            path.chmod(0o777)
        environment = {"LD_PRELOAD": str(LIBRARY), "STILLFRAME_DIR": str(handover)}
        subprocess.run(command, env=environment, timeout=SECONDS, check=False, capture_output=True)
        return [analyze_here(core) for core in handover.glob("*.core")]


@cache
def examples() -> dict[str, str]:
    """The sentences of :data:`EXAMPLES`."""
    with tempfile.TemporaryDirectory(prefix="corpus-") as directory:
        batch = [Program(body, "") for body in EXAMPLES.values()]
        app = compile_c(source(batch), Path(directory, "app"), "-w", "-O1", "-fno-builtin")
        told = [_run(app, str(number)) for number in range(len(batch))]
    return {title: report.cause for title, (report,) in zip(EXAMPLES, told, strict=True)}


HEAD = """\
<!-- Written by tests/integration/analysis/generate-causes. -->
# Causes: what a report says of each way to die

Everything here is real output, and a test compares it with what the analysis says today. `0x…` and
`N` stand for numbers that change from run to run.

- A cause is told from siginfo, the faulting instruction (decoded by capstone), registers and
  mappings; never from a program's name or arguments.
- **"probably" marks a guess**: a heuristic on values that can be wrong. Everything else is what
  the kernel said or what the instruction does.
- Where the kernel keeps the address to itself (not canonical, misaligned) it is computed from the
  instruction and the registers.
- "in a function of libc": the instruction is libc's, the pointer was the caller's; the top frame
  is the caller.
- What glibc printed before it aborted is told; musl keeps nothing of it.
- Of a C++ exception the type is told, never its message, which may hold anything: a cause is
  shown to whoever may read reports. A full core has the exception itself; in a snapshot its type
  is searched on the stack, and so it is "probably".
- The signal's sender is told by the process id of the pod's own namespace.
- aarch64 has no trap for a division, and tells every address.

"""


def document() -> str:
    """The text of ``docs/reference/causes.md``."""
    parts = [HEAD, "## The crash corpus (`tests/crashers`), x86_64 with glibc\n"]
    for subject, cases in SUBJECTS.items():
        rows = [row for case in cases if _wanted(case) for row in _rows(case)]
        parts += [f"\n### {subject}\n\n| Way | | Cause |\n| - | - | - |\n", *rows]
    parts.append("\n## Other programs\n\n| | Cause |\n| - | - |\n")
    parts += [f"| {title} | {settled(told)} |\n" for title, told in examples().items()]
    return "".join(parts)


def _rows(case: Case) -> list[str]:
    causes = sorted({settled(report.cause) for report in reports()[key(case)]})
    return [f"| `{key(case)}` | {case.title} | {cause} |\n" for cause in causes]


def settled(cause: str) -> str:
    """A sentence without what changes from run to run, or from processor to processor."""
    cause = re.sub(r"0x[0-9a-f]{6,}", "0x…", cause)
    cause = re.sub(r"of \d+ bytes?(?=.* of libc)", "of N bytes", cause)
    cause = re.sub(r"\.c:\d+:", ".c:N:", cause)
    return re.sub(r"(process|uid) \d+", r"\1 N", cause)
