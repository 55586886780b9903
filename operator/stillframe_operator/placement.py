"""Where one sample's files are, as its agent says.

Made from an agent's request, checked.  Pure.  Nothing of it is believed of
another node's samples, and its URL is one that people can paste into a shell.
"""

import re
from dataclasses import dataclass
from typing import Final

from stillframe.api.crashreport import MAX_STORE_URL, STORE_URL
from stillframe.errors import InvalidInputError
from stillframe.rpc.v1 import intake_pb2
from stillframe_operator.crash import LABEL, NAME, REPORT_ID, UID, matching

_STORE_URL: Final = re.compile(STORE_URL)


@dataclass(frozen=True)
class Placement:
    """What has become true of a sample's files."""

    report_id: str
    namespace: str
    name: str
    """Of the CrashReport."""
    uid: str
    """Likewise: another one may have its name by now."""
    url: str = ""
    """Of the directory with their copies; empty: there are none."""
    deleted: bool = False
    """The node has them no more."""


def from_request(request: intake_pb2.PlaceRequest) -> Placement:
    """Return what ``request`` says; raises InvalidInputError(BadPlace)."""
    placement = Placement(
        report_id=matching("report_id", request.report_id, REPORT_ID, "BadPlace"),
        namespace=matching("namespace", request.namespace, LABEL, "BadPlace"),
        name=matching("name", request.name, NAME, "BadPlace"),
        uid=matching("uid", request.uid, UID, "BadPlace"),
        url=request.url,
        deleted=request.deleted,
    )
    if placement.url:
        _require_own_directory(placement)
    return placement


def _require_own_directory(placement: Placement) -> None:
    """The agents' rule, so that a URL can show no other sample, nor anything but one."""
    directory = f"/{placement.namespace}/{placement.report_id}/"
    store = placement.url.removesuffix(directory)
    if (
        store == placement.url
        or len(placement.url) > MAX_STORE_URL
        or _STORE_URL.fullmatch(store) is None
    ):
        raise InvalidInputError("BadPlace", f"url is not s3://bucket/prefix{directory}")
