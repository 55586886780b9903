"""Bundle: a core and the files it needs, as one archive that gdb can use on any machine.

Flows in: a core, descriptors of the files that its process had mapped, debug
files.  Flows out: a tar archive of one directory, in which ``./debug`` starts
gdb with all of it.  Called by ``stillframe bundle`` and by the agent.

The paths inside come from the dying process and are hostile: none of them is
part of a script, leads out of the archive, or is followed.  Nor may what lies
there run on the machine of whoever debugs: gdb loads no scripts from it.
"""

import io
import os
import tarfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO, Final, Protocol

import zstandard

from stillframe.corefile.compressed import MAGIC, is_compressed
from stillframe.corefile.elf import build_id, parse_header
from stillframe.errors import InvalidInputError, PermanentError

SCRIPT: Final = b"""\
#!/bin/sh
# Opens the core in gdb with the files that its process had mapped.  Arguments are gdb's, such as
#   ./debug -batch -ex 'thread apply all bt'
# and files that they name are looked for in this directory.
# For a core of another kind of machine: GDB=gdb-multiarch ./debug
here=$(CDPATH= cd "$(dirname "$0")" && pwd) || exit
[ -e "$here/program" ] && program=$here/program || program=
# gdb looks for a library that it does not find below its sysroot from here on.
cd "$here" || exit
exec "${GDB:-gdb}" \\
    -iex "set auto-load off" \\
    -iex "set sysroot $here/sysroot" \\
    -iex "set solib-search-path $here/modules" \\
    -iex "set debug-file-directory $here/debug-files:/usr/lib/debug" \\
    "$@" -c "$here/core" ${program:+"$program"}
"""
"""auto-load off: the binaries are a pod's, and may name scripts that gdb would run."""
_MAX_HEADERS: Final = 4 << 20
"""Bytes at the start of a core that have all of its program headers: 65,535 take 3.5 MiB."""
_ZSTD_LEVEL: Final = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Contents:
    """What goes into a bundle."""

    name: str
    """Of the directory."""
    core: Path
    """ELF, or ELF compressed with zstd; goes in uncompressed."""
    modules: Sequence[tuple[str, int]]
    """Path as the process saw it, and a descriptor."""
    program: str
    """The path among them that was executed; empty when it is not known."""
    debug_files: Sequence[Path] = ()
    """Go where gdb looks for them by build ID."""
    notes: Sequence[Path] = ()
    """Go beside the script, such as a report."""


def write_bundle(out: IO[bytes], contents: Contents, limit: int | None = None) -> None:
    """Write a tar archive to ``out``, front to back.

    Raises `PermanentError`, before it has written anything, for a debug file
    without a build ID or when all files together have more than ``limit``
    bytes, and at its end for a damaged core; `OSError`.
    """
    modules = [(path, fd, os.fstat(fd).st_size) for path, fd in contents.modules]
    debug_files = {_by_build_id(path): path for path in contents.debug_files}
    size = sum(size for _path, _fd, size in modules)
    size += sum(path.stat().st_size for path in (*contents.debug_files, *contents.notes))
    core_size = _plain_size(contents.core)
    if limit is not None and size + core_size > limit:
        raise PermanentError(f"core and binaries have more than the {limit} bytes it may have")
    with tarfile.open(fileobj=out, mode="w|", format=tarfile.PAX_FORMAT) as archive:
        writer = _Writer(archive, contents.name, int(contents.core.stat().st_mtime))
        writer.add("debug", io.BytesIO(SCRIPT), len(SCRIPT), mode=0o755)
        for path in contents.notes:
            writer.add_file(path.name, path)
        _add_modules(writer, modules, contents.program)
        for name, path in debug_files.items():
            writer.add_file(f"debug-files/{name}", path)
        with _plain(contents.core) as core:
            writer.add("core", _Whole(core, contents.core.name), core_size)
            if core.read(1):
                raise _damaged(
                    contents.core.name,
                    "it goes on where its headers say it ends",
                    "If another program wrote it, decompress it first: then it is taken as it is.",
                )


@contextmanager
def compressed(out: IO[bytes]) -> Iterator[IO[bytes]]:
    """``out`` behind a zstd compressor."""
    compressor = zstandard.ZstdCompressor(level=_ZSTD_LEVEL, write_checksum=True)
    with compressor.stream_writer(out, closefd=False) as stream:
        yield stream


class _Readable(Protocol):
    def read(self, size: int = ..., /) -> bytes:
        """At most ``size`` bytes."""
        ...


