"""Facts from hostile text: nothing breaks a parser, nothing unprintable or unbounded comes out.

Also: secrets that the environment names are in nothing that is kept, wherever they
were, and what the kernel prints reads back.
"""

import ipaddress
import sys
from typing import Any

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from stillframe.capture.facts import Facts, FactsPolicy, Redactor, render_facts
from stillframe.capture.facts.cgroup import FILES, parse, parse_mounts, places
from stillframe.capture.facts.proc import (
    command,
    descriptor,
    descriptors,
    environment,
    parse_environ,
    parse_limits,
    process,
    socket_inode,
)
from stillframe.capture.facts.registry import ARGUMENTS, DESCRIPTORS, TARGET_CHARS, VARIABLES
from stillframe.capture.facts.sockets import match, parse_table

UNTIMED = settings(deadline=None, max_examples=60)
NASTY = st.sampled_from(
    [b"\n", b"\x1b[2J", b"\xff\xfe", b"\xe2\x80\xae", b"\0", b"=", b":", b" ", b"A=", b"-", b"\t"]
)
BYTES = st.lists(NASTY | st.binary(max_size=20), max_size=40).map(b"".join)
TEXT = BYTES.map(lambda data: data.decode(errors="surrogateescape"))
HUGE = st.sampled_from([b"A=1\0" * 6000, b"x" * 70000, b"://" + b"a" * 5000, b"KEY" * 9000])
SECRETS = st.text(st.characters(codec="utf-8", exclude_characters="\0\r\n"), min_size=6).filter(
    lambda text: text.isprintable() and text.strip() == text and "redacted" not in text
)


def strings_of(value: Any) -> list[str]:
    if isinstance(value, str):
        return [value]
    if isinstance(value, dict):
        return [text for pair in value.items() for part in pair for text in strings_of(part)]
    return [text for part in value for text in strings_of(part)] if isinstance(value, list) else []


def assert_safe(**found: Any) -> None:
    """What was found is bounded, printable JSON, and reads back."""
    facts = Facts(**found)
    data = msgspec.json.encode(facts)
    assert msgspec.json.decode(data, type=Facts) == facts
    assert len(data) < 1 << 20
    assert all(text.isprintable() for text in strings_of(msgspec.to_builtins(facts)))
    assert all(line.isprintable() for line in render_facts(facts).split("\n"))


@UNTIMED
@given(BYTES | HUGE, BYTES | HUGE, st.booleans())
def test_any_environment_and_command_line_are_safe(
    variables: bytes, arguments: bytes, complete: bool
) -> None:
    redactor = Redactor(parse_environ(variables))
    allows = FactsPolicy.parse("all", "A*").allows
    found = environment(variables, allows, redactor, complete=complete)
    line = command(arguments, redactor, complete=complete)
    assert len(found.names) <= VARIABLES
    assert len(line.arguments) <= ARGUMENTS
    assert_safe(environment=found, command=line)


@UNTIMED
@given(st.lists(TEXT, max_size=DESCRIPTORS))
def test_any_link_of_a_descriptor_is_safe(links: list[str]) -> None:
    listed = [descriptor(number, link, Redactor()) for number, link in enumerate(links)]
    assert all(len(one.target) <= TARGET_CHARS for one in listed)
    assert_safe(descriptors=descriptors(listed, len(links), complete=True))


@UNTIMED
@given(st.sampled_from(["tcp", "tcp6", "udp", "udp6", "unix"]), BYTES | HUGE)
def test_any_table_of_sockets_is_safe(protocol: str, data: bytes) -> None:
    rows = parse_table(protocol, b"header\n" + data)
    for socket in match([(number, inode) for number, inode in enumerate(rows)], rows, Redactor()):
        assert len(socket.local) <= TARGET_CHARS
        assert all(text.isprintable() for text in strings_of(msgspec.to_builtins(socket)))


UNIX_NAMES = st.binary(max_size=108).filter(lambda name: b"\0" not in name)


