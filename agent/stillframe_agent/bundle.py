"""Bundle: a sample's core with the process's own files, which are gone when the pod is.

Flows in: a sample on our disk, descriptors of the files.  Flows out: one more
file of the sample.
"""

import os
from pathlib import Path

from stillframe import names
from stillframe.bundle import Contents, compressed, write_bundle
from stillframe_agent.files import describe, sync_directory
from stillframe_agent.manifest import KeptFile, Manifest


def bundle(
    directory: Path,
    manifest: Manifest,
    modules: tuple[tuple[str, int], ...],
    *,
    program: str,
    limit: int,
) -> KeptFile:
    """Write the bundle of a sample in ``directory``, durably; ``program`` is one of ``modules``.

    Raises `PermanentError` when it would have more than ``limit`` bytes before
    its compression, `OSError` when our disk refuses; nothing is left then.
    """
    files = {kept.kind: kept.file for kept in manifest.files}
    contents = Contents(
        name=manifest.report_id,
        core=directory / files.get("core", names.ARTIFACT_SNAPSHOT),
        modules=modules,
        program=program,
        notes=[directory / kept.file for kept in manifest.files if kept.kind == "report"],
    )
    temporary = directory / f".{names.ARTIFACT_BUNDLE}"
    try:
        with open(temporary, "wb", opener=_private) as file:
            with compressed(file) as out:
                write_bundle(out, contents, limit)
            file.flush()
            os.fsync(file.fileno())
        kept = describe("bundle", temporary, names.ARTIFACT_BUNDLE)
        temporary.rename(directory / names.ARTIFACT_BUNDLE)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    sync_directory(directory)
    return kept


def _private(name: str, flags: int) -> int:
    return os.open(name, flags, 0o640)
