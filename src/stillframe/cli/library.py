"""Which preload library: the one named, the one installed with us, or a fresh build."""

import os
import platform
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import stillframe
from stillframe.errors import PermanentError
from stillframe.names import LIBRARY_FILE

ENV_LIBRARY: Final = "STILLFRAME_LIBRARY"
"""Path of another library than the installed one."""


def find_library(environment: Mapping[str, str]) -> Path:
    """Absolute path of the library for this machine.

    Raises `PermanentError` when there is none, or when ``LD_PRELOAD`` cannot
    express its path.
    """
    named = environment.get(ENV_LIBRARY)
    package = Path(stillframe.__file__).parent
    checkout = package.parent.parent / "build/preload" / platform.machine()
    places = [Path(named)] if named else [package / LIBRARY_FILE, checkout / LIBRARY_FILE]
    for place in places:
        if place.is_file():
            return _preloadable(place.resolve())
    raise PermanentError(
        f"no preload library at {' or '.join(map(str, places))}",
        f"Build it with `make build`, or name one in {ENV_LIBRARY}.",
    )


def _preloadable(path: Path) -> Path:
    if not os.access(path, os.R_OK):
        raise PermanentError(f"cannot read {path}", f"Run: chmod a+r '{path}'")
    if any(separator in str(path) for separator in ": \t\n"):
        raise PermanentError(
            f"LD_PRELOAD cannot hold a path with a space or a colon: {path}",
            f"Copy it elsewhere and name that place in {ENV_LIBRARY}.",
        )
    return path
