"""Capture as one sentence: open, claim, attest, wait, copy, open modules, release.

Flows in: a snapshot directory and a name.  Flows out: a `Capture`.  Called by
the agent's workers and by ``stillframe run``; blocking, one call per thread.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from stillframe.capture.handover import SnapshotDirectory, SnapshotName
from stillframe.capture.identity import Holder
from stillframe.capture.modules import OpenModule

Clock = Callable[[], int]
"""``CLOCK_MONOTONIC`` in nanoseconds."""


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
    deleted: bool
    """Whether the original could be unlinked."""
    soft_errors: tuple[str, ...]

    @property
    def attested(self) -> bool:
        """Whether the kernel said whose snapshot this is."""
        return self.holder is not None

    def close(self) -> None:
        """Wait for the process's death, then close every descriptor."""
        raise NotImplementedError

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


def capture(
    directory: SnapshotDirectory,
    name: SnapshotName,
    destination: Path,
    *,
    limits: CaptureLimits = CaptureLimits(),  # noqa: B008 -- frozen
    clock: Clock = time.monotonic_ns,
) -> Capture:
    """Take one snapshot and let its process go.

    ``name`` may be stale: a ``.part`` that has become ``.core`` meanwhile is
    found.  The copy is ``destination`` (its directory exists).  The original
    is deleted only after the copy is durable.

    Raises `FileNotFoundError` when the snapshot is gone (somebody else took
    it), `InvalidInputError` (a `Refusal`; the process, if any, goes on by
    itself because our claim ends), `TemporaryError` (our disk).
    """
    raise NotImplementedError
