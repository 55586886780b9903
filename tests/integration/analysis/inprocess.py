"""Analyzes in the test's own process, where many cores make the child's start too slow."""

import os
from contextlib import ExitStack
from mmap import PROT_READ, mmap
from pathlib import Path

from stillframe.analysis import Analysis
from stillframe.analysis.images import GivenFile
from stillframe.analysis.pipeline import analyze_core
from stillframe.analysis.sandbox import syscall_name
from stillframe.corefile import CoreFile
from stillframe.corefile.elf import Buffer, build_id
from stillframe.errors import InvalidInputError
from tests.integration.analysis.conftest import mapped_files


def analyze_here(core: Path) -> Analysis:
    """Analyze by the files at the paths the core names."""
    with ExitStack() as stack:
        given = []
        for path in mapped_files(core):
            file = stack.enter_context(Path(path).open("rb"))
            data = mmap(file.fileno(), 0, prot=PROT_READ)
            given.append(GivenFile(path, file.fileno(), data, build_id_of(data)))
        file = stack.enter_context(core.open("rb"))
        read = CoreFile.from_bytes(mmap(file.fileno(), 0, prot=PROT_READ))
        # drgn closes the core's descriptor itself.
        *_, answer = analyze_core(read, os.dup(file.fileno()), given, syscall_name, variables=False)
        return answer


def build_id_of(data: Buffer) -> bytes | None:
    try:
        return build_id(data)
    except InvalidInputError:
        return None