@UNTIMED
@given(UNIX_NAMES)
def test_a_unix_sockets_name_gives_no_other_inode_a_false_row(name: bytes) -> None:
    data = (
        b"Num RefCount Protocol Flags Type St Inode Path\n"
        b"ffff1: 00000002 00000000 00010000 0001 01 601 " + name + b"\n"
        b"ffff2: 00000003 00000000 00000000 0001 03 602 /true\n"
    )
    found = parse_table("unix", data)
    assert 602 not in found or found[602].local == "/true"
    for socket in match([(3, 601)], found, Redactor()):
        assert socket.local.isprintable()


@UNTIMED
@given(TEXT, TEXT)
def test_any_status_and_limits_are_read_or_refused(status: str, limits: str) -> None:
    parse_limits(limits)
    try:
        found = process(status, "0", 0.0)
    except ValueError:
        return
    assert_safe(process=found)


@UNTIMED
@given(st.lists(TEXT, max_size=5), TEXT, st.sampled_from(["memory", "cpu", "pids"]))
def test_any_cgroup_and_mountinfo_lead_nowhere_else(
    lines: list[str], mountinfo: str, controller: str
) -> None:
    try:
        mounts = parse_mounts(mountinfo)
    except ValueError:
        return
    for place in places(lines, mounts, controller):
        assert not place.path.startswith("/")
        assert ".." not in place.path.split("/")


@UNTIMED
@given(
    st.sampled_from([1, 2]),
    st.sampled_from(["memory", "cpu", "pids"]),
    st.dictionaries(
        st.sampled_from([n for v in FILES.values() for g in v.values() for n in g]), TEXT
    ),
)
def test_any_content_of_a_cgroup_is_read_or_refused(
    version: int, controller: str, files: dict[str, str]
) -> None:
    try:
        parse(version, controller, files)
    except ValueError:
        return


@UNTIMED
@given(st.ip_addresses(), st.integers(0, 65535), st.integers(1, 2**32 - 1))
def test_every_address_reads_back(
    address: ipaddress.IPv4Address | ipaddress.IPv6Address, port: int, inode: int
) -> None:
    packed = address.packed
    words = [packed[at : at + 4] for at in range(0, len(packed), 4)]
    if sys.byteorder == "little":
        words = [word[::-1] for word in words]
    printed = b"".join(words).hex().upper()
    line = f"0: {printed}:{port:04X} {printed}:{port:04X} 01 0:0 0:0 0 0 0 {inode}"
    found = parse_table("tcp", f"header\n{line}\n".encode())[inode].local
    host, _, number = found.rpartition(":")
    assert ipaddress.ip_address(host.strip("[]")) == address
    assert int(number) == port


@UNTIMED
@given(st.integers(0, 2**63 - 1))
def test_every_inode_of_a_socket_reads_back(inode: int) -> None:
    assert socket_inode(f"socket:[{inode}]") == inode


def kept_of(around: str, name: str, secret: str) -> list[str]:
    """All that is kept of a process that has a text in several places, and a secret."""
    variables = {name: secret, "LANG": around, "OTHER": around}
    data = b"".join(
        f"{key}={value}".encode(errors="surrogateescape") + b"\0"
        for key, value in variables.items()
    )
    redactor = Redactor(parse_environ(data))
    arguments = f"app\0{around}\0--x={around}\0".encode(errors="surrogateescape")
    kept = Facts(
        environment=environment(data, FactsPolicy().allows, redactor, complete=True),
        command=command(arguments, redactor, complete=True),
        descriptors=descriptors([descriptor(3, f"/{around}", redactor)], 1, complete=True),
    )
    return [*strings_of(msgspec.to_builtins(kept)), render_facts(kept)]


@UNTIMED
@given(SECRETS, TEXT, TEXT, st.sampled_from(["DB_PASSWORD", "api.token", "A_KEY", "PROXY_AUTH"]))
def test_a_secret_of_the_environment_is_in_nothing_that_is_kept(
    secret: str, before: str, after: str, name: str
) -> None:
    before, after = before.replace("\0", ""), after.replace("\0", "")
    anyway = kept_of(f"{before}\n{after}", name, "")  # "Facts", say, or what is around it
    if not any(secret in text for text in anyway):
        found = kept_of(f"{before}{secret}{after}", name, secret)
        assert not [text for text in found if secret in text]
