"""What the operator counts about itself, for Prometheus."""

from typing import Final

from prometheus_client import Counter, Gauge, Histogram

ADMISSIONS: Final = Counter(
    "stillframe_admissions_total",
    "Pods reviewed by the webhook.",
    ["result"],  # injected, skipped, unchanged, error
)
SKIPS: Final = Counter("stillframe_skips_total", "Pods not injected, by reason.", ["reason"])
CALLS: Final = Counter(
    "stillframe_intake_calls_total",
    "Calls of agents, by answer.",
    ["call", "result"],  # Submit, Place or Sync; ok, namespace_gone, or the gRPC status
)
SUBMITTING: Final = Gauge("stillframe_submits_in_flight", "Reports not answered yet.")
SUBMIT_SECONDS: Final = Histogram(
    "stillframe_submit_seconds", "From a report's arrival to its acknowledgement."
)
WRITES: Final = Counter(
    "stillframe_crashreport_writes_total",
    "Writes of CrashReports.",
    ["result"],  # ok, conflict, error
)
EVENTS_FAILED: Final = Counter("stillframe_events_failed_total", "Events that were not written.")
DEATHS: Final = Counter(
    "stillframe_uncaptured_deaths_total", "Deaths recorded without a snapshot.", ["signal"]
)
MISSED: Final = Gauge(
    "stillframe_uninjected_pods", "Pods that should have been injected and are not."
)
REMOVED: Final = Counter(
    "stillframe_crashreports_removed_total",
    "CrashReports removed by the operator.",
    ["reason"],  # expired, namespace_cap, cluster_cap
)
LEADER: Final = Gauge("stillframe_leader", "1 while this replica holds the Lease.")
RESTARTS: Final = Counter(
    "stillframe_task_restarts_total", "Background tasks started again after a failure.", ["task"]
)
