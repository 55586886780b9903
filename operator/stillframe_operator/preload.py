"""The environment of an injected container.  Pure.

The kubelet resolves ``$(NAME)`` against variables defined earlier in the list,
and of two entries with one name the later wins; both are relied upon.
Variables of ``envFrom`` and of the image are not visible here: an LD_PRELOAD
among them is replaced by ours (docs/reference/coverage.md).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from stillframe import names

LIBRARY: Final = f"{names.MOUNT_LIBRARY}/{names.LIBRARY_FILE}"
USER_PRELOAD: Final = "STILLFRAME_USER_LD_PRELOAD"
"""Holds the value of an LD_PRELOAD that comes from a ConfigMap, Secret or field."""
_ASAN: Final = "ASAN_OPTIONS"
_ASAN_OPTION: Final = "verify_asan_link_order=0"

Variable = dict[str, Any]


@dataclass(frozen=True)
class Snapshots:
    """Where and how a container's library writes; times in milliseconds."""

    directory: str
    claim_millis: int
    hold_millis: int
    max_bytes: int
    level: str
    """``snapshot`` or ``core``."""
    on_hold: str
    """``none`` or ``shutdownSockets``."""


def environment(env: Sequence[Variable], snapshots: Snapshots) -> list[Variable]:
    """Return ``env`` with the library in front of what was preloaded before.

    >>> environment([{"name": "LD_PRELOAD", "value": "/x.so"}],
    ...             Snapshots("/dev/shm/stillframe", 250, 2000, 4096, "core", "none"))[0]
    {'name': 'LD_PRELOAD', 'value': '/stillframe-lib/libstillframe.so:/x.so'}
    """
    ours = {
        names.ENV_DIR: snapshots.directory,
        names.ENV_CLAIM_MS: str(snapshots.claim_millis),
        names.ENV_HOLD_MS: str(snapshots.hold_millis),
        names.ENV_MAX_BYTES: str(snapshots.max_bytes),
        names.ENV_CAPTURE: snapshots.level,
        names.ENV_ON_HOLD: snapshots.on_hold,
    }
    kept = [variable for variable in env if variable.get("name") not in ours]
    return [
        *_with_asan(_with_library(kept)),
        *({"name": name, "value": value} for name, value in ours.items()),
    ]


def _with_library(env: list[Variable]) -> list[Variable]:
    index = _last(env, names.ENV_PRELOAD)
    if index is None:
        return [*env, {"name": names.ENV_PRELOAD, "value": LIBRARY}]
    theirs = env[index]
    if "valueFrom" in theirs:
        # The empty default comes first: where the source is optional and absent,
        # the kubelet leaves $(NAME) in place and ld.so would complain at each exec.
        mine = [
            {"name": USER_PRELOAD, "value": ""},
            {**theirs, "name": USER_PRELOAD},
            {"name": names.ENV_PRELOAD, "value": f"{LIBRARY}:$({USER_PRELOAD})"},
        ]
    else:
        old = theirs.get("value") or ""
        mine = [{"name": names.ENV_PRELOAD, "value": f"{LIBRARY}:{old}" if old else LIBRARY}]
    return [*env[:index], *mine, *env[index + 1 :]]


def _with_asan(env: list[Variable]) -> list[Variable]:
    """An ASan program refuses to start behind any preloaded library unless told otherwise."""
    index = _last(env, _ASAN)
    if index is None:
        return [*env, {"name": _ASAN, "value": _ASAN_OPTION}]
    theirs = env[index]
    if "valueFrom" in theirs or "verify_asan_link_order" in (theirs.get("value") or ""):
        return env
    old = theirs.get("value") or ""
    mine = {"name": _ASAN, "value": f"{old}:{_ASAN_OPTION}" if old else _ASAN_OPTION}
    return [*env[:index], mine, *env[index + 1 :]]


def _last(env: Sequence[Variable], name: str) -> int | None:
    found = [index for index, variable in enumerate(env) if variable.get("name") == name]
    return found[-1] if found else None
