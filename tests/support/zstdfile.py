"""Full cores, decompressed."""

from pathlib import Path

import zstandard


def decompress(path: Path, plain: Path) -> Path:
    """Write what all frames of ``path`` hold to ``plain``; returns it."""
    with path.open("rb") as source, plain.open("wb") as sink:
        reader = zstandard.ZstdDecompressor().stream_reader(source, read_across_frames=True)
        while chunk := reader.read(1 << 20):
            sink.write(chunk)
    return plain
