"""What the kernel prints of a process, parsed.

Flows in: contents of files in ``/proc/PID``.  Flows out: `Process`, `Limit`,
`Command`, `Environment`, `Descriptor`.  Computes only, no I/O.  Raises
`ValueError` where the text is not the kernel's.
"""

import re
from collections.abc import Callable, Iterable, Mapping
from typing import Final

from stillframe.capture.facts.model import (
    Command,
    Descriptor,
    Descriptors,
    Environment,
    Limit,
    Process,
)
from stillframe.capture.facts.redaction import Redactor, is_secret_name
from stillframe.capture.facts.registry import (
    ARGUMENT_CHARS,
    ARGUMENTS,
    TARGET_CHARS,
    VALUE_CHARS,
    VARIABLES,
    VARIABLES_READ,
)
from stillframe.text import escape

_VARIABLE: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]{0,127}")
_LIMIT: Final = re.compile(r"Max (.+?) +(unlimited|\d+) +(unlimited|\d+) *(\w*) *", re.ASCII)
_DEVICE: Final = re.compile(r"/dev/(?!shm/)")
_SECCOMP: Final = ("disabled", "strict", "filter")
_CAPABILITIES: Final = (
    "CHOWN", "DAC_OVERRIDE", "DAC_READ_SEARCH", "FOWNER", "FSETID", "KILL", "SETGID", "SETUID",
    "SETPCAP", "LINUX_IMMUTABLE", "NET_BIND_SERVICE", "NET_BROADCAST", "NET_ADMIN", "NET_RAW",
    "IPC_LOCK", "IPC_OWNER", "SYS_MODULE", "SYS_RAWIO", "SYS_CHROOT", "SYS_PTRACE", "SYS_PACCT",
    "SYS_ADMIN", "SYS_BOOT", "SYS_NICE", "SYS_RESOURCE", "SYS_TIME", "SYS_TTY_CONFIG", "MKNOD",
    "LEASE", "AUDIT_WRITE", "AUDIT_CONTROL", "SETFCAP", "MAC_OVERRIDE", "MAC_ADMIN", "SYSLOG",
    "WAKE_ALARM", "BLOCK_SUSPEND", "AUDIT_READ", "PERFMON", "BPF", "CHECKPOINT_RESTORE",
)  # fmt: skip
"""By bit (include/uapi/linux/capability.h)."""


def decode(data: bytes) -> str:
    """Bytes as text that loses none of them; `escape` makes what is left printable."""
    return data.decode(errors="surrogateescape")


def parse_environ(data: bytes) -> list[tuple[str, str]]:
    r"""The variables in a ``/proc/PID/environ``; entries that are none are left out.

    >>> parse_environ(b"A=1\0B=\0junk\0A B=2\0")
    [('A', '1'), ('B', '')]
    """
    entries = data.split(b"\0", VARIABLES_READ)[:VARIABLES_READ]
    pairs = (decode(entry).partition("=") for entry in entries)
    return [(name, value) for name, equals, value in pairs if equals and _VARIABLE.fullmatch(name)]


def environment(
    data: bytes, allows: Callable[[str], bool], redactor: Redactor, *, complete: bool
) -> Environment:
    """What may be kept of an environment: names, and few values.

    A value whose variable has a secret's name is never kept, allowed or not.
    """
    variables = parse_environ(data)
    kept = {
        name: escape(redactor.mask(value), VALUE_CHARS)
        for name, value in variables[:VARIABLES]
        if allows(name) and not is_secret_name(name)
    }
    return Environment(
        count=data.count(b"\0"),
        names=tuple(name for name, _ in variables[:VARIABLES]),
        values=kept,
        complete=complete and len(variables) <= VARIABLES,
    )


def command(data: bytes, redactor: Redactor, *, complete: bool) -> Command:
    r"""The arguments in a ``/proc/PID/cmdline``, redacted.

    One that is cut is left out: half a secret would not be known again.

    >>> command(b"sh\0-c\0a\nb\0", Redactor(), complete=True).arguments
    ('sh', '-c', 'a\\nb')
    """
    data = data.removesuffix(b"\0") if complete else data.rpartition(b"\0")[0]
    arguments = [decode(argument) for argument in data.split(b"\0")] if data else []
    masked = redactor.mask_arguments(arguments[:ARGUMENTS])
    return Command(
        arguments=tuple(escape(argument, ARGUMENT_CHARS) for argument in masked),
        complete=complete and len(arguments) <= ARGUMENTS,
    )


