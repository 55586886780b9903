"""Manifest: what one sample is, and how far it has come.

The manifest is the journal of a crash on its node.  It is written before the
snapshot is copied, and again at each step that a restarted agent must not
repeat or forget.  Data only, no I/O.
"""

from collections.abc import Mapping
from enum import StrEnum
from typing import Final

import msgspec

from stillframe import names
from stillframe_agent.pods import PodIdentity

EVIDENCE: Final[Mapping[str, str]] = {
    names.ARTIFACT_SNAPSHOT: "snapshot",
    names.ARTIFACT_CORE: "core",
    names.ARTIFACT_CORE_PLAIN: "core",
    names.ARTIFACT_FACTS: "facts",
    names.ARTIFACT_HS_ERR: "hs_err",
}
"""What a capture leaves, file by file, with its kind: everything that cannot be made again."""


class Phase(StrEnum):
    """How far a sample has come; what a restarted agent does with it."""

    CAPTURING = "capturing"
    """The copy may not be complete.  With a snapshot: as `CAPTURED`, but nobody proved
    the owner; without: the directory is deleted, the original is still in the pod."""
    CAPTURED = "captured"
    """The snapshot is ours and the original gone: analyse it."""
    REPORTED = "reported"
    """The report is in the spool, or acknowledged: keep the files until their time is over."""


class _Record(msgspec.Struct, frozen=True, kw_only=True):
    """Frozen and keyword-only."""


class KeptFile(_Record, frozen=True, kw_only=True):
    """One file of the sample."""

    kind: str
    """``snapshot``, ``core``, ``facts``, ``hs_err`` (a JVM's log of its death), ``bundle`` (for
    gdb) or ``report``."""
    file: str
    bytes: int
    sha256: str
    """Lower-case hex."""
    url: str = ""
    """Of its verified copy in the object store; empty until there is one."""


class Manifest(_Record, frozen=True, kw_only=True):
    """One sample."""

    report_id: str
    """32 lower-case hex digits; also the directory's name."""
    phase: Phase
    snapshot_id: str
    """The id that the library chose, from the snapshot's name."""
    node: str
    pod: PodIdentity
    attested: bool = False
    """Whether the kernel proved which process of the pod wrote it, and that process does
    not claim to be another."""
    complete: bool = True
    """False: the writer was killed before it had finished."""
    held_millis: int | None = None
    """Milliseconds from the crash to our release; None when not known, or not held by us."""
    released: bool = False
    """Whether a living process was released by us."""
    created: float
    """Seconds since the epoch, on the node's clock."""
    expires: float
    """When the files may go, likewise."""
    signal: int = 0
    """As the snapshot says; 0 when it does not."""
    attempts: int = 0
    """Analyses begun: a snapshot that kills its analysis is not tried for ever."""
    files: tuple[KeptFile, ...] = ()
    soft_errors: tuple[str, ...] = ()
    crash_report_uid: str = ""
    """The CrashReport that counted it; empty until acknowledged."""
    crash_report: str = ""
    """Its ``namespace/name``."""
    url: str = ""
    """Of the directory in the object store that has all files, and this manifest, which comes
    last; ends in a slash.  Empty until then."""
    upload_refused: str = ""
    """Why they never will be."""
    placed: bool = False
    """Whether the CrashReport says ``url``."""

    @property
    def pending(self) -> bool:
        """Whether it is to be uploaded, where uploads are wanted: a CrashReport shows it."""
        return bool(self.crash_report_uid) and not self.url and not self.upload_refused


def encode(manifest: Manifest) -> bytes:
    """Indented JSON, for people too."""
    return msgspec.json.format(msgspec.json.encode(manifest), indent=2) + b"\n"


def decode(data: bytes) -> Manifest:
    """The inverse of `encode`; raises `ValueError`."""
    return msgspec.json.decode(data, type=Manifest)
