"""Has an address call frame information?  Decides trust, and when to scan instead.

drgn unwinds; it does not tell how.  This looks the address up in the binary
search table of ``.eh_frame_hdr`` (LSB Core, "Exception Frames") in the one
encoding that linkers write; anything else counts as "no CFI", which only makes
us trust a frame less.
"""

import struct

from stillframe.corefile.elf import Buffer, parse_header
from stillframe.errors import InvalidInputError

PT_GNU_EH_FRAME = 0x6474E550
_HEADER = b"\x01\x1b\x03\x3b"
"""Version 1; eh_frame_ptr pcrel|sdata4, count udata4, table datarel|sdata4."""
_ENTRY = struct.Struct("<ii")


def has_cfi(image: Buffer, vaddr: int) -> bool:
    """Whether the ELF image has a frame description for ``vaddr`` (not biased)."""
    try:
        segments = parse_header(image).segments
        header = next(s for s in segments if s.type == PT_GNU_EH_FRAME)
        if image[header.offset : header.offset + 4] != _HEADER:
            return False
        (count,) = struct.unpack_from("<I", image, header.offset + 8)
        table = header.offset + 12
        low, high = 0, count
        while low < high:  # the last entry that starts at or before vaddr
            middle = (low + high) // 2
            (start, _) = _ENTRY.unpack_from(image, table + middle * _ENTRY.size)
            low, high = (middle + 1, high) if header.vaddr + start <= vaddr else (low, middle)
        if low == 0:
            return False
        start, description = _ENTRY.unpack_from(image, table + (low - 1) * _ENTRY.size)
        # length, CIE pointer, pc_begin (sdata4), pc_range: .eh_frame is mapped with its header.
        at = header.offset + description
        (length,) = struct.unpack_from("<I", image, at + 12)
    except (InvalidInputError, StopIteration, struct.error):
        return False
    return bool(vaddr < header.vaddr + start + length)
