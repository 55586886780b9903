"""The process's own cgroup: where it is found, and what its files say.

Covers: cgroup v2, v1 and both, as seen from the node and from our own namespaces;
what is none of its mounts; golden contents of v2 (6.18) and v1 (6.18), old kernels.
"""

import pytest

from stillframe.capture.facts.cgroup import FILES, Mount, Place, parse, parse_mounts, places
from stillframe.capture.facts.model import Cpu, Memory, Pids, Pressure

POD = "/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod1d3b.slice"
CONTAINER = f"{POD}/cri-containerd-a1.scope"


def mountinfo(root: str, point: str, kind: str, options: str = "rw", number: int = 31) -> str:
    return f"{number} 24 0:26 {root} {point} ro,nosuid,relatime - {kind} cgroup {options}\n"


def found(lines: list[str], text: str, controller: str = "memory") -> list[tuple[int, str, str]]:
    return [
        (place.mount.version, place.mount.point, place.path)
        for place in places(lines, parse_mounts(text), controller)
    ]


V1 = mountinfo("/kubepods/podX/a1", "/sys/fs/cgroup/memory", "cgroup", "rw,memory")
V1_CPU = mountinfo(
    "/kubepods/podX/a1", "/sys/fs/cgroup/cpu,cpuacct", "cgroup", "rw,cpu,cpuacct", 32
)
V2 = mountinfo(CONTAINER, "/sys/fs/cgroup", "cgroup2", "rw,nsdelegate,memory_recursiveprot", 33)


def test_a_container_sees_its_own_cgroup_at_the_mount_point() -> None:
    assert found([f"0::{CONTAINER}"], V2) == [(2, "/sys/fs/cgroup", ".")]


def test_a_process_in_a_cgroup_below_its_containers_is_found_there() -> None:
    assert found([f"0::{CONTAINER}/init.scope"], V2) == [(2, "/sys/fs/cgroup", "init.scope")]


def test_a_process_of_the_host_is_found_below_the_root() -> None:
    text = mountinfo("/", "/sys/fs/cgroup", "cgroup2")
    assert found(["0::/system.slice/x.service"], text) == [
        (2, "/sys/fs/cgroup", "system.slice/x.service")
    ]


def test_an_agent_in_a_cgroup_namespace_of_its_own_sees_both_relative_to_it() -> None:
    text = mountinfo("/../../podX/a1", "/sys/fs/cgroup", "cgroup2")
    assert found(["0::/../../podX/a1"], text) == [(2, "/sys/fs/cgroup", ".")]


def test_each_controller_of_v1_has_its_own_mount() -> None:
    lines = ["5:memory:/kubepods/podX/a1", "4:cpu,cpuacct:/kubepods/podX/a1", "0::/"]
    assert found(lines, V1 + V1_CPU) == [(1, "/sys/fs/cgroup/memory", ".")]
    assert found(lines, V1 + V1_CPU, "cpu") == [(1, "/sys/fs/cgroup/cpu,cpuacct", ".")]
    assert found(lines, V1 + V1_CPU, "pids") == []


def test_with_both_versions_v1_has_what_its_hierarchies_have() -> None:
    unified = mountinfo("/", "/sys/fs/cgroup/unified", "cgroup2", number=40)
    lines = ["0::/x", "5:memory:/kubepods/podX/a1"]
    assert found(lines, unified + V1) == [
        (1, "/sys/fs/cgroup/memory", "."),
        (2, "/sys/fs/cgroup/unified", "x"),
    ]


@pytest.mark.parametrize("path", ["/other", f"{CONTAINER}x", "/..", f"{CONTAINER}/../b"])
def test_what_is_not_below_a_mount_is_not_looked_for(path: str) -> None:
    assert found([f"0::{path}"], V2) == []


def test_of_mounts_on_one_point_the_last_is_tried_first() -> None:
    text = mountinfo("/", "/a", "cgroup2", number=1) + mountinfo("/", "/b", "cgroup2", number=2)
    assert [point for _, point, _ in found(["0::/x"], text)] == ["/b", "/a"]


def test_escapes_of_mountinfo_are_undone() -> None:
    assert parse_mounts(mountinfo("/a\\040b", "/c\\134d", "cgroup2")) == [
        Mount(31, "/a b", "/c\\d", 2, frozenset())
    ]
    assert Place(parse_mounts(V2)[0], ".").mount.id == 33


def test_other_filesystems_and_broken_lines_are_no_cgroups() -> None:
    text = "24 1 8:1 / / rw - ext4 /dev/sda rw\n33 1 0:5 /\n - cgroup2\n\n"
    assert parse_mounts(text) == []


