"""Debuggers as oracles: the crashing thread's function names, innermost first.

They share nothing with our reader.  Frames without a name are left out.
"""

import re
import subprocess
from pathlib import Path

import drgn


def _run(*command: str | Path) -> str:
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout


def gdb_frames(executable: Path, core: Path) -> list[str]:
    """What ``gdb -batch -ex bt`` says."""
    quiet = ("-batch", "-nx", "-iex", "set debuginfod enabled off")
    text = _run("gdb", *quiet, "-ex", "bt", executable, "-c", core)
    text = text[text.rindex("#0 ") :]  # gdb shows that frame when it opens the core, too
    return re.findall(r"^#\d+ +(?:0x[0-9a-f]+ in )?([\w.@]+) \(", text, re.MULTILINE)


def lldb_frames(executable: Path, core: Path) -> list[str]:
    """What ``lldb -b -o bt`` says of the core's first thread."""
    text = _run("lldb", "-x", "-b", "-o", "thread backtrace", "-c", core, executable)
    return re.findall(r"^ +\*? *frame #\d+: .*?`([\w.]+)", text, re.MULTILINE)


def eu_stack_frames(executable: Path, core: Path) -> list[str]:
    """What ``eu-stack`` says of the core's first thread."""
    text = _run("eu-stack", "--executable", executable, "--core", core)
    first = text.split("TID ")[1]
    return re.findall(r"^#\d+ +0x[0-9a-f]+ (?:- \d+ )?([\w.]+)", first, re.MULTILINE)


def drgn_frames(executable: Path, core: Path) -> list[str]:
    """What drgn says, given the executable and the libraries where the core names them."""
    program = drgn.Program()
    program.set_enabled_debug_info_finders([])
    program.set_core_dump(core)
    program.debug_info_options.directories = ()
    for module, _new in program.loaded_modules():
        path = executable if module.name.endswith(f"/{executable.name}") else Path(module.name)
        if path.is_file():
            module.try_file(path)
    return [frame.name for frame in program.crashed_thread().stack_trace() if frame.name]
