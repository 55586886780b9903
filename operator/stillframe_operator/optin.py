"""What a pod or its namespace asked for.  Pure.

A pod's annotation beats its namespace's label, and ``off`` always wins.  A
value we do not understand never injects by guess: it is refused with a reason.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Literal

from stillframe import names
from stillframe_operator.text import clean

Level = Literal["snapshot", "core", "off"]

LEVELS: Final[Mapping[str, Level]] = {
    "snapshot": "snapshot",
    "true": "snapshot",
    "core": "core",
    "off": "off",
    "false": "off",
}
_DURATION: Final = re.compile(r"(\d{1,7})(ms|s|m)")
_MILLIS: Final = {"ms": 1, "s": 1000, "m": 60_000}


@dataclass(frozen=True)
class Hold:
    """Longest hold in milliseconds, and what was wrong with the annotation ("" if nothing)."""

    millis: int
    warning: str = ""


@dataclass(frozen=True)
class OnHold:
    """What is done to a held process, and what was wrong with the annotation ("" if nothing)."""

    value: str
    warning: str = ""


def requested(annotations: Mapping[str, str], namespace_value: str | None) -> Level | None:
    """Return the level asked for; None: asked for, but not a level we know.

    Nothing asked for is ``off``.

    >>> requested({"stillframe.dev/capture": "true"}, None)
    'snapshot'
    >>> requested({"stillframe.dev/capture": "off"}, "core")
    'off'
    """
    value = annotations.get(names.ANNOTATION_CAPTURE, namespace_value)
    return "off" if not value else LEVELS.get(value.strip().lower())


def hold(annotations: Mapping[str, str], default: int, maximum: int) -> Hold:
    """Return the hold, all numbers in milliseconds; a bad value falls back with a warning.

    >>> hold({"stillframe.dev/hold-timeout": "1500ms"}, 2000, 30000)
    Hold(millis=1500, warning='')
    """
    text = annotations.get(names.ANNOTATION_HOLD_TIMEOUT)
    if text is None:
        return Hold(default)
    match = _DURATION.fullmatch(text.strip())
    if match is None:
        return Hold(
            default,
            f"{names.ANNOTATION_HOLD_TIMEOUT} {clean(text, 32)!r} is not a duration such as "
            f"500ms, 2s or 1m; using {default}ms",
        )
    millis = int(match[1]) * _MILLIS[match[2]]
    if millis > maximum:
        return Hold(
            maximum,
            f"{names.ANNOTATION_HOLD_TIMEOUT} {clean(text, 32)!r} is more than allowed; "
            f"using {maximum}ms",
        )
    return Hold(millis)


def on_hold(annotations: Mapping[str, str], level: Level, default: str, *, allowed: bool) -> OnHold:
    """Return what is done to a held process; what cannot be done is ``none``, with a warning.

    >>> on_hold({"stillframe.dev/on-hold": "shutdownSockets"}, "core", "none", allowed=True)
    OnHold(value='shutdownSockets', warning='')
    """
    text = annotations.get(names.ANNOTATION_ON_HOLD)
    value = default if text is None else text.strip()
    if value not in (names.ON_HOLD_NONE, names.ON_HOLD_SHUTDOWN_SOCKETS):
        why = f"is not {names.ON_HOLD_NONE} or {names.ON_HOLD_SHUTDOWN_SOCKETS}"
    elif value == names.ON_HOLD_NONE:
        return OnHold(value)
    elif not allowed:
        why = "is not allowed in this cluster (chart: capture.allowShutdownSockets)"
    elif level != "core":
        why = f"has an effect with {names.ANNOTATION_CAPTURE}: core only"
    else:
        return OnHold(value)
    if text is None:  # the cluster's default, which does not fit every pod
        return OnHold(names.ON_HOLD_NONE)
    return OnHold(
        names.ON_HOLD_NONE,
        f"{names.ANNOTATION_ON_HOLD} {clean(text, 32)!r} {why}; using {names.ON_HOLD_NONE}",
    )


def containers(annotations: Mapping[str, str]) -> frozenset[str] | None:
    """Return the containers that were named; None: all app containers."""
    text = annotations.get(names.ANNOTATION_CONTAINERS)
    if text is None:
        return None
    return frozenset(word for part in text.split(",") if (word := part.strip()))
