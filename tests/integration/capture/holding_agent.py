"""An agent that claims, proves whose the snapshot is, and never lets go."""

import signal
import sys
from pathlib import Path

from stillframe.capture.handover import SnapshotDirectory, Stage, claim, open_snapshot
from stillframe.capture.identity import attest
from tests.integration.capture.crash import found

with SnapshotDirectory.open(Path(sys.argv[1])) as directory:
    print("watching", flush=True)
    # Complete: its name does not change any more.
    name = found(directory, Stage.CORE)
    with open_snapshot(directory.fd, name, max_bytes=1 << 24) as snapshot:
        claim(snapshot.fd)
        attest(snapshot.fd)
        print("holding", flush=True)
        signal.pause()
