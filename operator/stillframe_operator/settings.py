"""One frozen settings object per process, built from the environment once.

Every field is the variable ``STILLFRAME_OPERATOR_<FIELD>``; the chart sets
them.  Defaults are visible here and nowhere else.
"""

import platform
from collections.abc import Mapping
from typing import Annotated, Any, Final, Literal

import msgspec
from msgspec import Meta

from stillframe import names
from stillframe.errors import InvalidInputError

PREFIX: Final = "STILLFRAME_OPERATOR_"
LEASE_CALL_SECONDS: Final = 2.0
"""One look at the Lease and one write of it may take this long together."""

_Port = Annotated[int, Meta(ge=0, le=65535)]
_Positive = Annotated[int, Meta(ge=1)]
_Seconds = Annotated[float, Meta(ge=0)]
_Name = Annotated[str, Meta(min_length=1)]
_Names = tuple[str, ...]


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that can be chosen; ports of 0 mean any free port."""

    namespace: _Name
    """The operator's own namespace."""
    injector_image: _Name
    """Image of the init container that copies the library."""
    identity: str = msgspec.field(default_factory=platform.node)
    """Name of this replica in the Lease: the pod's name."""
    injector_pull_policy: str = "IfNotPresent"
    service: str = "stillframe-operator"
    """Service in front of the webhook and the intake; the leaf is made out to it."""
    deployment: str = "stillframe-operator"
    """Owner of the objects we create, so that they go with the release; empty: no owner."""
    webhook_configuration: str = "stillframe"
    """MutatingWebhookConfiguration whose caBundle we fill; empty: none."""
    agent_service_account: str = "stillframe-agent"
    host: str = "0.0.0.0"  # noqa: S104 -- a pod serves its pod network
    """Listening address."""
    webhook_port: _Port = 10250
    """Private clusters open it to the API server already (it is the kubelet's)."""
    intake_port: _Port = 9443
    http_port: _Port = 8080
    excluded_namespaces: _Names = ("kube-system", "kube-node-lease", "kube-public")
    """Never injected; our own namespace is always added."""
    excluded_runtime_classes: _Names = (
        "gvisor",
        "runsc",
        "kata",
        "kata-qemu",
        "kata-clh",
        "kata-fc",
    )
    """Sandboxes whose processes the node's kernel does not see."""
    hold_millis: _Positive = 2000
    """Longest hold without an annotation, milliseconds."""
    max_hold_millis: _Positive = 30_000
    """Longest hold an annotation may ask for: a typical termination grace period."""
    on_hold: Literal["none", "shutdownSockets"] = "none"
    """What is done to a held process without an annotation."""
    shutdown_sockets: bool = False
    """Whether agents may shut sockets down; what a pod asks for in vain gets a warning."""
    claim_millis: _Positive = 250
    max_snapshot_bytes: _Positive = 4 << 20
    snapshot_volume_bytes: _Positive = 64 << 20
    """sizeLimit of the memory volume: room for 16 snapshots of the largest size."""
    batch_seconds: _Seconds = 10.0
    """Least time between two writes of one CrashReport by one replica."""
    death_grace_seconds: _Seconds = 30.0
    """How long a death waits for the agent's report before it is recorded without."""
    scan_seconds: _Seconds = 15.0
    """Pause between two scans for pods that should have been injected."""
    sweep_seconds: _Seconds = 30.0
    """Pause between two rounds of retention and caps."""
    retention_seconds: _Positive = 14 * 86_400
    artifact_seconds: _Positive = 7 * 86_400
    """The agents' artifact max age; a tombstone is repeated for as long."""
    max_reports: _Positive = 2000
    max_reports_per_namespace: _Positive = 100
    lease_seconds: _Positive = 15
    renew_seconds: _Seconds = 8.0
    retry_seconds: Annotated[float, Meta(ge=1)] = 2.0
    """kubernetes.aio accepts no less than a second."""

    def __post_init__(self) -> None:
        if self.on_hold == names.ON_HOLD_SHUTDOWN_SOCKETS and not self.shutdown_sockets:
            raise ValueError("on_hold shutdownSockets needs shutdown_sockets true")
        if self.renew_seconds <= 1.2 * self.retry_seconds:
            raise ValueError("renew_seconds must be more than 1.2 * retry_seconds")
        worst = self.renew_seconds + 2 * self.retry_seconds + LEASE_CALL_SECONDS
        if worst >= self.lease_seconds:
            raise ValueError(
                f"lease_seconds ({self.lease_seconds}) must be more than renew_seconds + "
                f"2 * retry_seconds + {LEASE_CALL_SECONDS} ({worst}): a replica that cannot "
                "renew has to stop leading before another may start"
            )


def variable(field: str) -> str:
    """Return the environment variable that sets ``field``.

    >>> variable("http_port")
    'STILLFRAME_OPERATOR_HTTP_PORT'
    """
    return PREFIX + field.upper()


def from_environment(environ: Mapping[str, str]) -> Settings:
    """Build the settings; raises InvalidInputError(BadSetting) naming the variable.

    An unknown variable with our prefix is refused too: a typing error must
    not look like a default.
    """
    fields = {variable(f.name): f for f in msgspec.structs.fields(Settings)}
    given = {k: v for k, v in environ.items() if k.startswith(PREFIX)}
    unknown = sorted(given.keys() - fields.keys())
    if unknown:
        raise InvalidInputError(
            "BadSetting", f"unknown setting {unknown[0]}", "see stillframe-operator --help"
        )
    values: dict[str, Any] = {
        fields[k].name: _words(v) if fields[k].type == _Names else v for k, v in given.items()
    }
    try:
        return msgspec.convert(values, Settings, strict=False)
    except msgspec.ValidationError as error:
        raise InvalidInputError(
            "BadSetting",
            f"the settings ({PREFIX}*) are not usable: {error}",
            "see stillframe-operator --help",
        ) from error


def describe() -> str:
    """Return one line per setting: variable and default."""
    lines = []
    for field in msgspec.structs.fields(Settings):
        default = "the host's name" if field.default_factory is platform.node else field.default
        if default is msgspec.NODEFAULT:
            default = "(required)"
        elif isinstance(default, tuple):
            default = ",".join(default)
        lines.append(f"  {variable(field.name):<45} {default}")
    return "\n".join(lines)


def _words(text: str) -> list[str]:
    return [word for part in text.split(",") if (word := part.strip())]
