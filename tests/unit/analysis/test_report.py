"""The answer put together, its words, and the whole text of a report.

The golden report is one hand-made crash with everything a report can have.
"""

from pathlib import Path
from typing import Any

import msgspec
import pytest

from stillframe.analysis import Analysis, Frame, Module, Note, Process, Signal, Thread, render_text
from stillframe.analysis.assemble import Evidence, assemble
from stillframe.analysis.escape import escape
from stillframe.analysis.fault import find_fault
from stillframe.analysis.images import find_images
from stillframe.analysis.model import MAX_STACK_LINES, MAX_THREADS, Scope, Trust, Variable
from stillframe.analysis.stack import Stack
from stillframe.analysis.trust import TrustedFrame
from stillframe.analysis.unwind import RawFrame
from stillframe.analysis.variables import crashing_scopes
from stillframe.analysis.wording import stack_lines
from stillframe.corefile import CoreFile
from tests.support.corewriter import Core, R, X, at, image

GOLDEN = Path(__file__).parents[2] / "golden"
NOTE = (GOLDEN / "note-v1.bin").read_bytes()
EVIL = b"e\x1b[31m\nvil\xe2\x80\xae"


def evidence(core: Core, *stacks: Stack) -> Evidence:
    read = CoreFile.from_bytes(core.build())
    images = find_images(read, [])
    return Evidence(read, images, find_fault(read, images, lambda _, number: str(number)), stacks)


def crashed(comm: bytes = b"app", path: bytes = b"/bin/app") -> Core:
    return (
        Core()
        .thread(7, 11, rip=0x2010)
        .process(7, comm)
        .signal(11, 1, at(8))
        .files((0x1000, 0x2000, 0, path), (0x2000, 0x3000, 0x1000, path))
        .map(0x1000, image(b"\xab\xcd"), R)
        .map(0x2000, b"", R | X, 0x1000)
    )


def one_frame(**more: object) -> Stack:
    raw = RawFrame(
        **{
            "pc": 0x2010,
            "sp": 0,
            "function": "f",
            "file": "/src/a.c",
            "line": 7,
            "inline": False,
            "interrupted": True,
            **more,
        }
    )
    return Stack([TrustedFrame(raw, "context")], 1, 1)


def test_an_answer_has_signal_process_stack_and_modules() -> None:
    answer = assemble(evidence(crashed(), one_frame()))
    assert answer.signal == Signal(
        number=11, name="SIGSEGV", code=1, code_name="SEGV_MAPERR", address=8
    )
    assert answer.process == Process(pid=7, tid=7, comm="app", init_process=False)
    assert answer.top_frame == "f (a.c:7)"
    assert answer.stack == ["#0 f (a.c:7)"]
    assert answer.threads[0].frames[0].offset == 0x1010
    assert [(m.path, m.build_id, m.status) for m in answer.modules] == [
        ("/bin/app", "abcd", "missing")
    ]
    assert answer.involvement == "unknown"


def test_the_note_adds_what_a_core_has_no_place_for() -> None:
    answer = assemble(evidence(crashed().add(1, NOTE, name=b"STILLFRAME")))
    assert answer.process.init_process
    assert answer.involvement == "handler"
    assert answer.note is not None
    assert answer.note.library == "1.2.3"
    assert answer.note.flags == ["truncated", "stack_overflow", "init_process"]
    assert answer.note.release == "timeout"
    assert answer.note.request == "GET /cart 77"
    assert answer.note.annotations == {"version": "1.2.3", "shard": "b\\xffr"}
    assert answer.note.secrets == 2


def test_a_signal_known_only_to_the_note_is_the_signal() -> None:
    core = Core().thread(7).add(1, NOTE, name=b"STILLFRAME")
    answer = assemble(evidence(core))
    assert (answer.signal.name, answer.signal.code_name) == ("SIGSEGV", "SEGV_ACCERR")
    assert answer.signal.address == 0xDEAD00000000BEEF


def test_an_empty_core_still_has_an_answer() -> None:
    answer = assemble(evidence(Core()))
    assert (answer.cause, answer.top_frame, answer.threads) == ("not known", "", [])
    assert answer.soft_errors == ["the core has no thread"]


def test_no_text_of_a_pod_reaches_the_answer_unescaped() -> None:
    name = EVIL.decode()
    core = crashed(EVIL[:15], b"/bin/" + EVIL)
    answer = assemble(evidence(core, one_frame(function=name, file=f"/src/{name}")))
    assert msgspec.convert(msgspec.to_builtins(answer), Analysis) == answer
    assert "\\x1b[31m\\nvil\\u202e" in answer.stack[0]
    text = render_text(answer, {"Pod": name})
    assert all(line.isprintable() for line in text.splitlines())
    assert len(text.splitlines()) == len(render_text(answer, {"Pod": "x"}).splitlines())


def test_names_of_any_length_fit_the_bounds() -> None:
    long = "f" * 5000
    answer = assemble(evidence(crashed(), one_frame(function=long, file="/" + long)))
    assert msgspec.convert(msgspec.to_builtins(answer), Analysis) == answer
    assert answer.top_frame.endswith("…")


def test_escapes_that_grow_a_text_are_cut_too() -> None:
    assert len(escape("\x1b" * 300, 256)) == 256


