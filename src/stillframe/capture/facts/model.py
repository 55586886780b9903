"""The facts' form: what ``facts.json`` holds.

Every string that a pod could choose is redacted, printable and bounded when it
gets here.  None, or 0 for a count that the kernel may not have, means not known.
Data only, no I/O.
"""

import msgspec


class _Value(msgspec.Struct, frozen=True, kw_only=True):
    """Frozen, keyword-only."""


class Environment(_Value, frozen=True, kw_only=True):
    """The variables, as they are in the process's memory now."""

    count: int
    names: tuple[str, ...]
    """Of all that look like a variable's name, in their order, bounded."""
    values: dict[str, str]
    """Of allow-listed variables only, redacted."""
    complete: bool
    """False: there was more than is read."""


class Command(_Value, frozen=True, kw_only=True):
    """The command line, as it is in the process's memory now."""

    arguments: tuple[str, ...]
    complete: bool
    """False: there was more than is kept."""


class Process(_Value, frozen=True, kw_only=True):
    """The process as the kernel counts it; sizes in bytes."""

    uptime_seconds: float
    """From its start to this look."""
    uid: int
    """Effective, likewise ``gid``."""
    gid: int
    threads: int
    resident: int
    """``VmRSS``; 0 where it has no memory any more, likewise the next three."""
    resident_peak: int
    """``VmHWM``"""
    virtual_peak: int
    """``VmPeak``"""
    swapped: int
    oom_score_adj: int
    seccomp: str
    """``disabled``, ``strict`` or ``filter``."""
    no_new_privileges: bool
    capabilities: tuple[str, ...]
    """Effective, such as ``NET_BIND_SERVICE``."""


class Limit(_Value, frozen=True, kw_only=True):
    """One resource limit; None means unlimited."""

    name: str
    """As in ``/proc/PID/limits``, such as ``open files``."""
    soft: int | None
    hard: int | None
    unit: str = ""


class Descriptor(_Value, frozen=True, kw_only=True):
    """One open descriptor."""

    number: int
    kind: str
    """``file``, ``device``, ``memfd``, ``pipe``, ``socket``, or of an anonymous inode its name."""
    target: str
    """Where its link in ``/proc`` leads."""


class Descriptors(_Value, frozen=True, kw_only=True):
    """Open descriptors, without the library's two where they are among the first."""

    count: int
    complete: bool
    """False: ``count`` is a lower bound (kernels before Linux 6.2)."""
    kinds: dict[str, int]
    """Of ``listed``."""
    listed: tuple[Descriptor, ...]
    """Lowest numbers first, bounded."""


class Socket(_Value, frozen=True, kw_only=True):
    """One socket."""

    number: int
    """Of its first descriptor."""
    protocol: str
    """``tcp``, ``tcp6``, ``udp``, ``udp6``, ``unix``; ``other`` where no table has it."""
    state: str = ""
    local: str = ""
    """``address:port``, or the path of a Unix socket."""
    remote: str = ""
    receive_queue: int = 0
    """Bytes not read yet; of a listening TCP socket, connections not accepted yet."""
    send_queue: int = 0
    """Bytes not acknowledged yet."""


class Sockets(_Value, frozen=True, kw_only=True):
    """The sockets among the listed descriptors."""

    count: int
    listed: tuple[Socket, ...]
    """Bounded."""
    complete: bool
    """False: a table was longer than is read, so ``other`` may be any of its protocol."""


class Pressure(_Value, frozen=True, kw_only=True):
    """Pressure stall information of one resource (Documentation/accounting/psi.rst)."""

    some_avg10: float
    """Percent of the last 10 s in which some task waited; likewise 60."""
    some_avg60: float
    full_avg10: float = 0.0
    """Likewise, in which all waited."""
    full_avg60: float = 0.0


class Memory(_Value, frozen=True, kw_only=True):
    """A memory cgroup; sizes in bytes."""

    current: int
    limit: int | None = None
    """``memory.max``; None means unlimited by this group (a parent may be limited)."""
    peak: int | None = None
    swap: int | None = None
    events: dict[str, int] = {}
    """By the kernel's names: ``oom``, ``oom_kill``, ``max``…; ``failcnt`` of v1."""
    pressure: Pressure | None = None
    """None with cgroup v1, or without PSI."""


class Cpu(_Value, frozen=True, kw_only=True):
    """How far the CPU limit slowed a cgroup; counts since it was made."""

    limit: float | None
    """CPUs; None means unlimited."""
    periods: int
    throttled_periods: int
    throttled_seconds: float


class Pids(_Value, frozen=True, kw_only=True):
    """Tasks in a cgroup."""

    current: int
    limit: int | None
    """None means unlimited."""


class Cgroup(_Value, frozen=True, kw_only=True):
    """The process's own cgroup; None for a controller that is not there."""

    memory: Memory | None = None
    cpu: Cpu | None = None
    pids: Pids | None = None


class Container(_Value, frozen=True, kw_only=True):
    """What the node's root-owned files say of the container; empty where they do not."""

    image: str = ""
    image_digest: str = ""
    """``sha256:…``, or the runtime's id of the image."""
    restarts: int | None = None


class Log(_Value, frozen=True, kw_only=True):
    """The container's last words, of every process in it."""

    lines: tuple[str, ...]
    """``<time> <stream> <text>``, oldest first, redacted, bounded."""
    complete: bool
    """Whether the log began with these lines."""


class Facts(_Value, frozen=True, kw_only=True):
    """Everything taken; what is None is in ``missing``."""

    command: Command | None = None
    environment: Environment | None = None
    process: Process | None = None
    limits: tuple[Limit, ...] | None = None
    descriptors: Descriptors | None = None
    sockets: Sockets | None = None
    cgroup: Cgroup | None = None
    kernel: str | None = None
    """Release of the node's kernel."""
    container: Container | None = None
    log: Log | None = None
    missing: dict[str, str] = {}
    """Name of a fact → why there is none."""
    taken_millis: float = 0.0
    """How long the process waited for its facts."""
