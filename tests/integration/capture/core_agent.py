"""An agent that takes a snapshot and a full core: ``core_agent.py DIR EVIDENCE HOLD``."""

import sys
from pathlib import Path

from stillframe.capture.fullcore import CoreRequest
from stillframe.capture.handover import SnapshotDirectory
from stillframe.capture.pipeline import capture
from tests.integration.capture.crash import found

directory, evidence = Path(sys.argv[1]), Path(sys.argv[2])
with SnapshotDirectory.open(directory) as snapshots:
    print("ready", flush=True)
    request = CoreRequest(hold_seconds=float(sys.argv[3]), max_bytes=1 << 30)
    with capture(
        snapshots, found(snapshots), evidence / "snapshot.core", core=lambda _: request
    ) as taken:
        print(*taken.soft_errors, sep="\n")
