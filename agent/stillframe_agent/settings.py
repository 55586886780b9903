"""Settings: one frozen object per process, built once in ``__main__``, passed down.

Every field is an option ``--name-with-dashes`` and an environment variable
``STILLFRAME_AGENT_NAME``; the defaults are visible here and nowhere else.
"""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Final

from stillframe import names
from stillframe.api.crashreport import MAX_STORE_URL, STORE_URL
from stillframe.capture.corejob import Compression
from stillframe.capture.facts import FactsPolicy
from stillframe.errors import PermanentError

ENV_PREFIX: Final = "STILLFRAME_AGENT_"
LOG_LEVELS: Final = ("debug", "info", "warning", "error")
_BUCKET_URL: Final = re.compile(f"{STORE_URL}/?")
_BUCKET_URL_BYTES: Final = MAX_STORE_URL - len("/") - 63 - len("/") - 32 - len("/")
"""The rest is for a sample's namespace and report id."""
_ENDPOINT: Final = re.compile(r"https?://[\w.\[\]:-]+/?", re.ASCII)
_MIB: Final = 1 << 20
_GIB: Final = 1 << 30


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What the agent must know before it starts; each field with its help text.

    Raises `PermanentError` naming the setting when one makes no sense.
    """

    node_name: Annotated[str, "Name of this node."]
    operator_address: Annotated[str, "host:port of the operator's intake."]
    operator_server_name: Annotated[
        str, "Name the operator's certificate must carry; empty: the address's host."
    ] = ""
    ca_file: Annotated[Path, "The operator's CA, PEM; may appear or change later."] = Path(
        "/etc/stillframe/ca/ca.crt"
    )
    token_file: Annotated[Path, "Projected token, read anew for every call."] = Path(
        "/var/run/secrets/stillframe/token"
    )
    pods_dir: Annotated[Path, "The kubelet's pods."] = Path("/var/lib/kubelet/pods")
    bundles_dir: Annotated[Path, "The runtime's bundles: names of pods and containers."] = Path(
        "/run/containerd/io.containerd.runtime.v2.task/k8s.io"
    )
    sandboxes_dir: Annotated[Path, "The runtime's sandboxes: /dev/shm of each pod."] = Path(
        "/run/containerd/io.containerd.grpc.v1.cri/sandboxes"
    )
    image_libraries: Annotated[
        bool, "Capture pods that are not injected, too, where their image preloads the library."
    ] = True
    log_dir: Annotated[Path, "The kubelet's container logs: names, where there is no bundle."] = (
        Path("/var/log/pods")
    )
    state_dir: Annotated[Path, "Artifacts and spool."] = Path(names.NODE_STATE_DIR)
    listen: Annotated[str, "Address of health and metrics."] = "0.0.0.0:8081"
    hold_seconds: Annotated[float, "Longest wait for a snapshot to become complete."] = 2.0
    max_snapshot_bytes: Annotated[int, "A larger snapshot is refused."] = 16 * _MIB
    captures: Annotated[int, "Captures at once; a pod gets a quarter of them."] = 16
    core_bytes: Annotated[int, "Largest file of a full core; a larger one is cut."] = _GIB
    core_compression: Annotated[
        Compression, "Of full cores: none holds their processes for less time, and needs more room."
    ] = Compression.ZSTD
    core_hold_seconds: Annotated[float, "Longest hold for a full core."] = 30.0
    cores: Annotated[int, "Full cores taken at once; others get their snapshot only."] = 2
    shutdown_sockets: Annotated[
        bool, "Shut the sockets of a process that is held for a full core, where its pod asks."
    ] = False
    bundle_bytes: Annotated[int, "Largest debug bundle, before its compression; 0: none."] = 0
    analyses: Annotated[int, "Analysis children at once."] = 1
    facts: Annotated[
        str, "Facts taken of a process, by comma: all, none, names, -name for all but it."
    ] = "all"
    facts_env_allow: Annotated[
        str, "More variables whose values may be kept, by comma; a * behind makes a prefix."
    ] = ""
    variables: Annotated[bool, "Keep the crashing frame's variables in the report's files."] = True
    artifacts_bytes: Annotated[int, "Quota of all artifacts; the oldest go first."] = 2 * _GIB
    artifacts_age_seconds: Annotated[float, "Age at which artifacts go."] = 7 * 86400.0
    artifacts_free_bytes: Annotated[int, "Free space of the disk we never go below."] = _GIB
    retry_seconds: Annotated[float, "Until a write that our disk refused is tried again."] = 30.0
    spool_bytes: Annotated[int, "Quota of reports that wait for the operator."] = 64 * _MIB
    spool_items: Annotated[int, "Likewise, in reports."] = 4096
    sync_seconds: Annotated[float, "How often the operator is asked what to delete."] = 10.0
    upload_url: Annotated[str, "s3://bucket/prefix that samples are copied to; empty: none."] = ""
    upload_endpoint: Annotated[str, "http(s)://host:port of an S3-compatible store."] = ""
    upload_region: Annotated[str, "The bucket's region; empty: AWS_REGION, or us-east-1."] = ""
    upload_dir: Annotated[
        Path, "May hold the AWS file `credentials` and `ca.crt`; else AWS's usual sources count."
    ] = Path("/etc/stillframe/upload")
    log_level: Annotated[str, f"One of {', '.join(LOG_LEVELS)}."] = "info"

    def __post_init__(self) -> None:
        if not re.fullmatch(r"[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?", self.node_name):
            raise _bad("node_name", "is not a node's name")
        _split_address("operator_address", self.operator_address)
        _split_address("listen", self.listen)
        for name in (
            "captures",
            "analyses",
            "core_bytes",
            "max_snapshot_bytes",
            "spool_bytes",
            "spool_items",
        ):
            if getattr(self, name) < 1:
                raise _bad(name, "must be at least 1")
        for name in (
            "hold_seconds",
            "sync_seconds",
            "retry_seconds",
            "artifacts_age_seconds",
            "artifacts_bytes",
        ):
            if getattr(self, name) <= 0:
                raise _bad(name, "must be more than 0")
        for name in ("artifacts_free_bytes", "core_hold_seconds", "cores", "bundle_bytes"):
            if getattr(self, name) < 0:
                raise _bad(name, "must not be negative")
        for name, keyword in (("facts", "wanted"), ("facts_env_allow", "environment_allow")):
            try:
                FactsPolicy.parse(**{keyword: getattr(self, name)})
            except ValueError as error:
                raise _bad(name, f"makes no sense: {error}") from error
        if self.upload_url and not _BUCKET_URL.fullmatch(self.upload_url):
            raise _bad("upload_url", "must be s3://bucket or s3://bucket/prefix")
        if len(self.upload_url) > _BUCKET_URL_BYTES:
            raise _bad("upload_url", f"must not be longer than {_BUCKET_URL_BYTES} characters")
        if self.upload_endpoint and not _ENDPOINT.fullmatch(self.upload_endpoint):
            raise _bad("upload_endpoint", "must be http://host:port or https://host:port")
        if self.log_level not in LOG_LEVELS:
            raise _bad("log_level", f"must be one of {', '.join(LOG_LEVELS)}")

    @property
    def server_name(self) -> str:
        """The name that the operator's certificate has to carry."""
        return self.operator_server_name or self.operator_address.rpartition(":")[0]

    @property
    def facts_policy(self) -> FactsPolicy:
        """What may be taken of a process beside its snapshot."""
        return FactsPolicy.parse(self.facts, self.facts_env_allow)

    @property
    def artifacts_dir(self) -> Path:
        """One directory per sample."""
        return self.state_dir / names.ARTIFACTS_DIR

    @property
    def spool_dir(self) -> Path:
        """Reports that are not acknowledged yet."""
        return self.state_dir / names.SPOOL_DIR

    @property
    def listen_address(self) -> tuple[str, int]:
        """Host and port of health and metrics."""
        return parse_address(self.listen)


def parse_address(address: str) -> tuple[str, int]:
    """Host and port; port 0 means any.

    Raises `ValueError`.

    >>> parse_address("[::1]:8081")
    ('::1', 8081)
    """
    host, colon, port = address.rpartition(":")
    if not colon or not host or not port.isdecimal() or int(port) > 65535:
        raise ValueError(f"{address!r} is not host:port")
    return host.removeprefix("[").removesuffix("]"), int(port)


def _split_address(name: str, address: str) -> None:
    try:
        parse_address(address)
    except ValueError as error:
        raise _bad(name, "must be host:port") from error


def _bad(name: str, what: str) -> PermanentError:
    return PermanentError(
        f"setting {name} {what}",
        f"set --{name.replace('_', '-')} or {ENV_PREFIX}{name.upper()}",
    )
