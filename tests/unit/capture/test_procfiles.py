"""Files of ``/proc``: whatever paths a pod mounts at, a line is the kernel's."""

import pytest

from stillframe.capture.harmless import parse_mountinfo

MOUNT = b"46 27 0:49 / /a%sb rw,relatime shared:1 - tmpfs t rw\n"
SERVER = b"47 27 0:50 / /c rw,relatime - nfs4 server:/ rw\n"


@pytest.mark.parametrize("character", ["\r", "\f", "\v", "\x1c", "\x85", "\u2028", "\u00a0"])
def test_a_mount_point_ends_no_line(character: str) -> None:
    text = MOUNT % character.encode() + SERVER
    assert parse_mountinfo(text) == {46: "tmpfs", 47: "nfs4"}


def test_half_a_line_at_the_end_is_no_mount() -> None:
    text = MOUNT % b"" + SERVER
    for cut in range(1, len(SERVER)):
        assert parse_mountinfo(text[:-cut]) == {46: "tmpfs"}
