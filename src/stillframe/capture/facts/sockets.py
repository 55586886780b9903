"""The kernel's tables of sockets, searched for those of one process.

Flows in: ``/proc/PID/net/{tcp,tcp6,udp,udp6,unix}``, perhaps cut.  Flows out: by
inode, what is known of a socket.  Computes only, no I/O.  What does not look like a
line of the kernel's is left out: a Unix socket's path may hold newlines, so a
pod can forge lines of its own network namespace.
"""

import ipaddress
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from stillframe.capture.facts.model import Socket
from stillframe.capture.facts.proc import decode
from stillframe.capture.facts.redaction import Redactor
from stillframe.capture.facts.registry import TARGET_CHARS
from stillframe.text import escape

_TCP_STATES: Final = (
    "", "ESTABLISHED", "SYN_SENT", "SYN_RECV", "FIN_WAIT1", "FIN_WAIT2", "TIME_WAIT", "CLOSE",
    "CLOSE_WAIT", "LAST_ACK", "LISTEN", "CLOSING", "NEW_SYN_RECV",
)  # fmt: skip
"""By number (include/net/tcp_states.h); UDP uses the first and ``CLOSE``."""
_UNIX_STATES: Final = ("FREE", "UNCONNECTED", "CONNECTING", "CONNECTED", "DISCONNECTING")
"""By number (include/uapi/linux/net.h, ``socket_state``)."""
_ACCEPTS: Final = 1 << 16
"""``__SO_ACCEPTCON``: a Unix socket that listens."""


@dataclass(frozen=True, slots=True)
class Row:
    """One socket of a table, as the kernel printed it."""

    protocol: str
    state: str
    local: str
    remote: str = ""
    receive_queue: int = 0
    send_queue: int = 0


def match(
    opened: Iterable[tuple[int, int]], rows: Mapping[int, Row], redactor: Redactor
) -> tuple[Socket, ...]:
    """The sockets of a process; ``opened`` holds descriptor and inode numbers."""
    first: dict[int, int] = {}
    for number, inode in opened:
        first.setdefault(inode, number)
    return tuple(
        _socket(number, rows.get(inode, Row("other", "", "")), redactor)
        for inode, number in first.items()
    )


def parse_table(protocol: str, data: bytes) -> dict[int, Row]:
    """The sockets in one table, by inode.

    An inode that is there twice is left out: one of the lines is forged.
    """
    parse = _parse_unix if protocol == "unix" else _parse_internet
    rows: dict[int, Row] = {}
    twice: set[int] = set()
    for inode, row in _rows(data, protocol, parse):
        if inode in rows and inode:
            twice.add(inode)
        rows[inode] = row
    for inode in twice | {0}:
        rows.pop(inode, None)
    return rows


def _rows(
    data: bytes, protocol: str, parse: Callable[[str, str], tuple[int, Row]]
) -> Iterator[tuple[int, Row]]:
    for line in data.split(b"\n")[1:]:
        try:
            yield parse(protocol, decode(line))
        except (ValueError, IndexError):
            continue


def _parse_internet(protocol: str, line: str) -> tuple[int, Row]:
    fields = line.split()
    send, _, receive = fields[4].partition(":")
    return int(fields[9]), Row(
        protocol,
        _named(_TCP_STATES, int(fields[3], 16)),
        _address(fields[1]),
        _address(fields[2]),
        int(receive, 16),
        int(send, 16),
    )


def _parse_unix(protocol: str, line: str) -> tuple[int, Row]:
    fields = line.split(maxsplit=7)
    if not fields[0].endswith(":"):
        raise ValueError("no address in front")
    listening = int(fields[3], 16) & _ACCEPTS
    state = "LISTEN" if listening else _named(_UNIX_STATES, int(fields[5], 16))
    return int(fields[6]), Row(protocol, state, fields[7] if len(fields) > 7 else "")


def _named(names: tuple[str, ...], number: int) -> str:
    return names[number] if 0 <= number < len(names) else "unknown"


def _address(text: str) -> str:
    """An address as the kernel prints it: 32-bit words in the machine's byte order.

    >>> _address("0100007F:1F90")
    '127.0.0.1:8080'
    """
    host, _, port = text.partition(":")
    words = bytes.fromhex(host)
    if len(words) not in (4, 16):
        raise ValueError("not an IP address")
    if sys.byteorder == "little":
        words = b"".join(words[at : at + 4][::-1] for at in range(0, len(words), 4))
    number = int(port, 16)
    if len(words) == 4:
        return f"{ipaddress.IPv4Address(words)}:{number}"
    address = ipaddress.IPv6Address(words)
    host = f"::ffff:{address.ipv4_mapped}" if address.ipv4_mapped else str(address)
    return f"[{host}]:{number}"


def _socket(number: int, row: Row, redactor: Redactor) -> Socket:
    return Socket(
        number=number,
        protocol=row.protocol,
        state=row.state,
        local=escape(redactor.mask(row.local), TARGET_CHARS),
        remote=row.remote,
        receive_queue=row.receive_queue,
        send_queue=row.send_queue,
    )
