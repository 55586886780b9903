"""``CrashReport``: one object per crash group, in the namespace of its pods.

``spec`` is identity and never changes, but for ``triage``, the one field
people write.  ``status`` is written by the operator alone.  Whatever could
hold a secret (arguments, environment, log lines) is deliberately absent: role
``view`` reads reports.
"""

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

MAX_SAMPLES = 5
MAX_RECENT_REPORTS = 64
MAX_STACK_LINES = 64
MAX_STACK_LINE = 256
MAX_OBJECT_BYTES = 32 * 1024
MAX_STORE_URL = 512
STORE_URL = r"s3://[a-z0-9][a-z0-9.-]{1,61}[a-z0-9](/[A-Za-z0-9_.=-]+)*"
"""Bucket and prefix of an object store.  Nothing in it means anything to a shell or a terminal, or
can hold credentials, a port or a signature: people copy it into commands."""

Name = Annotated[str, Meta(max_length=253)]
Ref = Annotated[str, Meta(max_length=64 + 253)]
"""kind/name: a kind has at most 63 characters, a name at most 253."""
Short = Annotated[str, Meta(max_length=128)]
Line = Annotated[str, Meta(max_length=MAX_STACK_LINE)]
Paragraph = Annotated[str, Meta(max_length=1024)]
Time = Annotated[str, Meta(max_length=32, extra_json_schema={"format": "date-time"})]
"""RFC 3339, UTC, whole seconds."""
Triage = Literal["Open", "Acknowledged", "Muted"]


def _identity(description: str) -> Meta:
    """A field that the API server refuses to change."""
    rule = {"rule": "self == oldSelf", "message": "identifies the crash group and is immutable"}
    return Meta(description=description, extra_json_schema={"x-kubernetes-validations": [rule]})


class _Object(msgspec.Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True):
    """Frozen, keyword-only, camelCase on the wire, defaults left out."""


class Workload(_Object, frozen=True, kw_only=True):
    """Who owns the pods of this group: the topmost controller we can name."""

    api_version: Annotated[Short, Meta(description="apiVersion of the owner, such as apps/v1.")]
    kind: Annotated[Short, Meta(description="Kind of the owner, such as Deployment.")]
    name: Annotated[
        Name, Meta(description="Name of the owner; the prefix where its name is generated.")
    ]
    ref: Annotated[Ref, Meta(description="kind/name in lower case, for columns and selectors.")]


class CrashReportSpec(_Object, frozen=True, kw_only=True):
    """What makes these crashes one group; immutable but for triage."""

    workload: Annotated[Workload, _identity("Owner of the crashing pods.")]
    container: Annotated[Name, _identity("Container whose process died.")]
    signal: Annotated[Short, _identity("Signal that ended the process, or None for a plain exit.")]
    fingerprint: Annotated[
        Short, _identity("Versioned grouping key of the crashing thread's frames.")
    ]
    triage: Annotated[Triage, Meta(description="Yours to set: Open, Acknowledged or Muted.")] = (
        "Open"
    )


class SampleArtifact(_Object, frozen=True, kw_only=True):
    """One file of a sample."""

    kind: Annotated[
        Annotated[str, Meta(max_length=32)],
        Meta(
            description="snapshot, core, hs_err (a JVM's log), facts, bundle (for gdb) or report."
        ),
    ]
    file: Annotated[
        Annotated[str, Meta(max_length=32)],
        Meta(description="Its name, on the node and below the sample's url."),
    ] = ""
    bytes: Annotated[int, Meta(ge=0, description="Size in bytes.")]
    sha256: Annotated[
        Annotated[str, Meta(max_length=64)],
        Meta(description="SHA-256 in lower-case hex: a copy that has another is not the evidence."),
    ] = ""


