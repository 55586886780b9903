"""Every name that two parts must spell the same way.

Annotations, labels, environment variables, file names, reasons and defaults.
Nothing else in the project spells one of these as a literal.  Computes
nothing, imports nothing of ours.
"""

from typing import Final

GROUP: Final = "stillframe.dev"
VERSION: Final = "v1alpha1"
API_VERSION: Final = f"{GROUP}/{VERSION}"

# --- annotations and labels -------------------------------------------------
ANNOTATION_CAPTURE: Final = f"{GROUP}/capture"
"""On a pod: ``snapshot``, ``core``, ``off``, ``true`` or ``false``."""
LABEL_CAPTURE: Final = ANNOTATION_CAPTURE
"""The same name as a *label* on a namespace opts all of its pods in."""
ANNOTATION_CONTAINERS: Final = f"{GROUP}/containers"
ANNOTATION_HOLD_TIMEOUT: Final = f"{GROUP}/hold-timeout"
ANNOTATION_ON_HOLD: Final = f"{GROUP}/on-hold"
"""On a pod: ``none`` or ``shutdownSockets``: what is done to a process while it is held."""
ON_HOLD_NONE: Final = "none"
ON_HOLD_SHUTDOWN_SOCKETS: Final = "shutdownSockets"
ANNOTATION_POLICY: Final = f"{GROUP}/policy"
ANNOTATION_INJECTED_VERSION: Final = f"{GROUP}/injected-version"
ANNOTATION_SKIP_REASON: Final = f"{GROUP}/skip-reason"
LABEL_INJECTED: Final = f"{GROUP}/injected"
"""``true`` on every pod the webhook changed; kopf selects by it server-side."""

# --- the process's environment ----------------------------------------------
ENV_PRELOAD: Final = "LD_PRELOAD"
ENV_DIR: Final = "STILLFRAME_DIR"
ENV_CLAIM_MS: Final = "STILLFRAME_CLAIM_MS"
ENV_HOLD_MS: Final = "STILLFRAME_HOLD_MS"
ENV_CAPTURE: Final = "STILLFRAME_CAPTURE"
"""The level that was asked for, ``snapshot`` or ``core``: for the agent, which reads it in the
runtime's own configuration of the container, never in the process."""
ENV_ON_HOLD: Final = "STILLFRAME_ON_HOLD"
"""``none`` or ``shutdownSockets``: for the agent, read like `ENV_CAPTURE`."""
ENV_MAX_BYTES: Final = "STILLFRAME_MAX_BYTES"
ENV_DISABLED: Final = "STILLFRAME_DISABLED"
ENV_DEBUG: Final = "STILLFRAME_DEBUG"

# --- inside an injected pod ---------------------------------------------------
LIBRARY_FILE: Final = "libstillframe.so"
VOLUME_LIBRARY: Final = "stillframe-lib"
VOLUME_SNAPSHOTS: Final = "stillframe-shm"
"""Also the directory name the agent looks for under ``kubernetes.io~empty-dir``."""
INIT_CONTAINER: Final = "stillframe-init"
MOUNT_LIBRARY: Final = "/stillframe-lib"
MOUNT_SNAPSHOTS: Final = "/dev/shm/stillframe"  # noqa: S108 -- the contract of DESIGN
MOUNT_SNAPSHOTS_FALLBACK: Final = "/run/stillframe"
"""Where a container's own mount covers ``/dev/shm`` or ``/dev``."""

# --- the hand-over: file names and lock bytes ---------------------------------
SUFFIX_PART: Final = ".part"
SUFFIX_CORE: Final = ".core"
LOCK_OWNER: Final = 0
"""Byte 0: POSIX write lock of the crashing process."""
LOCK_CLAIM: Final = 1
"""Byte 1: OFD read lock of the agent: "I have seen you"."""
LOCK_DONE: Final = 2
"""Byte 2: OFD read lock of the agent: "you may go"."""

# --- on the node ----------------------------------------------------------------
NODE_STATE_DIR: Final = "/var/lib/stillframe"
ARTIFACTS_DIR: Final = "artifacts"
SPOOL_DIR: Final = "spool"
ARTIFACT_SNAPSHOT: Final = "snapshot.core"
ARTIFACT_CORE: Final = "full.core.zst"
"""All memory of the process, compressed; only where it was asked for."""
ARTIFACT_CORE_PLAIN: Final = "full.core"
"""The same, not compressed."""
ARTIFACT_HS_ERR: Final = "hs_err.log"
"""What a JVM wrote about its own death."""
ARTIFACT_FACTS: Final = "facts.json"
"""What else was found out about the process and its container."""
ARTIFACT_BUNDLE: Final = "bundle.tar.zst"
"""Core, binaries and a script for gdb; only where it was asked for."""
ARTIFACT_REPORT_TEXT: Final = "report.txt"
ARTIFACT_REPORT_JSON: Final = "report.json"
ARTIFACT_MANIFEST: Final = "manifest.json"

# --- the cluster ------------------------------------------------------------------
TOKEN_AUDIENCE: Final = "stillframe-intake"  # noqa: S105 -- an audience, not a token
COMPONENT_OPERATOR: Final = "operator"
COMPONENT_AGENT: Final = "agent"
COMPONENT_ARTIFACTS: Final = "artifacts"
ARTIFACTS_MOUNT: Final = "/artifacts"
"""Where the artifacts DaemonSet mounts the node's artifacts directory."""
CA_CONFIGMAP: Final = "stillframe-ca"
CA_SECRET: Final = "stillframe-ca"  # noqa: S105 -- an object's name
LEASE: Final = "stillframe-operator"
TOMBSTONES_CONFIGMAP: Final = "stillframe-tombstones"
FINGERPRINT_VERSION: Final = "v1"