def test_a_stack_has_at_most_64_lines() -> None:
    frames = [Frame(pc=i, trust="cfi") for i in range(100)]
    assert len(stack_lines(frames)) == MAX_STACK_LINES


def test_threads_beyond_the_limit_are_counted() -> None:
    core = Core()
    for tid in range(MAX_THREADS + 3):
        core.thread(tid)
    answer = assemble(evidence(core, *[one_frame()] * MAX_THREADS))
    assert (len(answer.threads), answer.threads_total) == (MAX_THREADS, MAX_THREADS + 3)


class AskedError(Exception):
    """The unwinder was asked for frames."""


class Unwinding:
    def frames_at(self, *_: int) -> list[object]:
        raise AskedError


@pytest.mark.parametrize("trust", ["scan", "frame_pointer"])
def test_a_doubtful_frame_is_not_asked_for_variables(trust: Trust) -> None:
    """Its registers are not known, so they would be those of another place."""

    def scopes(trust: Trust) -> None:
        told = evidence(crashed(), one_frame())
        (raw, _), *_ = told.stacks[0].frames
        stack = Stack([TrustedFrame(raw, trust)], 1, 1)
        answer = assemble(told._replace(stacks=[stack]))
        unwinder: Any = Unwinding()
        assert crashing_scopes(told.core, told.images, unwinder, stack, answer) == []

    scopes(trust)
    with pytest.raises(AskedError):
        scopes("context")


def sample() -> Analysis:
    frame = Frame(
        pc=0x401136,
        trust="context",
        function="parse",
        module="/app/server",
        offset=0x1136,
        file="/src/parse.c",
        line=42,
    )
    inlined = msgspec.structs.replace(frame, function="next", line=7, inline=True)
    libc = Frame(pc=0x7F001000, trust="cfi", module="/lib/libc.so.6", offset=0x1000)
    guess = Frame(
        pc=0x40200A, trust="frame_pointer", function="main", module="/app/server", offset=0x200A
    )
    oldest = Frame(pc=0x7F002000, trust="scan", module="/lib/libc.so.6", offset=0x2000)
    return Analysis(
        signal=Signal(number=11, name="SIGSEGV", code=1, code_name="SEGV_MAPERR", address=0x10),
        process=Process(pid=1, tid=17, comm="server", init_process=True),
        threads=[
            Thread(
                tid=17,
                crashed=True,
                frames=[inlined, frame, libc, guess, oldest],
                frames_total=900,
                frames_head=4,
                registers={"rip": 0x401136, "rsp": 0x7FFE0010, "rax": 0},
            ),
            Thread(tid=1, name="server", frames=[libc] * 14, frames_total=14, frames_head=14),
            Thread(tid=18),
        ],
        threads_total=5,
        cause="null pointer: read of 8 bytes at 0x10, rax is null",
        message="server (pid 1, thread 17) died of SIGSEGV (SEGV_MAPERR).",
        instruction="mov rdx, qword ptr [rax + 0x10]",
        top_frame="next (parse.c:7)",
        stack=["#0 next (parse.c:7)"],
        fingerprint="v1:0123456789abcdef",
        involvement="handler",
        modules=[
            Module(
                path="/app/server",
                start=0x400000,
                end=0x410000,
                build_id="ab" * 20,
                status="matched",
            ),
            Module(path="/lib/libc.so.6", start=0x7F000000, end=0x7F200000),
        ],
        note=Note(
            id="49429ec9",
            library="0.1.0",
            flags=["stack_overflow", "init_process"],
            release="timeout",
            crash_realtime_ns=1_790_000_000_123_456_789,
            crash_monotonic_ns=1_000_000_000,
            snapshot_monotonic_ns=1_000_500_000,
            release_monotonic_ns=1_012_300_000,
            start_ticks=1,
            pid_ns=1,
            uid=1000,
            gid=1000,
            threads=5,
            threads_captured=4,
            annotations={"shard": "7"},
            request="GET /cart 77",
            secrets=2,
        ),
        variables=[
            Scope(
                frame=1,
                variables=[
                    Variable(name="p", type="const char *", value='0x7ffe0040 "GET /cart"'),
                    Variable(name="length", type="size_t", value="<optimized out>"),
                ],
                left_out=3,
            )
        ],
        soft_errors=["thread 19: not unwound: no registers"],
    )


def test_a_report_reads_as_its_golden_text() -> None:
    text = render_text(sample(), {"Pod": "shop/cart-7d9f", "Container": "app"})
    assert text == (GOLDEN / "report.txt").read_text()


@pytest.mark.parametrize("moment", [0, 1, 2**63, 2**64 - 1])
def test_a_report_survives_any_clock_reading(moment: int) -> None:
    note = sample().note
    assert note is not None
    wild = msgspec.structs.replace(note, crash_realtime_ns=moment, release_monotonic_ns=moment)
    assert render_text(msgspec.structs.replace(sample(), note=wild))


@pytest.mark.parametrize(
    ("field", "too_large"),
    [("signal.number", 1 << 31), ("signal.code", -(1 << 31) - 1), ("signal.address", 1 << 64)],
)
def test_an_answer_that_the_wire_cannot_carry_is_no_answer(field: str, too_large: int) -> None:
    answer = msgspec.to_builtins(assemble(evidence(crashed(), one_frame())))
    part, name = field.split(".")
    msgspec.convert(answer, Analysis)
    answer[part][name] = too_large
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert(answer, Analysis)
