"""What else belongs to a core than the files at its paths: from directories, from a server."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from stillframe.cli.debug_files import alternate_build_id, file_build_id, find, has_debug_info
from stillframe.cli.debuginfod import Kind, Server
from stillframe.errors import PermanentError, TemporaryError


@dataclass(frozen=True)
class Search:
    """Where to search: directories first, then a debuginfod server."""

    directories: Sequence[Path]
    server: Server | None

    def find(
        self, build_ids: Mapping[bytes, str], given: Sequence[Path]
    ) -> tuple[list[Path], list[str]]:
        """Files for ``build_ids`` (to the paths in the process), and what to tell about it.

        ``given`` are the files that are there already; nothing that they have is fetched.
        """
        found: list[Path] = []
        complaints: list[str] = []
        for directory in self.directories:
            here = find(directory, build_ids)
            found += here
            if not here:
                complaints += _nothing(directory, build_ids)
        if self.server:
            try:
                found += _fetch(self.server, build_ids, [*given, *found], complaints)
            except TemporaryError as error:
                complaints.append(str(error))
        return list(dict.fromkeys(found)), complaints


def _nothing(directory: Path, build_ids: Mapping[bytes, str]) -> Iterator[str]:
    yield f"{directory}: no file here has a build ID of this core. Looked for:"
    yield from (f"  {build.hex()}  {path}" for build, path in build_ids.items())
    if not build_ids:
        yield "  none: the core tells no build IDs"


def _fetch(
    server: Server, build_ids: Mapping[bytes, str], there: Sequence[Path], complaints: list[str]
) -> Iterator[Path]:
    """What the server has of that which is not there; raises `TemporaryError`."""
    loaded = {file_build_id(path) for path in there}
    debug = {file_build_id(path) for path in there if has_debug_info(path)}
    for build, path in build_ids.items():
        kinds: list[Kind] = []
        kinds += ["debuginfo"] if build not in debug else []
        kinds += ["executable"] if build not in loaded else []
        for kind in kinds:
            try:
                file = server.fetch(build, kind)
                alternate = alternate_build_id(file) if file else None
                more = server.fetch(alternate, "debuginfo") if alternate else None
            except PermanentError as error:
                complaints.append(str(error))
                continue
            if file is None:
                complaints.append(f"debuginfod has no {kind} of {path} ({build.hex()})")
            yield from (fetched for fetched in (file, more) if fetched)
