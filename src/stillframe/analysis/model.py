"""What an analysis says: data and bounds, no behaviour.

Everything was computed by a process that read hostile bytes, so the bounds are
checked when its answer is decoded: no string holds a control character or is
longer than said here.
"""

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

Line = Annotated[str, Meta(max_length=256, pattern=r"^[^\x00-\x1f\x7f-\x9f]*$")]
Long = Annotated[str, Meta(max_length=1024, pattern=r"^[^\x00-\x1f\x7f-\x9f]*$")]
Int32 = Annotated[int, Meta(ge=-(1 << 31), lt=1 << 31)]
Trust = Literal["context", "cfi", "frame_pointer", "scan", "runtime"]
"""How a frame was found, best first: from the thread's registers; by call frame
information; by following frame pointers; by looking for return addresses; and, apart from
these, by the word of the process's own language runtime, which nothing checks."""

MAX_STACK_LINES = 64
MAX_FRAMES_CRASHED = 128
MAX_FRAMES_OTHER = 32
MAX_THREADS = 512
MAX_MODULES = 1024
MAX_SOFT_ERRORS = 64
MAX_SCOPES = 16
MAX_VARIABLES = 64
MAX_VALUE = 512
JAVA_MODULE = "[java]"
"""Stands for the module of a frame whose code a JVM interprets or generates."""


class _Value(msgspec.Struct, frozen=True, kw_only=True):
    """Frozen, keyword-only."""


def _require_u64(value: int) -> None:
    """Bounds that `Meta` cannot have; the `ValueError` makes decoding fail."""
    if not 0 <= value < 1 << 64:
        raise ValueError(f"{value:#x} does not fit 64 bits")


class Signal(_Value, frozen=True, kw_only=True):
    """What ended the process; ``number`` 0 and ``name`` empty for a live snapshot."""

    number: Int32
    name: Line
    """Such as ``SIGSEGV``."""
    code: Int32
    code_name: Line
    """Such as ``SEGV_MAPERR``; the number as text where it has no name."""
    address: int | None = None
    """Fault address, ``None`` for signals that have none."""
    sender_pid: int | None = None
    """Who sent it, as the process saw pids; ``None`` when the kernel did."""

    def __post_init__(self) -> None:
        _require_u64(self.address or 0)


class Process(_Value, frozen=True, kw_only=True):
    """Who crashed; ids as the process itself saw them, claimed by the core."""

    pid: int
    tid: int
    """The crashing thread."""
    comm: Line
    init_process: bool
    """PID 1 of its pid namespace."""


class Note(_Value, frozen=True, kw_only=True):
    """The vendor note in words.  Times in nanoseconds of the clock named; 0 = not known."""

    id: Line
    library: Line
    """Version of the preload library."""
    flags: list[Line]
    release: Line
    """Why the hold ended, as the library knew when the file was copied."""
    crash_realtime_ns: int
    crash_monotonic_ns: int
    snapshot_monotonic_ns: int
    release_monotonic_ns: int
    start_ticks: int
    pid_ns: int
    uid: int
    gid: int
    threads: int
    threads_captured: int
    annotations: dict[Long, Long]
    """What the application said about itself."""
    request: Long = ""
    """What the crashing thread worked on, as the application said."""
    secrets: int = 0
    """Ranges of memory that the snapshot has zeros for."""

    def __post_init__(self) -> None:
        _require_u64(self.crash_realtime_ns)


class Frame(_Value, frozen=True, kw_only=True):
    """One frame, innermost first; an inline frame shares ``pc`` with its caller."""

    pc: int
    """0 where a runtime told of the frame: it does not tell where that is."""
    trust: Trust
    function: Long = ""
    module: Long = ""
    """Path of the mapped file, as the process saw it."""
    offset: int | None = None
    """``pc`` as an address inside the module (what addr2line takes); of an interpreted Java
    frame the index of its bytecode (what ``javap -c`` shows)."""
    file: Long = ""
    line: int = 0
    inline: bool = False


class PythonFrame(_Value, frozen=True, kw_only=True):
    """A frame of Python code.  Arguments and variables are left out: they hold secrets."""

    function: Long
    file: Long
    """As the code object has it."""
    line: int
    """0 where the interpreter does not tell."""