class _Writer:
    """Entries below one directory, with the time and the owner left out."""

    def __init__(self, archive: tarfile.TarFile, root: str, mtime: int) -> None:
        self._archive = archive
        self._root = root
        self._mtime = mtime

    def add(self, name: str, source: _Readable, size: int, mode: int = 0o644) -> None:
        entry = self._entry(name, mode)
        entry.size = size
        self._archive.addfile(entry, source)

    def add_file(self, name: str, path: Path) -> None:
        with path.open("rb") as file:
            self.add(name, file, os.fstat(file.fileno()).st_size)

    def link(self, name: str, target: str) -> None:
        """A symbolic link; ``target`` is relative to it."""
        entry = self._entry(name, 0o777)
        entry.type = tarfile.SYMTYPE
        entry.linkname = target
        self._archive.addfile(entry)

    def _entry(self, name: str, mode: int) -> tarfile.TarInfo:
        entry = tarfile.TarInfo(f"{self._root}/{name}")
        entry.mode = mode
        entry.mtime = self._mtime
        return entry


def _add_modules(writer: _Writer, modules: Sequence[tuple[str, int, int]], program: str) -> None:
    """Each goes below ``sysroot`` under its path, and is in ``modules`` under its name.

    A module is a path, a descriptor and the bytes that are taken of it.

    The link map of a process says ``/lib/libc.so.6`` where its maps say
    ``/usr/lib/libc.so.6``: gdb then looks for the name alone.
    """
    paths: set[str] = set()
    names: set[str] = set()
    for path, fd, size in modules:
        inside = _inside(path)
        if inside is None or inside in paths:
            continue
        paths.add(inside)
        writer.add(f"sysroot/{inside}", _Descriptor(fd), size, mode=0o755)
        if path == program:
            writer.link("program", f"sysroot/{inside}")
        name = PurePosixPath(inside).name
        if name not in names:
            names.add(name)
            writer.link(f"modules/{name}", f"../sysroot/{inside}")


def _inside(path: str) -> str | None:
    """A path of the process below the root of its files; None for what leads out of it.

    >>> _inside("/usr/lib/libc.so.6"), _inside("/../x"), _inside("relative")
    ('usr/lib/libc.so.6', None, None)
    """
    parts = path.split("/")
    if parts[0] or len(parts) < 2 or {"", ".", ".."} & set(parts[1:]) or "\0" in path:
        return None
    return "/".join(parts[1:])


class _Descriptor:
    """A file by a descriptor that others read as well; a file that shrinks ends in zeros."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._at = 0

    def read(self, size: int = 0, /) -> bytes:
        data = os.pread(self._fd, size, self._at)
        self._at += size
        return data.ljust(size, b"\0")


@contextmanager
def _plain(core: Path) -> Iterator[IO[bytes]]:
    """The core, uncompressed, from its start; raises `PermanentError` where it is damaged."""
    with core.open("rb") as file:
        if not _is_compressed(file):
            yield file
            return
        try:
            yield zstandard.ZstdDecompressor().stream_reader(file, read_across_frames=True)
        except zstandard.ZstdError as error:
            raise _damaged(core.name, str(error)) from error


def _plain_size(core: Path) -> int:
    """Bytes of the core, uncompressed; raises `PermanentError`.

    A tar archive wants it in front.  Of a compressed core the headers say it:
    decompressing all of it to count was a third of the work (measured).
    """
    with core.open("rb") as file:
        if not _is_compressed(file):
            return os.fstat(file.fileno()).st_size
    with _plain(core) as plain:
        head = plain.read(_MAX_HEADERS)
    try:
        segments = parse_header(head).segments
    except InvalidInputError as error:
        raise _damaged(core.name, str(error)) from error
    return max((segment.offset + segment.filesz for segment in segments), default=0)


def _is_compressed(file: IO[bytes]) -> bool:
    """Whether zstd was used on a file, which is left at its start."""
    head = file.read(len(MAGIC))
    file.seek(0)
    return is_compressed(head)


class _Whole:
    """A core of which every byte that is asked for has to be there."""

    def __init__(self, file: IO[bytes], name: str) -> None:
        self._file = file
        self._name = name

    def read(self, size: int = 0, /) -> bytes:
        data = self._file.read(size)
        if len(data) < size:
            raise _damaged(self._name, "it ends before its headers say so")
        return data


def _damaged(name: str, why: str, remedy: str = "") -> PermanentError:
    return PermanentError(f"{name} is damaged: {why}", remedy)


def _by_build_id(path: Path) -> str:
    """The name by which gdb looks for a debug file."""
    try:
        digits = (build_id(path.read_bytes()) or b"").hex()
    except InvalidInputError:
        digits = ""
    if len(digits) < 4:
        raise PermanentError(f"{path} has no build ID: gdb could not find it")
    return f".build-id/{digits[:2]}/{digits[2:]}.debug"
