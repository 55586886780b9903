"""Capture as one sentence: open, claim, attest, wait, copy, open modules and log, facts, release.

Flows in: a snapshot directory and a name.  Flows out: a `Capture`.  Called by
the agent's workers and by ``stillframe run``; blocking, one call per thread.

The release comes as soon as nothing more needs the process alive: looking into
the copy and making it durable come after it.
"""

import errno
import os
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from stillframe.capture.copying import Copied, Staged, stage
from stillframe.capture.facts import FactsPolicy, TakenFacts, take_facts
from stillframe.capture.fullcore import CoreRequest, FullCore, take_core, with_digest
from stillframe.capture.handover import (
    OpenSnapshot,
    SnapshotDirectory,
    SnapshotName,
    Stage,
    claim,
    discard,
    open_snapshot,
    release,
    unclaimed,
)
from stillframe.capture.hs_err import HsErr, keep_hs_err, open_hs_err
from stillframe.capture.identity import Holder, attest, still_holds
from stillframe.capture.kernel import file_facts
from stillframe.capture.modules import OpenModule, OpenModules, open_modules
from stillframe.capture.refusals import NoHolderError, Refusal, refused
from stillframe.corefile import CoreFile, CrashNote
from stillframe.errors import InvalidInputError, StillframeError, TemporaryError
from stillframe.names import ARTIFACT_HS_ERR

Clock = Callable[[], int]
"""``CLOCK_MONOTONIC`` in nanoseconds."""
CoreWish = Callable[[Holder], CoreRequest | str]
"""What full core is wanted of a process, or why none is; empty when none was asked for."""
POLL_FIRST: Final = 0.0002
POLL_MOST: Final = 0.005
"""Seconds between two looks for ``.core``; the library polls us at the same pace."""


@dataclass(frozen=True, slots=True)
class CaptureLimits:
    """Bounds of one capture."""

    max_bytes: int = 16 << 20
    """Largest snapshot, bytes."""
    complete_timeout: float = 2.0
    """Seconds from the claim until ``.part`` must have become ``.core``."""
    second_look: float = 0.05
    """Seconds between two looks at a file that nobody holds."""
    death_timeout: float = 2.0
    """Seconds that byte 2 is kept for a process that was released and does not die."""
    max_modules: int = 256
    max_module_bytes: int = 1 << 30
    max_hs_err_bytes: int = 4 << 20
    """Largest log of a JVM, bytes; a typical one has 100 KiB."""


@dataclass(frozen=True, slots=True)
class Capture:
    """The evidence of one crash; a context manager that owns descriptors.

    Leaving it waits (at most `CaptureLimits.death_timeout`) until the process
    is dead, and only then lets go of byte 2: a library that is slow to poll
    must still find it locked.
    """

    id: str
    """The snapshot's id, from its file name."""
    path: Path
    """Our durable copy."""
    bytes: int
    sha256: str
    holder: Holder | None
    """The process, proven by the kernel; None when it was dead before we came."""
    modules: tuple[OpenModule, ...]
    """Empty without a holder: the files are gone with their process."""
    complete: bool
    """False for the leftover of a process that was killed while it wrote."""
    held_millis: int | None
    """From the crash to our release, in ms; None without a holder or a readable note."""
    note: CrashNote | None
    """What the library wrote about the crash; the pod's word, never the kernel's."""
    hs_err: Copied | None
    """Of the log a JVM wrote about its death, durable beside ``path``; None for other processes."""
    core: Copied | None
    """Of the full core, durable beside ``path``; None when it was not asked for or could not be
    had: then ``soft_errors`` says why."""
    facts: TakenFacts | None
    """What else was found out while the process lived; None without a holder."""
    deleted: bool
    """Whether the original could be unlinked."""
    soft_errors: tuple[str, ...]
    """Modules and logs that could not be opened, and where note and kernel disagree."""
    _resources: ExitStack

    @property
    def attested(self) -> bool:
        """Whether the kernel said whose snapshot this is."""
        return self.holder is not None

    def close(self) -> None:
        """Wait for the process's death, then close every descriptor."""
        self._resources.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


DEFAULT_LIMITS: Final = CaptureLimits()
DEFAULT_FACTS: Final = FactsPolicy()