class PythonThread(_Value, frozen=True, kw_only=True):
    """The Python code that a thread runs."""

    tid: int
    frames: Annotated[list[PythonFrame], Meta(max_length=MAX_FRAMES_CRASHED)]
    """Innermost first."""
    frames_total: int


class Thread(_Value, frozen=True, kw_only=True):
    """One thread."""

    tid: int
    name: Line = ""
    crashed: bool = False
    frames: Annotated[list[Frame], Meta(max_length=2 * MAX_FRAMES_CRASHED)] = []
    frames_total: int = 0
    """Frames found; more than ``frames`` holds when the middle was left out."""
    frames_head: int = 0
    """So many of ``frames`` are the innermost; what follows are the oldest."""
    registers: dict[Line, int] = {}
    """Of the crashing thread only."""
    python: Annotated[list[PythonFrame], Meta(max_length=MAX_FRAMES_CRASHED)] = []
    """Innermost first; from a full core only."""
    python_total: int = 0
    """Python frames found; more than ``python`` holds when the oldest were left out."""


class Variable(_Value, frozen=True, kw_only=True):
    """A parameter or local variable."""

    name: Line
    type: Line
    value: Annotated[str, Meta(max_length=MAX_VALUE, pattern=r"^[^\x00-\x1f\x7f-\x9f]*$")]
    """As text; in angle brackets why there is none, such as ``<optimized out>``."""


class Scope(_Value, frozen=True, kw_only=True):
    """The variables of one frame of the crashing thread."""

    frame: int
    """Its place in the thread's ``frames``."""
    variables: Annotated[list[Variable], Meta(max_length=MAX_VARIABLES)]
    left_out: int = 0
    """So many more it has."""


class Module(_Value, frozen=True, kw_only=True):
    """One mapped ELF file."""

    path: Long
    start: int
    end: int
    build_id: Line = ""
    """Hexadecimal; empty when neither core nor file told it."""
    status: Literal["matched", "unverified", "mismatch", "missing"] = "missing"
    """``matched``: the file given has the build ID of the core; ``unverified``: one of
    the two has none; ``mismatch``: it has another and was not used; ``missing``:
    no file was given."""


class Java(_Value, frozen=True, kw_only=True):
    """What a JVM says about its own death; its words, which nothing checks."""

    error: Line = ""
    """``SIGSEGV (0xb) at pc=…``, or ``Internal Error (…)`` and its text."""
    problematic_frame: Line = ""
    vm: Line = ""
    """Name and version."""
    thread: Line = ""
    """Kind and name of the crashing thread: ``JavaThread "main"``."""
    state: Line = ""
    """The VM's state of it, such as ``_thread_in_native``."""
    siginfo: Line = ""
    frames: Annotated[list[Line], Meta(max_length=MAX_STACK_LINES)] = []
    """The Java frames of that thread, innermost first."""


class Analysis(_Value, frozen=True, kw_only=True):
    """Everything worth knowing about one core."""

    signal: Signal
    process: Process
    threads: Annotated[list[Thread], Meta(max_length=MAX_THREADS)]
    """The crashing thread first."""
    threads_total: int
    cause: Line
    """Why it died, in a few words."""
    message: Long
    """Why it died, and what to do next."""
    instruction: Line = ""
    """The instruction the crashing thread was at, disassembled; empty when not known."""
    top_frame: Line
    """``function (file.c:42)`` of the innermost frame that is not noise."""
    stack: Annotated[list[Line], Meta(max_length=MAX_STACK_LINES)]
    """Of the crashing thread, as plain lines: native frames, below them Python's as ``py#0 …``."""
    fingerprint: Line
    """``v1:<hex>``; see :mod:`stillframe.analysis.fingerprint`."""
    involvement: Literal["none", "frame", "handler", "interposer", "unknown"]
    """Whether our own library is on the crashing stack."""
    modules: Annotated[list[Module], Meta(max_length=MAX_MODULES)]
    variables: Annotated[list[Scope], Meta(max_length=MAX_SCOPES)] = []
    """Of the crashing frame.  What a program works on: for artifacts, never for a CrashReport."""
    note: Note | None = None
    java: Java | None = None
    """Where a JVM's log was given."""
    soft_errors: Annotated[list[Long], Meta(max_length=MAX_SOFT_ERRORS)] = []
    """What could not be found out, and why."""
