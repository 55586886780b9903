"""The table of facts: where each comes from, how large it may be, and why it is worth taking.

The one place that names them: switches, bounds and ``docs/reference/facts.md``
follow from it.  Data and parsing of settings, no I/O.
"""

import re
from dataclasses import dataclass
from enum import StrEnum
from typing import Final, Self

TIME_LIMIT: Final = 0.25
"""Seconds after which no further fact is begun; a typical process takes 1 to 10 ms, but a node
under load, whose facts are telling, much longer."""
PROC_LIMIT: Final = 64 << 10
"""Bytes read of one small file of /proc or of a cgroup."""
COMMAND_BYTES: Final = 32 << 10
ARGUMENTS: Final = 128
ARGUMENT_CHARS: Final = 1024
ENVIRONMENT_BYTES: Final = 256 << 10
VARIABLES: Final = 512
VARIABLES_READ: Final = 4096
"""More are neither kept nor searched for secrets."""
VALUE_CHARS: Final = 1024
DESCRIPTORS: Final = 512
DESCRIPTORS_COUNTED: Final = 16384
"""Before Linux 6.2, where the kernel does not tell their number."""
TARGET_CHARS: Final = 256
SOCKETS: Final = 128
SOCKET_TABLE_BYTES: Final = 256 << 10
"""Of each table: about 1,700 sockets of the network namespace."""
LOG_BYTES: Final = 64 << 10
LOG_LINES: Final = 50
LOG_LINE_CHARS: Final = 512

ENVIRONMENT_ALLOW: Final = (
    "LANG", "LANGUAGE", "LC_*", "TZ", "PATH", "HOSTNAME",
    "LD_LIBRARY_PATH", "LD_PRELOAD", "LD_BIND_NOW", "GLIBC_TUNABLES", "MALLOC_*", "ASAN_OPTIONS",
    "GOGC", "GOMAXPROCS", "GOMEMLIMIT", "GOTRACEBACK", "GODEBUG", "OMP_NUM_THREADS",
    "PYTHONMALLOC", "PYTHONFAULTHANDLER", "PYTHONDEVMODE", "RUST_BACKTRACE", "NODE_ENV",
    "STILLFRAME_*",
)  # fmt: skip
"""Variables that change how a program runs or dies, and hold no data of an application.

Not ``KUBERNETES_*`` and the kubelet's service links: addresses of the cluster, many of
them, that explain no crash.  Not ``JAVA_TOOL_OPTIONS``: passwords of key stores are in it.
"""
_ALLOWED: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,127}\*?")


class FactName(StrEnum):
    """The facts; each is a field of `Facts` and a switch, in the order they are read."""

    ENVIRONMENT = "environment"
    COMMAND = "command"
    PROCESS = "process"
    LIMITS = "limits"
    KERNEL = "kernel"
    CGROUP = "cgroup"
    DESCRIPTORS = "descriptors"
    SOCKETS = "sockets"
    CONTAINER = "container"
    LOG = "log"


@dataclass(frozen=True, slots=True, kw_only=True)
class FactKind:
    """One row of the table."""

    name: FactName
    source: str
    bound: str
    on: bool = True
    """Whether it is taken when nobody says otherwise."""
    why: str


def _kib(size: int) -> str:
    return f"{size >> 10} KiB"


