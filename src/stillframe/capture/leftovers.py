"""Leftovers: files of processes that were killed before they could be locked.

Flows in: a snapshot directory.  Called at start and from time to time; a
``.part`` or ``.core`` that nobody holds is not one: `pipeline` takes it.
"""

import time
from typing import Final

from stillframe.capture.handover import ANY_SIZE, Listing, Stage, discard, open_snapshot
from stillframe.capture.identity import owner_lock
from stillframe.capture.kernel import file_facts
from stillframe.errors import InvalidInputError

BIRTH_SECONDS: Final = 60.0
"""After this a ``.<id>`` is nobody's; arbitrary, a birth takes microseconds."""


def clean_births(directory_fd: int, listing: Listing, *, older_than: float = BIRTH_SECONDS) -> int:
    """Unlink each ``.<id>`` older than ``older_than`` seconds that nobody holds; how many."""
    cleaned = 0
    for name in listing.names:
        if name.stage is not Stage.BIRTH:
            continue
        try:
            snapshot = open_snapshot(directory_fd, name, max_bytes=ANY_SIZE)
        except (FileNotFoundError, InvalidInputError):
            continue
        with snapshot:
            age = (time.time_ns() - file_facts(snapshot.fd).birth_ns) / 1e9
            if age > older_than and owner_lock(snapshot.fd) is None:
                cleaned += discard(directory_fd, name)
    return cleaned
