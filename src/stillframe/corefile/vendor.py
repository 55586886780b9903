"""The vendor note: ``struct sf_note`` of ``preload/src/note.h`` and what follows it.

The layout is generated (``_note.py``); here are the rules of its growth.  A
longer struct is from a newer library and its tail is ignored; a shorter one is
from an older library and missing fields read as 0.
"""

from typing import NamedTuple

from ._note import NOTE_LAYOUT, NOTE_SECRET_LAYOUT, OWNER, Note, NoteSecret, NoteType
from .elf import NoteRecord
from .notes import text

MAX_ANNOTATIONS = 64
MAX_ANNOTATION = 1024
"""Characters of a key or value that are kept; both limits are arbitrary."""
MAX_SECRETS = 64
"""``STILLFRAME_SECRETS``."""


class CrashNote(NamedTuple):
    """What our library says about the crash.  The pod wrote it: never trust its ids."""

    fields: Note
    annotations: dict[str, str]
    """By key; `REQUEST_KEY` is the crashing thread's request."""
    secrets: tuple[NoteSecret, ...]
    """Memory that the core has zeros for, and that no other core may contain."""


def is_crash_note(record: NoteRecord) -> bool:
    """Whether a note is ours."""
    return record.name == OWNER.encode() and record.type == NoteType.SF_NOTE_CRASH


def decode_note(desc: bytes) -> CrashNote:
    """Decode the descriptor; raises ``ValueError`` with the reason.

    >>> decode_note(NOTE_LAYOUT.pack(160, 1, *[0] * 2, bytes(16), 7, *[0] * 22)).fields.pid
    7
    """
    if len(desc) < 8:
        raise ValueError(f"vendor note of {len(desc)} bytes")
    size = int.from_bytes(desc[:4], "little")
    if not 8 <= size <= len(desc):
        raise ValueError(f"vendor note of {len(desc)} bytes claims {size}")
    known = desc[: min(size, NOTE_LAYOUT.size)].ljust(NOTE_LAYOUT.size, b"\0")
    fields = Note._make(NOTE_LAYOUT.unpack(known))
    text_at = size + fields.secrets * NOTE_SECRET_LAYOUT.size
    return CrashNote(
        fields,
        _annotations(desc[text_at : text_at + fields.text_bytes]),
        _secrets(desc[size:text_at]),
    )


def _secrets(raw: bytes) -> tuple[NoteSecret, ...]:
    count = min(len(raw) // NOTE_SECRET_LAYOUT.size, MAX_SECRETS)
    whole = raw[: count * NOTE_SECRET_LAYOUT.size]
    return tuple(map(NoteSecret._make, NOTE_SECRET_LAYOUT.iter_unpack(whole)))


def _annotations(raw: bytes) -> dict[str, str]:
    parts = [text(part)[:MAX_ANNOTATION] for part in raw.split(b"\0", 2 * MAX_ANNOTATIONS)]
    return dict(zip(parts[0:-1:2], parts[1:-1:2], strict=False))