V2_FILES = {
    "memory.current": "130023424\n",
    "memory.max": "134217728\n",
    "memory.peak": "134217728\n",
    "memory.swap.current": "0\n",
    "memory.events": "low 0\nhigh 0\nmax 61\noom 1\noom_kill 1\noom_group_kill 0\n",
    "memory.pressure": (
        "some avg10=12.50 avg60=3.21 avg300=0.80 total=2210873\n"
        "full avg10=11.10 avg60=2.90 avg300=0.70 total=2010873\n"
    ),
    "cpu.stat": (
        "usage_usec 812345\nuser_usec 700000\nsystem_usec 112345\ncore_sched.force_idle_usec 0\n"
        "nr_periods 80\nnr_throttled 31\nthrottled_usec 1500000\nnr_bursts 0\nburst_usec 0\n"
    ),
    "cpu.max": "50000 100000\n",
    "pids.current": "12\n",
    "pids.max": "max\n",
}
V1_FILES = {
    "memory.usage_in_bytes": "130023424\n",
    "memory.limit_in_bytes": "134217728\n",
    "memory.max_usage_in_bytes": "134217728\n",
    "memory.failcnt": "61\n",
    "memory.oom_control": "oom_kill_disable 0\nunder_oom 0\noom_kill 1\n",
    "cpu.stat": (
        "nr_periods 80\nnr_throttled 31\nthrottled_time 1500000000\nnr_bursts 0\nburst_time 0\n"
    ),
    "cpu.cfs_quota_us": "50000\n",
    "cpu.cfs_period_us": "100000\n",
    "pids.current": "12\n",
    "pids.max": "100\n",
}
CPU = Cpu(limit=0.5, periods=80, throttled_periods=31, throttled_seconds=1.5)


@pytest.mark.parametrize(("version", "files"), [(2, V2_FILES), (1, V1_FILES)])
def test_the_fixtures_are_the_files_that_are_read(version: int, files: dict[str, str]) -> None:
    assert set(files) == {name for group in FILES[version].values() for name in group}


def test_files_of_v2() -> None:
    assert parse(2, "memory", V2_FILES) == Memory(
        current=130023424,
        limit=134217728,
        peak=134217728,
        swap=0,
        events={"low": 0, "high": 0, "max": 61, "oom": 1, "oom_kill": 1, "oom_group_kill": 0},
        pressure=Pressure(some_avg10=12.5, some_avg60=3.21, full_avg10=11.1, full_avg60=2.9),
    )
    assert parse(2, "cpu", V2_FILES) == CPU
    assert parse(2, "pids", V2_FILES) == Pids(current=12, limit=None)


def test_files_of_v1() -> None:
    assert parse(1, "memory", V1_FILES) == Memory(
        current=130023424,
        limit=134217728,
        peak=134217728,
        events={"failcnt": 61, "oom_kill": 1},
    )
    assert parse(1, "cpu", V1_FILES) == CPU
    assert parse(1, "pids", V1_FILES) == Pids(current=12, limit=100)


def test_no_limit_is_none() -> None:
    memory = parse(2, "memory", V2_FILES | {"memory.max": "max\n"})
    assert isinstance(memory, Memory)
    assert memory.limit is None
    unlimited = {"memory.limit_in_bytes": "9223372036854771712\n"}
    memory = parse(1, "memory", V1_FILES | unlimited)
    assert isinstance(memory, Memory)
    assert memory.limit is None
    for version, files in (
        (2, V2_FILES | {"cpu.max": "max 100000\n"}),
        (1, V1_FILES | {"cpu.cfs_quota_us": "-1\n"}),
    ):
        cpu = parse(version, "cpu", files)
        assert isinstance(cpu, Cpu)
        assert cpu.limit is None


def test_what_an_older_kernel_does_not_have_is_not_known() -> None:
    """memory.peak is of Linux 5.19; PSI and swap accounting may be off."""
    assert parse(2, "memory", {"memory.current": "1\n"}) == Memory(current=1)
    assert parse(1, "memory", {"memory.usage_in_bytes": "1\n"}) == Memory(current=1)


@pytest.mark.parametrize("version", [1, 2])
@pytest.mark.parametrize("controller", ["memory", "cpu", "pids"])
def test_a_controller_that_is_not_there_is_none(version: int, controller: str) -> None:
    """The root cgroup of v2 has a cpu.stat without periods, and no memory.current."""
    assert parse(version, controller, {"cpu.stat": "usage_usec 5\n"}) is None
