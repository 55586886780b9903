"""A compressed core goes into a bundle whole, in one pass, or is said to be damaged.

With real crashes and gdb: tests/integration/cli/test_bundle.py.
"""

import tarfile
from io import BytesIO
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import zstandard

from stillframe import bundle
from stillframe.bundle import Contents, write_bundle
from stillframe.errors import PermanentError
from tests.support.corewriter import R, elf

ET_CORE, PT_LOAD, PT_NOTE = 4, 1, 4
MEMORY = 32 << 20
CORE = elf(ET_CORE, [(PT_NOTE, 0, 0, b"note" * 5, 0), (PT_LOAD, R, 4096, bytes(MEMORY), MEMORY)])


def frames(plain: bytes) -> bytes:
    """As the tracer writes them: a frame for the headers, one for all memory."""
    compress = zstandard.ZstdCompressor(level=1, write_checksum=True).compress
    return compress(plain[:200]) + compress(plain[200:])


def bundled(tmp_path: Path, core: bytes, limit: int | None = None) -> bytes:
    """The core as it is in the bundle."""
    (tmp_path / "full.core.zst").write_bytes(core)
    contents = Contents(name="b", core=tmp_path / "full.core.zst", modules=[], program="")
    write_bundle(out := BytesIO(), contents, limit)
    with tarfile.open(fileobj=BytesIO(out.getvalue())) as archive:
        file = archive.extractfile("b/core")
        assert file is not None
        return file.read()


def test_a_compressed_core_is_taken_whole_and_decompressed_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    decompressor = zstandard.ZstdDecompressor
    read = 0

    class Counting:
        def stream_reader(self, *arguments: Any, **options: Any) -> object:
            reader = decompressor().stream_reader(*arguments, **options)

            def counted(size: int) -> bytes:
                nonlocal read
                data: bytes = reader.read(size)
                read += len(data)
                return data

            return SimpleNamespace(read=counted)

    monkeypatch.setattr(bundle.zstandard, "ZstdDecompressor", Counting)
    assert bundled(tmp_path, frames(CORE)) == CORE
    assert read < len(CORE) + MEMORY // 2


def test_the_limit_counts_what_is_in_it_before_it_is_compressed(tmp_path: Path) -> None:
    assert len(frames(CORE)) < MEMORY // 1000
    assert bundled(tmp_path, frames(CORE), limit=len(CORE)) == CORE
    with pytest.raises(PermanentError, match=f"more than the {len(CORE) - 1} bytes"):
        bundled(tmp_path, frames(CORE), limit=len(CORE) - 1)


@pytest.mark.parametrize(
    ("core", "says"),
    [
        (frames(CORE[:-1]), "it ends before its headers say so"),
        (frames(CORE)[:-9], "it ends before its headers say so"),
        (frames(CORE) + frames(b"x" * 300), "it goes on where its headers say it ends"),
        (frames(CORE[:150]), "the file ends inside its program headers"),
        (frames(b"x" * 300), "not an ELF file"),
        (frames(CORE)[:4] + b"\xff" * 99, "zstd"),
    ],
    ids=["short", "cut", "long", "headers", "text", "noise"],
)
def test_a_compressed_core_that_is_not_as_its_headers_say_is_damaged(
    tmp_path: Path, core: bytes, says: str
) -> None:
    with pytest.raises(PermanentError, match=rf"full\.core\.zst is damaged: .*{says}"):
        bundled(tmp_path, core)


def test_a_core_that_is_not_compressed_is_taken_as_it_is(tmp_path: Path) -> None:
    assert bundled(tmp_path, CORE[:-5]) == CORE[:-5]
