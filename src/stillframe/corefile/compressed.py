"""A core that is stored compressed: how it is told from one that is not."""

from typing import Final

MAGIC: Final = b"\x28\xb5\x2f\xfd"
"""Of a zstd frame (RFC 8878, 3.1.1)."""


def is_compressed(head: bytes) -> bool:
    r"""Whether a file that begins with ``head`` is compressed with zstd.

    >>> is_compressed(b"\x28\xb5\x2f\xfd\x00"), is_compressed(b"\x7fELF")
    (True, False)
    """
    return head.startswith(MAGIC)