def process(status: str, oom_score_adj: str, uptime_seconds: float) -> Process:
    """The numbers in a ``/proc/PID/status``, and what is known from elsewhere."""
    fields = _fields(status)
    seccomp = int(fields.get("Seccomp", "0"))
    effective = int(fields.get("CapEff", "0"), 16)
    return Process(
        uptime_seconds=round(uptime_seconds, 3),
        uid=_id(fields, "Uid"),
        gid=_id(fields, "Gid"),
        threads=int(fields.get("Threads", "0")),
        resident=_bytes(fields, "VmRSS"),
        resident_peak=_bytes(fields, "VmHWM"),
        virtual_peak=_bytes(fields, "VmPeak"),
        swapped=_bytes(fields, "VmSwap"),
        oom_score_adj=int(oom_score_adj),
        seccomp=_SECCOMP[seccomp] if 0 <= seccomp < len(_SECCOMP) else str(seccomp),
        no_new_privileges=fields.get("NoNewPrivs") == "1",
        capabilities=tuple(
            _CAPABILITIES[bit] if bit < len(_CAPABILITIES) else str(bit)
            for bit in range(64)
            if effective >> bit & 1
        ),
    )


def _fields(status: str) -> dict[str, str]:
    # The only text that a process chooses is the Name, and the kernel escapes
    # its newlines (fs/proc/array.c, proc_task_name).
    lines = (line.partition(":") for line in status.split("\n"))
    return {name: value.strip() for name, _, value in lines}


def _id(fields: Mapping[str, str], name: str) -> int:
    """The second of real, effective, saved and filesystem id."""
    ids = fields.get(name, "").split()
    if len(ids) != 4:
        raise ValueError(f"no {name}")
    return int(ids[1])


def _bytes(fields: Mapping[str, str], name: str) -> int:
    number, _, unit = fields.get(name, "0 kB").partition(" ")
    if unit != "kB":
        raise ValueError(f"{name} is not in kB")
    return int(number) << 10


def parse_limits(text: str) -> tuple[Limit, ...]:
    r"""The limits in a ``/proc/PID/limits``.

    >>> parse_limits("Limit  Soft\nMax open files            1024     unlimited     files     \n")
    (Limit(name='open files', soft=1024, hard=None, unit='files'),)
    """
    return tuple(
        Limit(name=match[1], soft=_limit(match[2]), hard=_limit(match[3]), unit=match[4])
        for match in map(_LIMIT.fullmatch, text.split("\n"))
        if match is not None
    )


def _limit(text: str) -> int | None:
    return None if text == "unlimited" else int(text)


def descriptor(number: int, link: str, redactor: Redactor) -> Descriptor:
    """One link of ``/proc/PID/fd``.

    >>> descriptor(3, "anon_inode:[eventpoll]", Redactor()).kind
    'eventpoll'
    """
    # The kernel itself names what is no file.
    target = redactor.mask(link) if link.startswith("/") else link
    return Descriptor(number=number, kind=_kind(link), target=escape(target, TARGET_CHARS))


def descriptors(listed: Iterable[Descriptor], count: int, *, complete: bool) -> Descriptors:
    """Descriptors with the counts of their kinds, most frequent first."""
    listed = tuple(listed)
    kinds: dict[str, int] = {}
    for one in listed:
        kinds[one.kind] = kinds.get(one.kind, 0) + 1
    ordered = sorted(kinds.items(), key=lambda item: (-item[1], item[0]))
    return Descriptors(count=count, complete=complete, kinds=dict(ordered), listed=listed)


def _kind(link: str) -> str:
    if link.startswith("/memfd:"):
        return "memfd"
    if link.startswith("/"):
        return "device" if _DEVICE.match(link) else "file"
    prefix, _, name = link.partition(":")
    if prefix == "anon_inode":
        return escape(name.strip("[]"), 32)
    return prefix if prefix in ("socket", "pipe") else "other"


def socket_inode(link: str) -> int | None:
    """The inode number in the link of a socket's descriptor; None for anything else.

    >>> socket_inode("socket:[42]"), socket_inode("pipe:[42]")
    (42, None)
    """
    match = re.fullmatch(r"socket:\[(\d{1,19})\]", link, re.ASCII)
    return int(match[1]) if match else None
