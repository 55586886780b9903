"""Metrics: everything the agent counts, named and with its unit, in one registry.

Label values come from closed lists of ours; nothing a pod wrote becomes one.
"""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.process_collector import ProcessCollector


class Metrics:
    """One process's metrics; made once and passed down."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        registry = self.registry
        self.directories = Gauge(
            "stillframe_agent_directories",
            "Snapshot directories with our beacon in them.",
            registry=registry,
        )
        self.directories_failed = Counter(
            "stillframe_agent_directories_failed",
            "Snapshot directories that could not be watched: their crashes are not seen.",
            registry=registry,
        )
        self.floods = Counter(
            "stillframe_agent_floods",
            "Times that a snapshot directory was not watched for a second because its pod made "
            "too many files.",
            registry=registry,
        )
        self.captures = Counter(
            "stillframe_agent_captures",
            "Snapshots copied; result: snapshot, core (with a full core), "
            "leftover (its writer was killed), "
            "repeated (copied before) or retried (our disk was full or failing).",
            ["result"],
            registry=registry,
        )
        self.refusals = Counter(
            "stillframe_agent_refusals",
            "Files and crashes refused, by reason.",
            ["reason"],
            registry=registry,
        )
        self.stillbirths = Counter(
            "stillframe_agent_stillbirths",
            "Files deleted because their process was killed before it could lock them.",
            registry=registry,
        )
        self.hold = Histogram(
            "stillframe_agent_hold_seconds",
            "From the crash to our release of the process.",
            buckets=(0.005, 0.01, 0.02, 0.035, 0.05, 0.1, 0.25, 0.5, 1, 2, 5),
            registry=registry,
        )
        self.captures_waiting = Gauge(
            "stillframe_agent_captures_waiting",
            "Crashes that wait because too many are captured at once.",
            registry=registry,
        )
        self.analyses = Counter(
            "stillframe_agent_analyses",
            "Analyses; result: ok or failed.",
            ["result"],
            registry=registry,
        )
        self.analysis = Histogram(
            "stillframe_agent_analysis_seconds",
            "Time from the start of an analysis child to its result.",
            buckets=(0.1, 0.25, 0.5, 1, 2, 5, 10, 30, 60),
            registry=registry,
        )
        self.artifact_bytes = Gauge(
            "stillframe_agent_artifact_bytes",
            "Bytes kept as artifacts.",
            registry=registry,
        )
        self.artifact_samples = Gauge(
            "stillframe_agent_artifact_samples",
            "Samples kept as artifacts.",
            registry=registry,
        )
        self.artifacts_deleted = Counter(
            "stillframe_agent_artifacts_deleted",
            "Samples deleted; why: age, quota, free-space, tombstone or surplus (the group "
            "keeps enough).",
            ["why"],
            registry=registry,
        )
        self.uploads = Counter(
            "stillframe_agent_uploads",
            "Uploads to the object store; result: ok (a whole sample, verified), failed (a file, "
            "tried again), refused (a sample whose file cannot be read or has changed) or lost "
            "(a sample deleted for want of room before).",
            ["result"],
            registry=registry,
        )
        self.upload_bytes = Counter(
            "stillframe_agent_upload_bytes",
            "Bytes of files in the object store, verified.",
            registry=registry,
        )
        self.uploads_waiting = Gauge(
            "stillframe_agent_uploads_waiting",
            "Samples that are not in the object store yet.",
            registry=registry,
        )
        self.spool_items = Gauge(
            "stillframe_agent_spool_items",
            "Reports that are not acknowledged yet.",
            registry=registry,
        )
        self.spool_bytes = Gauge(
            "stillframe_agent_spool_bytes",
            "Bytes of reports that are not acknowledged yet.",
            registry=registry,
        )
        self.spool_dropped = Counter(
            "stillframe_agent_spool_dropped",
            "Reports given up; why: full, refused (the operator never wants it) or unreadable.",
            ["why"],
            registry=registry,
        )
        self.submissions = Counter(
            "stillframe_agent_submissions",
            "Answers of the operator to a report, by gRPC status code.",
            ["code"],
            registry=registry,
        )
        self.wakeups = Counter(
            "stillframe_agent_wakeups",
            "Times the agent was woken to look for crashes, by source: mounts, containers or "
            "inotify.",
            ["source"],
            registry=registry,
        )
