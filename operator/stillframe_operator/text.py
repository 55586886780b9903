"""What strangers write becomes text that is safe to show, and times become RFC 3339.

Control characters would let a pod forge lines in ``kubectl describe`` or drive
a terminal; lengths are bounded so that no object can grow.
"""

import unicodedata
from datetime import UTC, datetime
from typing import Final

_HARMFUL: Final = {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"}
"""Unicode categories: control, format (bidirectional overrides), surrogates, unassigned, ..."""


def clean(text: str, limit: int) -> str:
    r"""Return ``text`` on one line, without harmful characters, at most ``limit`` characters.

    >>> clean("a\tb\x1b[31m", 16)
    'a b?[31m'
    >>> clean("too long", 5)
    'too …'
    """
    head = text[: limit * 4].expandtabs(1).replace("\n", " ")
    safe = "".join("?" if unicodedata.category(c) in _HARMFUL else c for c in head).strip()
    return safe if len(safe) <= limit else safe[: limit - 1] + "…"


def rfc3339(moment: datetime) -> str:
    """Return ``moment`` in UTC with whole seconds, as metav1.Time has it."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def parse_time(text: str) -> datetime:
    """Return the moment ``text`` (RFC 3339) names; raises ValueError."""
    return datetime.fromisoformat(text)
