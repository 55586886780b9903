"""Container logs: the last lines that the container of a crash wrote.

Flows in: the kubelet's log directory, whose files belong to root.  Flows out:
`Log`, redacted.  The content is the pod's word.  Read right after the release:
the kubelet deletes the directory with its pod.
"""

import os
import re
import stat
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from stillframe.capture.facts import Log, Redactor
from stillframe.capture.facts.registry import LOG_BYTES, LOG_LINE_CHARS, LOG_LINES
from stillframe.capture.kernel import Resolve, openat2
from stillframe.text import escape

_RESTARTS: Final = re.compile(r"(\d{1,9})\.log", re.ASCII)
_CONTAINER: Final = re.compile(r"[a-z0-9-]{1,63}")
_RECORD: Final = re.compile(r"(\S{1,64}) (stdout|stderr) ([A-Z])(?::\S*)? (.*)", re.DOTALL)
"""Time, stream, ``F``\\ ull or ``P``\\ artial, text (CRI, ``pkg/kubelet/kuberuntime/logs``)."""
_NOT_THERE: Final = "the node has no log of the container"


@dataclass(frozen=True, slots=True)
class ContainerLogs:
    """``<log_dir>/<namespace>_<pod>_<uid>/<container>/<restarts>.log``."""

    log_dir: Path
    pod_uid: str
    container: str

    def restarts(self) -> int | None:
        """How often the kubelet had restarted the container: its newest log carries the number."""
        with suppress(OSError):
            return self._newest()[1]
        return None

    def tail(self, redactor: Redactor) -> Log | str:
        """The log's last lines, or why there are none."""
        try:
            directory, restarts = self._newest()
            if restarts is None:
                return _NOT_THERE
            data, cut = _read_end(self.log_dir, directory / f"{restarts}.log")
        except FileNotFoundError:
            return _NOT_THERE
        except OSError as error:
            return f"the container's log cannot be read: {error.strerror}"
        return parse_log(data, redactor, cut=cut)

    def _newest(self) -> tuple[Path, int | None]:
        """The container's directory, below ``log_dir``, and the number of its newest log."""
        if not _CONTAINER.fullmatch(self.container):
            raise FileNotFoundError
        for directory in self.log_dir.glob(f"*_{self.pod_uid}"):
            names = os.listdir(directory / self.container)  # noqa: PTH208 -- names only
            numbers = [int(match[1]) for name in names if (match := _RESTARTS.fullmatch(name))]
            return Path(directory.name) / self.container, max(numbers, default=None)
        raise FileNotFoundError


def parse_log(data: bytes, redactor: Redactor, *, cut: bool) -> Log:
    r"""The last lines in the end of a container's log.

    What is not in CRI's form is left out; with ``cut`` also each stream's first line,
    which may be the rest of one.

    >>> parse_log(b"2024-01-01T00:00:00Z stderr P a\n"
    ...           b"2024-01-01T00:00:00Z stderr F b\n", Redactor(), cut=False).lines
    ('2024-01-01T00:00:00Z stderr ab',)
    """
    begun: dict[str, str] = {}
    unsure = {"stdout", "stderr"} if cut else set[str]()
    lines = []
    for raw in data.split(b"\n")[int(cut) :]:
        record = _RECORD.fullmatch(raw.decode(errors="surrogateescape"))
        if record is None:
            continue
        time, stream, tag, text = record.groups()
        text = begun.pop(stream, "") + text
        if tag == "P":
            begun[stream] = text
        elif stream in unsure:
            unsure.discard(stream)
        else:
            lines.append((time, stream, text))
    return Log(
        lines=tuple(
            escape(f"{time} {stream} {redactor.mask(text)}", LOG_LINE_CHARS)
            for time, stream, text in lines[-LOG_LINES:]
        ),
        complete=not cut and len(lines) <= LOG_LINES,
    )


def _read_end(log_dir: Path, path: Path) -> tuple[bytes, bool]:
    """The last `LOG_BYTES` of a log, and whether there were more.

    cri-dockerd's logs are links to where its daemon keeps them, in a form of its
    own and out of our sight: they are not followed.
    """
    directory_fd = os.open(log_dir, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        resolve = Resolve.BENEATH | Resolve.NO_SYMLINKS | Resolve.NO_MAGICLINKS
        fd = openat2(directory_fd, str(path), os.O_RDONLY | os.O_NONBLOCK, resolve)
    finally:
        os.close(directory_fd)
    with os.fdopen(fd, "rb") as file:
        status = os.fstat(fd)
        if not stat.S_ISREG(status.st_mode):
            raise OSError(0, "not a regular file")
        start = max(0, status.st_size - LOG_BYTES)
        file.seek(start)
        return file.read(LOG_BYTES), start > 0
