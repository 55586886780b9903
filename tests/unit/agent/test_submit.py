"""Between spool and operator, without a wire.  With one: tests/integration/agent/test_submit.py."""

import asyncio
from collections.abc import Sequence
from pathlib import Path

from stillframe_agent.artifacts import Artifacts
from stillframe_agent.manifest import Manifest, Phase
from stillframe_agent.metrics import Metrics
from stillframe_agent.pods import PodIdentity
from stillframe_agent.quota import Quota
from stillframe_agent.spool import Spool
from stillframe_agent.submit import Submitter

from stillframe.errors import TemporaryError
from stillframe.rpc.v1.intake_pb2 import PlaceRequest, Report, SubmitResponse

QUOTA = Quota(max_bytes=1 << 30, max_age=1e12, free_bytes=0, per_group=5)


class Intake:
    """Takes what is said of samples, but for those that it never can."""

    def __init__(self, impossible: set[str]) -> None:
        self.told: list[str] = []
        self._impossible = impossible

    async def submit(self, report: Report) -> SubmitResponse:
        raise NotImplementedError

    async def tombstones(self) -> Sequence[str]:
        return []

    async def place(self, request: PlaceRequest) -> None:
        if request.report_id in self._impossible:
            raise TemporaryError("changes too often")
        self.told.append(request.report_id)


async def test_a_crash_report_that_cannot_be_told_keeps_no_other_from_it(tmp_path: Path) -> None:
    ids = [f"{number:032x}" for number in range(1, 5)]
    metrics = Metrics()
    artifacts = Artifacts(tmp_path / "artifacts", QUOTA, metrics)
    artifacts.load()
    for report_id in ids:
        artifacts.begin(
            Manifest(
                report_id=report_id,
                phase=Phase.REPORTED,
                snapshot_id="ff",
                node="node-1",
                pod=PodIdentity("uid-1", "shop"),
                created=1.0,
                expires=2.0,
                crash_report_uid="u",
                crash_report="shop/cart-1",
                url=f"s3://bucket/shop/{report_id}/",
            )
        )
    intake = Intake({ids[0]})
    spool = Spool(tmp_path / "spool", 1 << 20, 10, metrics)
    submitter = Submitter(intake, spool, artifacts, metrics, retry_seconds=1)
    task = asyncio.create_task(submitter.run(sync_seconds=1e-3))
    async with asyncio.timeout(10):
        while len(artifacts.unplaced()) > 1:  # noqa: ASYNC110 -- the journal has no event
            await asyncio.sleep(0.01)
    task.cancel()
    assert sorted(intake.told) == ids[1:]
