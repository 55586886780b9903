"""The pages of mapped files that a full core lacks.

A core has only the pages that the process wrote: the others are in the file, and no capture
touches them.  A debugger looks there.  pystack reads a whole struct at once, and gives up at a gap
in it: since CPython 3.13 the interpreter's state lies in the library's ``.data``, on pages written
and not.  So each writable mapping of a given file is put together once more, at the end of the
core: the file's bytes, and over them the core's.
"""

import io
import os
import struct
from collections import defaultdict
from collections.abc import Mapping

from stillframe.corefile import CoreFile, MappedFile
from stillframe.corefile.elf import PF_W, PT_LOAD, Buffer, Segment, parse_header

_E_PHOFF = 32
_PHDR = struct.Struct("<IIQQQQQQ")
_PT_NULL = 0
_PAGE = 4096


def fill_gaps(core: CoreFile, data: Buffer, target: io.FileIO, files: Mapping[str, Buffer]) -> None:
    """Append the mappings to ``target``, which holds ``data``, and make its table say so.

    ``files`` has the contents by path.  Raises `OSError` where the file may not grow.
    """
    table = list(parse_header(data).segments)
    written: dict[MappedFile, list[int]] = defaultdict(list)
    for index, segment in enumerate(table):
        mapped = core.file_at(segment.vaddr) if segment.type == PT_LOAD else None
        if mapped and mapped.path in files and segment.end <= mapped.end:
            written[mapped].append(index)
    for mapped, indexes in written.items():
        segments = [table[index] for index in indexes]
        if not any(segment.flags & PF_W for segment in segments):
            continue
        memory = _memory(mapped, files[mapped.path], segments, data)
        at = -(-target.seek(0, os.SEEK_END) // _PAGE) * _PAGE
        _write(target, at, memory)
        for index in indexes:
            table[index] = table[index]._replace(type=_PT_NULL)
        table[indexes[0]] = Segment(
            PT_LOAD, segments[0].flags, at, mapped.start, len(memory), len(memory)
        )
    (table_at,) = struct.unpack_from("<Q", data, _E_PHOFF)
    _write(target, table_at, b"".join(map(_program_header, table)))


def _memory(
    mapped: MappedFile, file: Buffer, segments: list[Segment], data: Buffer
) -> bytes | bytearray:
    size = mapped.end - mapped.start
    memory = bytearray(file[mapped.offset : mapped.offset + size].ljust(size, b"\0"))
    for segment in segments:
        at = segment.vaddr - mapped.start
        saved = data[segment.offset : segment.offset + segment.filesz]
        memory[at : at + segment.memsz] = saved.ljust(segment.memsz, b"\0")
    return memory


def _program_header(segment: Segment) -> bytes:
    kind, flags, offset, vaddr, filesz, memsz = segment
    return _PHDR.pack(kind, flags, offset, vaddr, 0, filesz, memsz, _PAGE)


def _write(target: io.FileIO, at: int, data: bytes | bytearray) -> None:
    target.seek(at)
    view = memoryview(data)
    while view:
        view = view[target.write(view) :]
