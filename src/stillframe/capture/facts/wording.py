"""The facts for people: a section of ``report.txt`` and of what ``stillframe run`` prints.

What is worth a look at once; everything is in ``facts.json``.  Computes only.
"""

from collections.abc import Iterator
from typing import Final

import msgspec

from stillframe.capture.facts.model import Cgroup, Descriptors, Facts, Limit, Process, Sockets
from stillframe.capture.facts.take import AGENTS, SWITCHED_OFF
from stillframe.text import escape

_LABEL: Final = 13
_SOCKETS: Final = 16
_TARGETS: Final = 16
_LINES: Final = 25
_TELLING: Final = ("stack size", "core file size", "open files", "processes", "address space")
"""Limits that crashes are about."""


def render_facts(facts: Facts) -> str:
    """The section, with an empty line in front; every line is printable."""
    return "".join(f"{escape(line)}\n" for line in ("", "Facts:", *_lines(facts)))


def render_kept(data: bytes) -> str:
    """The section of a ``facts.json``; says so where it is none of this version."""
    try:
        return render_facts(msgspec.json.decode(data, type=Facts))
    except ValueError:
        return "\nFacts:\n  facts.json is not in the form that this version knows\n"


def _lines(facts: Facts) -> Iterator[str]:
    if facts.command is not None:
        more = "" if facts.command.complete else " …"
        yield _field("Command", " ".join(facts.command.arguments) + more)
    if facts.container is not None:
        if facts.container.image:
            digest = f" ({facts.container.image_digest})" if facts.container.image_digest else ""
            yield _field("Image", facts.container.image + digest)
        if facts.container.restarts is not None:
            yield _field("Restarts", str(facts.container.restarts))
    if facts.process is not None:
        yield from _process(facts.process)
    if facts.cgroup is not None:
        yield from _cgroup(facts.cgroup)
    if facts.limits is not None:
        yield _field("Limits", ", ".join(_limits(facts.limits)))
    if facts.kernel is not None:
        yield _field("Kernel", facts.kernel)
    if facts.descriptors is not None:
        yield from _descriptors(facts.descriptors, facts.limits or ())
    if facts.sockets is not None and facts.sockets.listed:
        yield from _sockets(facts.sockets)
    if facts.environment is not None:
        environment = facts.environment
        yield f"  Environment, {len(environment.values)} of {environment.count} variables:"
        yield from (f"    {name}={value}" for name, value in sorted(environment.values.items()))
    if facts.log is not None and facts.log.lines:
        yield "  The container's last lines:"
        yield from (f"    {line}" for line in facts.log.lines[-_LINES:])
    for name, why in facts.missing.items():
        if why not in (SWITCHED_OFF, AGENTS):
            yield _field("Not known", f"{name}: {why}")


def _process(process: Process) -> Iterator[str]:
    threads = "1 thread" if process.threads == 1 else f"{process.threads} threads"
    yield _field("Lived", f"{process.uptime_seconds:.1f} s, {threads}")
    yield _field(
        "Memory",
        f"{_size(process.resident)} resident (at most {_size(process.resident_peak)}), "
        f"{_size(process.swapped)} swapped, OOM score adjusted by {process.oom_score_adj}",
    )
    capabilities = ", ".join(process.capabilities) or "none"
    if len(process.capabilities) > 16:
        capabilities = f"{len(process.capabilities)}"
    privileges = ", no new privileges" if process.no_new_privileges else ""
    yield _field(
        "Privileges",
        f"uid {process.uid}, gid {process.gid}, seccomp {process.seccomp}{privileges}, "
        f"capabilities: {capabilities}",
    )


def _cgroup(cgroup: Cgroup) -> Iterator[str]:
    memory, cpu, pids = cgroup.memory, cgroup.cpu, cgroup.pids
    if memory is not None:
        limit = ", no limit" if memory.limit is None else f" of {_size(memory.limit)}"
        text = f"{_size(memory.current)}{limit}"
        text += "" if memory.peak is None else f", at most {_size(memory.peak)}"
        text += "".join(f", {name} {count}" for name, count in memory.events.items() if count)
        if memory.pressure is not None:
            text += f", pressure {memory.pressure.some_avg10:.1f} %"
        yield _field("Its cgroup", text)
    if cpu is not None and cpu.periods:
        yield _field(
            "CPU limit",
            f"{cpu.limit} CPUs, throttled in {cpu.throttled_periods} of {cpu.periods} periods",
        )
    if pids is not None and pids.limit is not None:
        yield _field("Tasks", f"{pids.current} of {pids.limit}")


def _limits(limits: tuple[Limit, ...]) -> Iterator[str]:
    for limit in limits:
        if limit.name in _TELLING:
            size = _size if limit.unit == "bytes" else str
            yield f"{limit.name} {'unlimited' if limit.soft is None else size(limit.soft)}"


def _descriptors(descriptors: Descriptors, limits: tuple[Limit, ...]) -> Iterator[str]:
    allowed = next((limit.soft for limit in limits if limit.name == "open files"), None)
    at_least = "" if descriptors.complete else "at least "
    of = "" if allowed is None else f" of {allowed}"
    kinds = ", ".join(f"{count} {kind}" for kind, count in descriptors.kinds.items())
    yield _field("Descriptors", f"{at_least}{descriptors.count}{of}: {kinds}")
    files = [one for one in descriptors.listed if one.kind in ("file", "memfd")]
    for one in files[-_TARGETS:]:
        yield f"    {one.number:>4} {one.target}"


def _sockets(sockets: Sockets) -> Iterator[str]:
    yield f"  Sockets, {sockets.count}:"
    for one in sockets.listed[:_SOCKETS]:
        remote = f" -> {one.remote}" if one.remote and one.state != "LISTEN" else ""
        queues = ""
        if one.receive_queue or one.send_queue:
            queues = f" (queues: {one.receive_queue} in, {one.send_queue} out)"
        yield f"    {one.number:>4} {one.protocol} {one.state} {one.local}{remote}{queues}"
    if sockets.count > _SOCKETS:
        yield f"    … {sockets.count - _SOCKETS} more"


def _field(label: str, value: str) -> str:
    return f"  {label + ':':<{_LABEL}}{value}"


def _size(count: int) -> str:
    """Bytes for people.

    >>> _size(1536), _size(34 << 20)
    ('1536 B', '34 MiB')
    """
    for unit, shift in (("GiB", 30), ("MiB", 20), ("KiB", 10)):
        if count >= 4 << shift:
            return f"{count >> shift} {unit}"
    return f"{count} B"
