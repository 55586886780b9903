"""What there is of one crash: a directory that stillframe made, or a core.

Such a directory is made by ``stillframe run`` and ``snapshot``, and by the agent, whose
``kubectl cp`` brings it here.
"""

from dataclasses import dataclass
from pathlib import Path

from stillframe.corefile.compressed import MAGIC, is_compressed
from stillframe.errors import PermanentError
from stillframe.names import (
    ARTIFACT_CORE,
    ARTIFACT_CORE_PLAIN,
    ARTIFACT_FACTS,
    ARTIFACT_HS_ERR,
    ARTIFACT_SNAPSHOT,
)


@dataclass(frozen=True, slots=True)
class Sample:
    """The files of one crash; `None` where there is none."""

    core: Path
    """Not compressed; the snapshot where there is one."""
    full_core: Path | None = None
    """May be compressed, and may be ``core``."""
    hs_err: Path | None = None
    """A JVM's log of its own death."""
    facts: Path | None = None


def sample_of(evidence: Path) -> Sample:
    """The files in a directory, or a core alone; raises `PermanentError` where none is a core."""
    if not evidence.is_dir():
        return Sample(_readable(evidence))

    def kept(*names: str) -> Path | None:
        paths = (evidence / name for name in names)
        return next((path for path in paths if path.is_file()), None)

    full = kept(ARTIFACT_CORE_PLAIN, ARTIFACT_CORE)
    core = kept(ARTIFACT_SNAPSHOT) or full
    if core is None:
        raise PermanentError(f"{evidence} has no {ARTIFACT_SNAPSHOT}")
    return Sample(_readable(core), full, kept(ARTIFACT_HS_ERR), kept(ARTIFACT_FACTS))


def _readable(core: Path) -> Path:
    with core.open("rb") as file:
        compressed = is_compressed(file.read(len(MAGIC)))
    if compressed:
        raise PermanentError(
            f"{core} is compressed",
            "Give the directory that it is in, with its snapshot.core; or decompress it: "
            f"zstd -d {core.name}",
        )
    return core
