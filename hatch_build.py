"""Wheel hook: compiles the preload library and ships it inside the wheel.

The wheel is ``py3-none-linux_<machine>``: Python code for any version, one
native file that is no Python extension.  Needs ``make`` and a C compiler.
"""

import platform
import subprocess
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface


class PreloadBuildHook(BuildHookInterface[Any]):
    """Adds ``stillframe/libstillframe.so`` to the wheel."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Runs before packing; an editable install uses the library where it is built."""
        machine = platform.machine()
        subprocess.run(["make", "-s", "-C", "preload"], cwd=self.root, check=True)
        library = Path("build/preload") / machine / "libstillframe.so"
        if version != "editable":
            build_data["force_include"][str(library)] = "stillframe/libstillframe.so"
        build_data["pure_python"] = False
        build_data["tag"] = f"py3-none-linux_{machine}"
