"""Reports that wait: durable, bounded, one agent at a time."""

from pathlib import Path

from stillframe_agent.metrics import Metrics
from stillframe_agent.spool import Spool

from stillframe.rpc.v1.intake_pb2 import Pod, Report


def report(number: int, pod: str = "pod-1") -> Report:
    return Report(id=f"{number:032x}", pod=Pod(uid=pod), message="x" * 100)


def spool(root: Path, max_bytes: int = 1 << 20, max_items: int = 100) -> Spool:
    return Spool(root, max_bytes, max_items, Metrics())


def test_reports_survive_and_keep_their_order(tmp_path: Path) -> None:
    first = spool(tmp_path)
    for number in (3, 1, 2):
        first.add(report(number))
    second = spool(tmp_path)
    assert second.load() == [f"{number:032x}" for number in (3, 1, 2)]
    assert second.get(f"{1:032x}") == report(1)


def test_a_removed_report_is_gone_for_good(tmp_path: Path) -> None:
    first = spool(tmp_path)
    first.add(report(1))
    first.remove(f"{1:032x}")
    first.remove(f"{1:032x}")
    assert first.get(f"{1:032x}") is None
    assert spool(tmp_path).load() == []


def test_a_report_added_twice_is_one(tmp_path: Path) -> None:
    first = spool(tmp_path)
    first.add(report(1))
    first.add(report(1, pod="again"))
    assert first.load() == [f"{1:032x}"]
    assert first.get(f"{1:032x}") == report(1, pod="again")


def test_a_full_spool_gives_up_the_oldest_of_the_pod_with_most(tmp_path: Path) -> None:
    full = spool(tmp_path, max_items=4)
    full.add(report(1, "quiet"))
    for number in range(2, 7):
        full.add(report(number, "loud"))
    assert full.load() == [f"{number:032x}" for number in (1, 4, 5, 6)]


def test_bytes_are_bounded_too(tmp_path: Path) -> None:
    size = report(1).ByteSize()
    full = spool(tmp_path, max_bytes=3 * size)
    for number in range(5):
        full.add(report(number))
    assert full.load() == [f"{number:032x}" for number in (2, 3, 4)]


def test_unreadable_and_unfinished_files_do_not_stop_the_rest(tmp_path: Path) -> None:
    spool(tmp_path).add(report(1))
    (tmp_path / f"{2:032x}.report").write_bytes(b"\xff\xff")
    (tmp_path / f".{3:032x}.report").write_bytes(report(3).SerializeToString())
    assert spool(tmp_path).load() == [f"{1:032x}"]
    assert sorted(path.name for path in tmp_path.iterdir()) == [".lock", f"{1:032x}.report"]


def test_only_one_agent_works_at_a_time(tmp_path: Path) -> None:
    first, second = spool(tmp_path), spool(tmp_path)
    assert first.try_lock()
    assert not second.try_lock()