def capture(
    directory: SnapshotDirectory,
    name: SnapshotName,
    destination: Path,
    *,
    limits: CaptureLimits = DEFAULT_LIMITS,
    facts: FactsPolicy = DEFAULT_FACTS,
    core: CoreWish | None = None,
    clock: Clock = time.monotonic_ns,
) -> Capture:
    """Take one snapshot, perhaps a full core, and let its process go.

    ``core`` is asked whether one is wanted, once the process is proven.

    ``name`` may be stale: a ``.part`` that has become ``.core`` meanwhile is
    found.  The copy is ``destination`` (its directory exists); a JVM's log comes
    to lie beside it.  The original is deleted only after the copy is durable.

    Raises `FileNotFoundError` when the snapshot is gone (somebody else took
    it), `InvalidInputError` (a `Refusal`; the process, if any, goes on by
    itself because our claim ends), `TemporaryError` (our disk, or a file that
    nobody holds and somebody writes).
    """
    with ExitStack() as resources:
        snapshot = resources.enter_context(_open(directory, name, limits))
        claim(snapshot.fd)
        claimed = time.monotonic()
        holder = _attest(snapshot, limits)
        if holder is not None:
            resources.callback(holder.close)
        name = _wait_complete(directory, snapshot, holder, limits, clock)
        staged = _stage(snapshot, destination, limits, resources)
        full: FullCore | str = ""
        try:
            opened = _open_modules(holder, limits)
            resources.callback(opened.close)
            log = _open_hs_err(holder, limits)
            resources.callback(log.close)
            found, fact_errors = _take_facts(holder, snapshot, facts)
            if core is not None and holder is not None:
                full = _take_core(holder, snapshot, staged, core, claimed)
            release(snapshot.fd)
            released_ns = clock()
            seen = _inspect(staged, complete=name.stage is Stage.CORE)
        except StillframeError:
            staged.abandon()
            if isinstance(full, FullCore):
                full.staged.abandon()
            raise
        modules, module_errors = opened.checked()
        held_millis = _held_millis(seen.note, snapshot.fd, released_ns) if holder else None
        kept, core_errors = _keep_core(full)
        copied = staged.commit()
        hs_err, log_errors = keep_hs_err(
            log, staged.directory_fd, ARTIFACT_HS_ERR, max_bytes=limits.max_hs_err_bytes
        )
        if holder is not None:
            # Runs first when the capture is closed: byte 2 outlives the process.
            # After a refusal it need not: the end of our claim lets go as well.
            resources.callback(holder.wait_dead, limits.death_timeout)
        return Capture(
            id=name.id,
            path=destination,
            bytes=copied.bytes,
            sha256=copied.sha256,
            holder=holder,
            modules=modules,
            complete=name.stage is Stage.CORE,
            held_millis=held_millis,
            note=seen.note,
            hs_err=hs_err,
            core=kept,
            facts=found,
            deleted=discard(directory.fd, name),
            soft_errors=(
                *module_errors,
                *log_errors,
                *core_errors,
                *fact_errors,
                *disagreements(seen.note, holder),
            ),
            _resources=resources.pop_all(),
        )


def disagreements(note: CrashNote | None, holder: Holder | None) -> tuple[str, ...]:
    """Where the note contradicts the kernel; the kernel is right, the pod may lie.

    A 0 in the note says that the library could not find out.
    """
    if note is None or holder is None:
        return ()
    said_and_so = {
        "pid": (note.fields.pid, holder.pids[-1]),
        "start time": (note.fields.start_ticks, holder.start_ticks),
        "pid namespace": (note.fields.pid_ns, holder.pid_ns),
    }
    return tuple(
        f"the note says {what} {said}, the kernel {so}"
        for what, (said, so) in said_and_so.items()
        if said not in (0, so)
    )


def _open(directory: SnapshotDirectory, name: SnapshotName, limits: CaptureLimits) -> OpenSnapshot:
    try:
        return open_snapshot(directory.fd, name, max_bytes=limits.max_bytes)
    except FileNotFoundError:
        complete = SnapshotName(name.id, Stage.CORE)
        return open_snapshot(directory.fd, complete, max_bytes=limits.max_bytes)


def _attest(snapshot: OpenSnapshot, limits: CaptureLimits) -> Holder | None:
    """The process of a snapshot; None when nobody held it on two looks.

    One look is not enough: between two of its renames, or while another
    thread closes descriptors, a living process can look dead.
    """
    try:
        return attest(snapshot.fd)
    except NoHolderError:
        before = os.fstat(snapshot.fd)
        time.sleep(limits.second_look)
    try:
        return attest(snapshot.fd)
    except NoHolderError:
        after = os.fstat(snapshot.fd)
    if (before.st_size, before.st_mtime_ns) != (after.st_size, after.st_mtime_ns):
        raise TemporaryError("nobody holds the snapshot, but somebody writes it", delay=0.1)
    return None