REGISTRY: Final = (
    FactKind(
        name=FactName.ENVIRONMENT,
        source="`/proc/PID/environ`",
        bound=f"{_kib(ENVIRONMENT_BYTES)} read; {VARIABLES} names; values of allow-listed "
        f"variables only, {VALUE_CHARS} characters each",
        why="locale, allocator and runtime switches change how a program dies; the other names "
        "show what was configured",
    ),
    FactKind(
        name=FactName.COMMAND,
        source="`/proc/PID/cmdline`",
        bound=f"{_kib(COMMAND_BYTES)} read; {ARGUMENTS} arguments of {ARGUMENT_CHARS} characters, "
        "redacted",
        why="which of many workers, subcommands or modes crashed",
    ),
    FactKind(
        name=FactName.PROCESS,
        source="`/proc/PID/{status,stat,oom_score_adj}`",
        bound="12 numbers, names of capabilities",
        why="uptime tells a crash at start from one under load; memory, privileges and seccomp "
        "explain what failed",
    ),
    FactKind(
        name=FactName.LIMITS,
        source="`/proc/PID/limits`",
        bound="16 limits",
        why="stack overflow, EMFILE and failing allocations are often a limit",
    ),
    FactKind(
        name=FactName.KERNEL,
        source="`uname`",
        bound="one line",
        why="a crash on some nodes only",
    ),
    FactKind(
        name=FactName.CGROUP,
        source="`memory`, `cpu` and `pids` of its own cgroup, v2 or v1",
        bound=f"11 files of at most {_kib(PROC_LIMIT)}",
        why="near its memory limit, under pressure or throttled, a program fails in odd places",
    ),
    FactKind(
        name=FactName.DESCRIPTORS,
        source="`/proc/PID/fd` (links only, nothing is opened)",
        bound=f"{DESCRIPTORS} listed, {TARGET_CHARS} characters each; all counted since Linux "
        f"6.2, else up to {DESCRIPTORS_COUNTED}",
        why="a leak, and which file was being worked on",
    ),
    FactKind(
        name=FactName.SOCKETS,
        source="`/proc/PID/net/{tcp,tcp6,udp,udp6,unix}`, by inode",
        bound=f"{SOCKETS} sockets; {_kib(SOCKET_TABLE_BYTES)} of each table",
        why="whom it talked to, which queue was full, what it listened on",
    ),
    FactKind(
        name=FactName.CONTAINER,
        source="the runtime's bundle, names of log files (cluster only)",
        bound="3 short fields",
        why="which image it was, and whether this is its first death",
    ),
    FactKind(
        name=FactName.LOG,
        source="end of `/var/log/pods/<pod>/<container>/<n>.log` (cluster only)",
        bound=f"{LOG_LINES} lines of {LOG_LINE_CHARS} characters, {_kib(LOG_BYTES)} read, redacted",
        why="what it said last: assertions, exceptions, the request it worked on",
    ),
)
_DEFAULT: Final = frozenset(kind.name for kind in REGISTRY if kind.on)


@dataclass(frozen=True, slots=True)
class FactsPolicy:
    """What may be taken."""

    wanted: frozenset[FactName] = _DEFAULT
    environment_allow: tuple[str, ...] = ENVIRONMENT_ALLOW
    """Names, or prefixes that end in ``*``, of variables whose values are kept."""

    @classmethod
    def parse(cls, wanted: str = "all", environment_allow: str = "") -> Self:
        """A policy from two comma-separated settings.

        ``wanted``: names of facts, ``all``, ``none``, and ``-name`` for all but
        that.  ``environment_allow``: variables beside `ENVIRONMENT_ALLOW`.
        Raises `ValueError` that says which word makes no sense.

        >>> sorted(FactsPolicy.parse("limits,kernel").wanted)
        [<FactName.KERNEL: 'kernel'>, <FactName.LIMITS: 'limits'>]
        >>> FactName.LOG in FactsPolicy.parse("-log").wanted
        False
        """
        words = _words(wanted)
        if not words:
            raise ValueError("no fact is named: all, none or names")
        chosen = set(_DEFAULT) if words and words[0].startswith("-") else set()
        for word in words:
            if word == "all":
                chosen |= set(FactName)
            elif word == "none":
                chosen.clear()
            elif word.removeprefix("-") not in set(FactName):
                raise ValueError(f"{word!r} is no fact: all, none, {', '.join(FactName)}")
            elif word.startswith("-"):
                chosen.discard(FactName(word[1:]))
            else:
                chosen.add(FactName(word))
        more = _words(environment_allow)
        for name in more:
            if not _ALLOWED.fullmatch(name):
                raise ValueError(f"{name!r} is no variable's name, nor a prefix with a * behind")
        return cls(frozenset(chosen), (*ENVIRONMENT_ALLOW, *more))

    def allows(self, variable: str) -> bool:
        """Whether the value of an environment variable may be kept.

        >>> FactsPolicy().allows("LC_ALL"), FactsPolicy().allows("LANGX")
        (True, False)
        """
        return any(
            variable.startswith(name[:-1]) if name.endswith("*") else variable == name
            for name in self.environment_allow
        )


def _words(text: str) -> list[str]:
    return [word for part in text.split(",") if (word := part.strip())]
