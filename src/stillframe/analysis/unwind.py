"""Stage 2: unwind and symbolize with drgn, from the given files alone.

The standard finders of drgn are disabled: they would read the host's files (it
has the paths, and often the build IDs, of the pod's) and ask debuginfod.  The
vDSO alone goes through the standard finder, which finds it in the core; in the
sandbox that finder could open nothing else anyway.
"""

import contextlib
import os
from collections.abc import Sequence
from itertools import dropwhile, islice, takewhile
from typing import NamedTuple

# drgn imports it when the first core is set, which is too late in the sandbox.
import _drgn_util.plugins  # type: ignore[import-untyped]  # noqa: F401
import drgn

from stillframe.corefile import CoreFile

from .images import GivenFile, Images

MAX_UNWOUND = 1024
"""drgn stops after so many frames; the last of them is then not the oldest."""
MAX_ABORT_MESSAGE = 512
_FUNCTIONS = (drgn.SymbolKind.FUNC, drgn.SymbolKind.IFUNC)


class RawFrame(NamedTuple):
    """A frame as drgn saw it."""

    pc: int
    sp: int
    function: str
    """By DWARF: without the scopes it is in."""
    file: str
    line: int
    inline: bool
    interrupted: bool
    """The pc is of an instruction, as at a crash, and not a return address."""
    symbol: str = ""
    """The function symbol that covers the pc; none for an inline frame, which has no code of its
    own in the symbol table."""

    @property
    def lookup(self) -> int:
        """An address inside of the instruction the frame is at: in the call, not after it."""
        return self.pc if self.interrupted else self.pc - 1


class Trace(NamedTuple):
    """The stack of a thread: innermost frames, oldest frames (if reached), how many found."""

    frames: list[RawFrame]
    oldest: list[RawFrame]
    total: int


class Unwinder:
    """drgn on one core."""

    def __init__(self, core: CoreFile, core_fd: int, images: Images) -> None:
        """Open the core and load what the given files offer; raises what drgn raises."""
        self.problems: list[str] = []
        self._core = core
        self._images = images
        self._program = drgn.Program()
        self._program.register_debug_info_finder("given", self._find)
        self._program.set_enabled_debug_info_finders(["given"])
        self._program.set_core_dump(core_fd)
        # Expected of stripped files; the modules' status says which.
        with contextlib.suppress(drgn.MissingDebugInfoError):
            self._program.load_debug_info(None, default=True)
        self._threads = {thread.tid: thread for thread in self._program.threads()}

    def trace(self, tid: int, head: int, tail: int) -> Trace:
        """The stack of a thread, at most ``head`` innermost and ``tail`` oldest frames."""
        stack = self._threads[tid].stack_trace()
        total = len(stack)
        reached_end = total < MAX_UNWOUND
        oldest = range(max(head, total - tail), total) if reached_end else ()
        return Trace(
            [_raw(frame) for frame in islice(stack, head)], [_raw(stack[i]) for i in oldest], total
        )

    def frames_at(self, tid: int, pc: int, sp: int) -> list[drgn.StackFrame]:
        """The innermost frame of a thread with these registers, after those inlined into it."""
        stack = islice(self._threads[tid].stack_trace(), MAX_UNWOUND)
        outer = dropwhile(lambda frame: (_pc(frame), _sp(frame)) != (pc, sp), stack)
        return list(takewhile(lambda frame: (_pc(frame), _sp(frame)) == (pc, sp), outer))

    def symbolize(self, return_addresses: Sequence[int]) -> list[RawFrame]:
        """Frames for return addresses found by a scan, inline frames included."""
        # The first pc is taken as interrupted, the others as return addresses.
        trace = self._program.stack_trace_from_pcs([0, *return_addresses])
        return [frame for frame in map(_raw, trace) if frame.pc]

    def abort_message(self) -> str:
        """What glibc printed before it aborted, where the core holds it.

        ``__abort_msg`` points to ``{unsigned size; char msg[]}`` (glibc
        ``include/stdlib.h``); musl has nothing of the kind.
        """
        try:
            address = self._program.symbol("__abort_msg").address
        except LookupError:
            return ""
        pointer = int.from_bytes(self._core.read(address, 8), "little")
        raw = self._core.read(pointer + 4, MAX_ABORT_MESSAGE) if pointer else b""
        return raw.partition(b"\0")[0].decode("utf-8", "backslashreplace").strip()

    def symbol_name(self, address: int) -> str:
        """The name of the symbol that starts at an address; empty without one."""
        try:
            symbol = self._program.symbol(address)
        except LookupError:
            return ""
        return str(symbol.name) if symbol.address == address else ""

    def _find(self, modules: Sequence[drgn.Module]) -> None:
        for module in modules:
            if isinstance(module, drgn.VdsoModule):
                self._program.find_standard_debug_info([module])
            for file in self._files(module):
                if module.wants_loaded_file() or module.wants_debug_file():
                    self._try(module, file)
            if module.debug_file_status == drgn.ModuleFileStatus.WANT_SUPPLEMENTARY:
                self._supplement(module)

    def _supplement(self, module: drgn.Module) -> None:
        """What dwz took out of several debug files is in one more file, with its own build ID."""
        wanted = module.wanted_supplementary_debug_file().checksum
        for file in self._images.with_build_id(wanted):
            self._try(module, file)
        if module.debug_file_status == drgn.ModuleFileStatus.WANT_SUPPLEMENTARY:
            self.problems.append(f"{module.name}: debug info of build ID {wanted.hex()} is missing")

    def _try(self, module: drgn.Module, file: GivenFile) -> None:
        try:
            module.try_file(file.path, fd=os.dup(file.fd))  # which takes the duplicate
        except Exception as error:  # one broken file must not cost the others
            self.problems.append(f"{file.path}: not used: {error}")

    def _files(self, module: drgn.Module) -> list[GivenFile]:
        start = module.address_ranges[0][0] if module.address_ranges else 0
        image = self._images.at(start)
        return self._images.candidates(image) if image else []


def _raw(frame: drgn.StackFrame) -> RawFrame:
    try:
        source = frame.source()
        file, line = source.filename, source.line
    except LookupError:
        file, line = "", 0
    return RawFrame(
        pc=_pc(frame),
        sp=_sp(frame),
        function=frame.function_name or "",
        file=file,
        line=line,
        inline=frame.is_inline,
        interrupted=frame.interrupted,
        symbol="" if frame.is_inline else _symbol(frame),
    )


def _pc(frame: drgn.StackFrame) -> int:
    try:
        return int(frame.pc)
    except LookupError:
        return 0


def _sp(frame: drgn.StackFrame) -> int:
    try:
        return int(frame.sp)
    except LookupError:
        return 0


def _symbol(frame: drgn.StackFrame) -> str:
    """The name of the function symbol that really covers the address."""
    try:
        symbol = frame.symbol()
    except LookupError:
        return ""
    # A symbol without a size is only the nearest one before; it named musl's pause() "memset".
    pc = _pc(frame) - (0 if frame.interrupted else 1)
    covers = symbol.address <= pc < symbol.address + symbol.size
    return str(symbol.name) if covers and symbol.kind in _FUNCTIONS else ""
