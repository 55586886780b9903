"""A zstd frame that stores its content as it is, and so can be written again in place.

The size of such a frame depends on the size of its content alone.  The headers
of a core go into one at the start of the file: how much memory follows is known
only at the end.  The format is RFC 8878; frames may follow each other.
"""

from typing import Final

BLOCK: Final = 128 << 10
"""Largest block, bytes."""
_HEADER: Final = b"\x28\xb5\x2f\xfd\x00\x38"
"""Magic number; no checksum, size or dictionary; a window of one block."""


def stored_frame(content: bytes) -> bytes:
    """``content`` as one frame.

    >>> stored_frame(b"ab").hex()
    '28b52ffd00381100006162'
    """
    starts = range(0, max(len(content), 1), BLOCK)
    blocks = [content[start : start + BLOCK] for start in starts]
    parts = [_HEADER]
    for index, block in enumerate(blocks):
        last = index == len(blocks) - 1
        parts += ((last | len(block) << 3).to_bytes(3, "little"), block)
    return b"".join(parts)
