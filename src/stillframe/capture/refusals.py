"""Every reason for which a file in a snapshot directory is refused.

The values are metric labels and conditions of reports: a closed list, never
built from what a pod wrote.
"""

from enum import StrEnum

from stillframe.errors import InvalidInputError, StillframeError


class Refusal(StrEnum):
    """Why a snapshot is refused; `InvalidInputError.reason` is one of these."""

    BAD_NAME = "BadName"
    """Not ``<32 lower-case hex digits>.part`` or ``.core``."""
    SYMLINK = "Symlink"
    NOT_REGULAR = "NotRegular"
    """A directory, FIFO, socket or device."""
    HARD_LINK = "HardLink"
    """The file has a second name; the library gives it one, and two would count twice."""
    TOO_LARGE = "TooLarge"
    """Larger than the policy allows, sparse or not."""
    UNREADABLE = "Unreadable"
    """The kernel did not let us open it."""
    CLAIM_REFUSED = "ClaimRefused"
    """Another process holds byte 1 or 2 against us."""
    FORGED_LOCK = "ForgedLock"
    """The lock's pid does not hold the lock: no line in any of its fdinfo files."""
    HOLDER_NOT_VISIBLE = "HolderNotVisible"
    """The holder is outside of our pid namespace."""
    HOLDER_UNREADABLE = "HolderUnreadable"
    """The kernel did not let us look at the holder (`ptrace` access)."""
    HOLDER_YOUNGER = "HolderYoungerThanFile"
    """The lock's pid belongs to a process born after the file: a reused pid."""
    HOLDER_TOO_LARGE = "HolderTooLarge"
    """The holder has so many descriptors that the proof was given up."""
    NEVER_COMPLETE = "NeverComplete"
    """The holder lives, but its ``.part`` did not become ``.core`` in time."""
    REPLACED = "Replaced"
    """The name leads to another file than the one that was claimed."""
    NOT_ELF = "NotElf"
    NOT_CORE = "NotCore"
    """An ELF file, but no core that we can read."""
    TRUNCATED = "Truncated"
    """Ends before what its headers promise, although its writer called it complete."""


def refused(reason: Refusal, message: str, remedy: str = "") -> InvalidInputError:
    """The error for ``reason``; the caller raises it, and counts it by ``reason``."""
    return InvalidInputError(reason.value, message, remedy)


class NoHolderError(StillframeError):
    """Nobody holds byte 0: the process is dead, if a second look says so too."""