class Sample(_Object, frozen=True, kw_only=True):
    """One crash of the group that is kept in full."""

    time: Annotated[Time, Meta(description="When the process crashed, on its node's clock.")]
    pod: Annotated[Name, Meta(description="Name of the pod.")]
    node: Annotated[Name, Meta(description="Node it ran on.")]
    captured: Annotated[Short, Meta(description="snapshot, core or none.")]
    held_millis: Annotated[
        int, Meta(description="Milliseconds the dying process was held; -1 when not known.")
    ] = -1
    artifacts: Annotated[list[SampleArtifact], Meta(max_length=8, description="Its files.")] = []
    fetch: Annotated[
        Paragraph,
        Meta(description="Command that copies the artifacts from the node; gone once they are."),
    ] = ""
    expires: (
        Annotated[
            Time, Meta(description="When the node may delete the artifacts; gone once it has.")
        ]
        | None
    ) = None
    """Set as long as the node has them: ``fetch`` may be empty because nothing serves them now."""
    url: Annotated[
        Annotated[str, Meta(max_length=MAX_STORE_URL, pattern=f"^({STORE_URL}/)?$")],
        Meta(
            description="Where verified copies of all files, and manifest.json, are in the object"
            " store; empty while there are none."
        ),
    ] = ""


class RecentReport(_Object, frozen=True, kw_only=True):
    """A report already counted: what makes counting idempotent."""

    id: Annotated[Short, Meta(description="Id of the report.")]
    container_id: Annotated[
        Short, Meta(description="Runtime id of the container the process died in.")
    ] = ""
    time: Annotated[Time, Meta(description="When the process crashed.")] | None = None


class Condition(_Object, frozen=True, kw_only=True):
    """A metav1.Condition."""

    type: Annotated[Short, Meta(description="Captured, Verified, ArtifactsAvailable, Throttled.")]
    status: Annotated[
        Literal["True", "False", "Unknown"], Meta(description="True, False or Unknown.")
    ]
    reason: Annotated[Short, Meta(description="One CamelCase word.")]
    message: Annotated[Paragraph, Meta(description="For people.")] = ""
    last_transition_time: Annotated[Time, Meta(description="When status last changed.")]
    observed_generation: Annotated[int, Meta(ge=0, description="Generation it speaks of.")] = 0


class CrashReportStatus(_Object, frozen=True, kw_only=True):
    """What is known; the operator's alone."""

    count: Annotated[int, Meta(ge=0, description="Crashes counted.")] = 0
    first_seen: Annotated[Time, Meta(description="Oldest crash counted.")] | None = None
    last_seen: Annotated[Time, Meta(description="Newest crash counted.")] | None = None
    cause: Annotated[Line, Meta(description="Why it died, in a few words.")] = ""
    message: Annotated[Paragraph, Meta(description="Why it died, and what to do next.")] = ""
    top_frame: Annotated[Line, Meta(description="Function and file:line on top.")] = ""
    last_image: Annotated[Line, Meta(description="Image of the newest crash.")] = ""
    last_node: Annotated[Name, Meta(description="Node of the newest crash.")] = ""
    last_pod: Annotated[Name, Meta(description="Pod of the newest crash.")] = ""
    stack: Annotated[
        list[Line],
        Meta(max_length=MAX_STACK_LINES, description="Crashing thread, innermost frame first."),
    ] = []
    samples: Annotated[
        dict[str, Sample],
        Meta(max_length=MAX_SAMPLES, description="Crashes kept in full, by report id."),
    ] = {}
    recent_reports: Annotated[
        list[RecentReport],
        Meta(max_length=MAX_RECENT_REPORTS, description="Reports counted lately, newest last."),
    ] = []
    conditions: Annotated[
        list[Condition],
        Meta(
            max_length=8,
            description="Captured, Verified, ArtifactsAvailable, Throttled.",
            extra_json_schema={
                "x-kubernetes-list-type": "map",
                "x-kubernetes-list-map-keys": ["type"],
            },
        ),
    ] = []
