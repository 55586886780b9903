"""Who is asked about a full core, and what for."""

import json
from pathlib import Path
from types import SimpleNamespace

import pytest
from stillframe_agent.cores import Cores
from stillframe_agent.settings import Settings

from stillframe.capture.fullcore import CoreRequest

UID = "1d3b6a0c-5f0e-4b67-9d5c-2f7a1c0de111"
ID = "a1" * 32
HOLDER = SimpleNamespace(cgroup=(f"0::/kubepods/burstable/pod{UID}/{ID}",))


class Disk:
    """Its accounts may have to wait for the disk."""

    def __init__(self) -> None:
        self.asked = 0

    def room(self, _namespace: str) -> int:
        self.asked += 1
        return 1 << 30


def cores(root: Path, disk: Disk, level: str = "core") -> Cores:
    (root / ID).mkdir()
    env = [f"STILLFRAME_CAPTURE={level}", "STILLFRAME_HOLD_MS=1000"]
    (root / ID / "config.json").write_text(json.dumps({"process": {"env": env}}))
    settings = Settings(node_name="n", operator_address="o:1", bundles_dir=root)
    return Cores(settings, disk)  # type: ignore[arg-type]


@pytest.mark.parametrize(("level", "asked"), [("snapshot", 0), ("core", 1)])
def test_only_who_wants_a_core_waits_for_the_disks_accounts(
    tmp_path: Path, level: str, asked: int
) -> None:
    disk = Disk()
    with cores(tmp_path, disk, level).of_pod(UID, "shop") as choose:
        wanted = choose(HOLDER)  # type: ignore[arg-type]
    assert isinstance(wanted, CoreRequest) == bool(asked)
    assert disk.asked == asked


def test_the_room_of_a_core_that_is_being_taken_is_nobody_elses(tmp_path: Path) -> None:
    node = cores(tmp_path, Disk())
    with node.of_pod(UID, "shop") as first:
        assert isinstance(first(HOLDER), CoreRequest)  # type: ignore[arg-type]
        with node.of_pod(UID, "shop") as second:
            assert second(HOLDER) == "the node's disk has no room for it"  # type: ignore[arg-type]
    with node.of_pod(UID, "shop") as third:
        assert isinstance(third(HOLDER), CoreRequest)  # type: ignore[arg-type]
