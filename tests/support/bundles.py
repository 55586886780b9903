"""Debug bundles, unpacked and used as on a laptop that never had the crashed program."""

import re
import subprocess
from pathlib import Path

import zstandard

FRAME = re.compile(r"^#\d+ +(?:0x[0-9a-f]+ in )?([\w.@]+) \(", re.MULTILINE)


def unpack(bundle: Path, directory: Path) -> Path:
    """The one directory in a bundle."""
    directory.mkdir()
    data = bundle.read_bytes()
    if bundle.suffix == ".zst":
        data = zstandard.ZstdDecompressor().decompressobj().decompress(data)
    subprocess.run(["tar", "x", "-C", directory], input=data, check=True)
    (only,) = directory.iterdir()
    return only


def debug(bundle: Path, *commands: str) -> str:
    """What gdb says to each command when started by the bundle's script, elsewhere."""
    words = [word for command in commands for word in ("-ex", command)]
    return subprocess.run(
        [bundle / "debug", "-nx", "-batch", *words],
        cwd="/",
        capture_output=True,
        text=True,
        check=True,
    ).stdout


def frames(text: str) -> list[str]:
    """Function names of the crashing thread in the output of ``bt``, innermost first."""
    return FRAME.findall(text[text.rindex("#0 ") :])


def libraries(text: str) -> list[Path]:
    """Where gdb took the shared libraries from, in the output of ``info sharedlibrary``."""
    lines = [line for line in text.splitlines() if re.match("0x[0-9a-f]+ +0x", line)]
    return [Path(line[line.index(" /") + 1 :]) for line in lines]