def _wait_complete(
    directory: SnapshotDirectory,
    snapshot: OpenSnapshot,
    holder: Holder | None,
    limits: CaptureLimits,
    clock: Clock,
) -> SnapshotName:
    """The name under which the claimed file is complete, or where its writer left it."""
    part = SnapshotName(snapshot.name.id, Stage.PART)
    core = SnapshotName(snapshot.name.id, Stage.CORE)
    deadline = clock() + int(limits.complete_timeout * 1e9)
    pause = POLL_FIRST
    dead = holder is None
    while not _is(snapshot, _look(directory, core)):
        left = _look(directory, part)
        if not _is(snapshot, left):
            final = _look(directory, core)
            if _is(snapshot, final):
                break  # renamed between the two looks
            if left is None and final is None:
                raise FileNotFoundError(errno.ENOENT, "taken back by its writer", part.file)
            raise refused(Refusal.REPLACED, f"{part.file} is not the file that was claimed")
        if dead:
            return part
        if clock() > deadline:
            raise refused(
                Refusal.NEVER_COMPLETE,
                f"{part.file} was not complete after {limits.complete_timeout} s",
            )
        dead = holder is None or holder.wait_dead(pause)
        pause = min(pause * 2, POLL_MOST)
    return core


def _look(directory: SnapshotDirectory, name: SnapshotName) -> os.stat_result | None:
    try:
        return os.stat(name.file, dir_fd=directory.fd, follow_symlinks=False)
    except FileNotFoundError:
        return None


def _is(snapshot: OpenSnapshot, found: os.stat_result | None) -> bool:
    return found is not None and os.path.samestat(found, snapshot.stat)


def _stage(
    snapshot: OpenSnapshot, destination: Path, limits: CaptureLimits, resources: ExitStack
) -> Staged:
    flags = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
    directory_fd = os.open(destination.parent, flags)
    resources.callback(os.close, directory_fd)
    return stage(snapshot.fd, directory_fd, destination.name, max_bytes=limits.max_bytes)


def _open_modules(holder: Holder | None, limits: CaptureLimits) -> OpenModules:
    if holder is None:
        return OpenModules()
    try:
        return open_modules(
            holder, max_modules=limits.max_modules, max_bytes=limits.max_module_bytes
        )
    except OSError as error:
        return OpenModules((), [f"cannot read the modules of process {holder.pid}: {error}"])


def _open_hs_err(holder: Holder | None, limits: CaptureLimits) -> HsErr:
    return open_hs_err(holder, max_bytes=limits.max_hs_err_bytes) if holder else HsErr()


def _take_facts(
    holder: Holder | None, snapshot: OpenSnapshot, policy: FactsPolicy
) -> tuple[TakenFacts | None, tuple[str, ...]]:
    """The facts, if they are those of the process that crashed to their end; never raises."""
    if holder is None:
        return None, ()
    found = take_facts(holder, policy)
    if not still_holds(snapshot.fd, holder):
        return None, ("no facts: the process went on or died while they were read",)
    return found, ()


def _take_core(
    holder: Holder, snapshot: OpenSnapshot, staged: Staged, core: CoreWish, claimed: float
) -> FullCore | str:
    request = core(holder)
    if not isinstance(request, CoreRequest):
        return f"no full core: {request}" if request else ""
    take = partial(take_core, holder, staged.fd, staged.directory_fd, request, claimed)
    if not request.shut_sockets:
        return take()
    # Another process gets it, which must not inherit our claim.
    with unclaimed(snapshot.fd) as lock_fd:
        return take(lock_fd=lock_fd)


def _keep_core(full: FullCore | str) -> tuple[Copied | None, tuple[str, ...]]:
    """Our durable full core, if there is one, and what it lacks; never raises."""
    if isinstance(full, str):
        return None, (full,) if full else ()
    try:
        return with_digest(full.staged).commit(), full.soft_errors
    except (StillframeError, OSError) as error:
        return None, (f"no full core: {error}",)


def _inspect(staged: Staged, *, complete: bool) -> CoreFile:
    """Whether our copy is a core, whole if its writer said so."""
    try:
        core = CoreFile.from_bytes(os.pread(staged.fd, staged.bytes, 0))
        if complete and core.truncated:
            raise refused(Refusal.TRUNCATED, "; ".join(core.problems))
        if not core.threads:
            raise refused(Refusal.TRUNCATED, "ends before the first thread's registers")
    except InvalidInputError as error:
        reason = _CORE_REFUSALS.get(error.reason, Refusal.NOT_CORE)
        raise refused(reason, str(error)) from error
    return core


_CORE_REFUSALS: Final = {
    "NotElf": Refusal.NOT_ELF,
    "TruncatedHeaders": Refusal.TRUNCATED,
    Refusal.TRUNCATED.value: Refusal.TRUNCATED,
}


def _held_millis(note: CrashNote | None, fd: int, released_ns: int) -> int | None:
    """From the crash, as the note says, to the release; None when that cannot be true.

    The process cannot have been held for much longer than its file exists; a
    second is more than the library takes from the signal to the file.
    """
    if note is None:
        return None
    held_ns = released_ns - note.fields.crash_monotonic_ns
    age_ns = time.time_ns() - file_facts(fd).birth_ns
    return held_ns // 1_000_000 if 0 <= held_ns <= age_ns + 1_000_000_000 else None
