"""What only the leader does, and that losing the Lease hurts nobody else.

Aspects: each thing kopf does (it fails when kopf does not run), the scan for missed injections,
retention, the Lease: one leader, taken away under load, released at the end.
"""

import asyncio
import json
import ssl
import time
import urllib.request
from collections.abc import Awaitable, Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from stillframe.rpc.v1 import intake_pb2
from tests.api.operator import cluster
from tests.api.operator.agent import Agent, placed, published_ca, report
from tests.api.operator.cluster import crashreports
from tests.api.operator.conftest import RunReplica
from tests.api.operator.forwarder import Forwarder, api_address
from tests.api.operator.process import Replica
from tests.support.kube import Kube, Manifest, until

QUICK = {
    "batch_seconds": 0.2,
    "death_grace_seconds": 1,
    "scan_seconds": 0.5,
    "sweep_seconds": 0.5,
    "lease_seconds": 7,
    "renew_seconds": 2.4,
    "retry_seconds": 1,
}


@pytest.fixture(scope="module")
def leader(system: Kube, run_replica: RunReplica) -> Iterator[Replica]:
    with run_replica("leader", max_reports_per_namespace=3, **QUICK) as replica:
        until(lambda: replica.leads, "the replica to lead")
        yield replica


@pytest.fixture
def shop(system: Kube) -> str:
    return cluster.namespace(system)


@pytest.fixture
def agent(system: Kube, leader: Replica) -> Callable[[], Agent]:
    ca = published_ca(system, cluster.SYSTEM)
    token = cluster.agent_token(system, cluster.NODES[0])
    return lambda: Agent(leader.intake_port, ca, token)


def terminated(
    code: int, reason: str = "Error", container_id: str = "cd" * 32, when: datetime | None = None
) -> Manifest:
    finished = (when or datetime.now(UTC)).strftime("%Y-%m-%dT%H:%M:%SZ")
    ended = {
        "exitCode": code,
        "reason": reason,
        "startedAt": finished,
        "finishedAt": finished,
        "containerID": f"containerd://{container_id}",
    }
    container = {
        "name": "app",
        "image": "example/app:1",
        "imageID": "",
        "ready": False,
        "restartCount": 1,
        "state": {"waiting": {"reason": "CrashLoopBackOff"}},
        "lastState": {"terminated": ended},
    }
    return {"phase": "Running", "containerStatuses": [container]}


def reported(kube: Kube, where: str) -> list[Manifest]:
    return until(lambda: crashreports(kube, where), f"a CrashReport in {where}")


def counted(kube: Kube, where: str) -> Callable[[], list[Manifest]]:
    return lambda: [r for r in crashreports(kube, where) if r.get("status", {}).get("count")]


@pytest.mark.parametrize(
    ("ended", "signal", "cause"),
    [
        ((137, "OOMKilled"), "SIGKILL", "out of memory: killed by the kernel"),
        ((137, "Error"), "SIGKILL", "killed (SIGKILL)"),
        ((139, "Error"), "SIGSEGV", "died without a snapshot"),
    ],
)
def test_kopf_records_deaths_that_left_no_snapshot(
    system: Kube, leader: Replica, ended: tuple[int, str], signal: str, cause: str
) -> None:
    shop = cluster.namespace(system)
    made = cluster.created(system, shop, cluster.pod("solo", injected=True))
    cluster.set_status(system, made, terminated(*ended))
    [found] = until(counted(system, shop), "the death to be recorded")
    assert found["spec"]["signal"] == signal
    assert found["spec"]["workload"]["ref"] == "pod/solo"
    assert found["status"]["cause"] == cause
    assert found["status"]["count"] == 1
    conditions = {c["type"]: (c["status"], c["reason"]) for c in found["status"]["conditions"]}
    assert conditions["Captured"] == ("False", "NothingCaptured")
    assert conditions["Verified"] == ("True", "ApiServer")
    until(lambda: cluster.events(system, shop, "CrashNotCaptured"), "the event on the pod")


async def test_a_death_that_was_reported_is_not_recorded_again(
    system: Kube, leader: Replica, agent: Callable[[], Agent], shop: str
) -> None:
    made = cluster.created(system, shop, cluster.pod("solo", injected=True))
    other = cluster.created(system, shop, cluster.pod("other", injected=True))
    crash = report(made)
    await agent().submit(crash)
    cluster.set_status(system, made, terminated(139, container_id=crash.pod.container_id))
    # A death after it that nobody reported: once that is recorded, the first was looked at.
    cluster.set_status(system, other, terminated(137, container_id="ef" * 32))
    until(lambda: len(counted(system, shop)()) == 2, "the other death to be recorded")
    assert sorted(r["spec"]["signal"] for r in crashreports(system, shop)) == ["SIGKILL", "SIGSEGV"]


async def test_a_report_that_comes_late_takes_the_record_back(
    system: Kube, leader: Replica, agent: Callable[[], Agent], shop: str
) -> None:
    made = cluster.created(system, shop, cluster.pod("solo", injected=True))
    cluster.set_status(system, made, terminated(139, container_id="ab" * 32))
    [blind] = until(counted(system, shop), "the death to be recorded")
    crash = report(made)
    crash.crashed_at.FromDatetime(datetime.now(UTC) - timedelta(seconds=5))
    answer = await agent().submit(crash)
    [found] = crashreports(system, shop)
    assert found["metadata"]["name"] == answer.name != blind["metadata"]["name"]
    assert found["status"]["count"] == 1


async def test_kopf_turns_a_deleted_crashreport_into_a_tombstone(
    system: Kube, leader: Replica, agent: Callable[[], Agent], shop: str
) -> None:
    made = cluster.created(system, shop, cluster.pod("solo"))
    one = agent()
    answer = await one.submit(report(made))
    assert answer.uid not in await one.sync()
    system.kubectl("delete", "crashreport", "-n", shop, answer.name)
    await eventually(lambda: buried(one, answer.uid))


async def buried(one: Agent, uid: str) -> bool:
    return uid in await one.sync()


async def eventually(condition: Callable[[], Awaitable[bool]]) -> None:
    async with asyncio.timeout(20):
        while not await condition():  # noqa: ASYNC110 -- the condition is in the cluster
            await asyncio.sleep(0.1)


async def test_kopf_refreshes_fetch_commands_when_the_artifacts_pod_changes(
    system: Kube, leader: Replica, agent: Callable[[], Agent], shop: str
) -> None:
    made = cluster.created(system, shop, cluster.pod("solo"))
    crash = report(made)
    answer = await agent().submit(crash)

    def command_of(one: intake_pb2.Report) -> str:
        [found] = crashreports(system, shop)
        command: str = found["status"]["samples"][one.id].get("fetch", "")
        return command

    def fetch() -> str:
        return command_of(crash)

    def serve(name: str) -> Manifest:
        labels = {"app.kubernetes.io/component": "artifacts"}
        manifest = cluster.pod(name, labels=labels)
        manifest["spec"]["serviceAccountName"] = "stillframe-agent"
        serving = cluster.created(system, cluster.SYSTEM, manifest)
        cluster.set_status(system, serving, {"phase": "Running"})
        return serving

    def command(name: str) -> str:
        return f"kubectl cp -n stillframe {name}:/artifacts/{crash.id} ./{crash.id}"

    first = serve("artifacts-1")
    until(lambda: fetch() == command("artifacts-1"), "the command of the first pod")
    cluster.forget(system, first)
    second = serve("artifacts-2")
    until(lambda: fetch() == command("artifacts-2"), "the command of the second pod")
    cluster.forget(system, second)
    until(lambda: fetch() == "", "no command where nothing serves")
    third = serve("artifacts-3")
    until(lambda: fetch() == command("artifacts-3"), "the command of the third pod")
    await agent().place(placed(crash, answer, url="", deleted=True))
    assert fetch() == ""
    other = report(made)
    await agent().submit(other)
    cluster.forget(system, third)
    fourth = serve("artifacts-4")
    until(lambda: "artifacts-4" in command_of(other), "a refresh")
    assert fetch() == ""
    cluster.forget(system, fourth)


def test_a_pod_that_missed_its_injection_is_told(system: Kube, leader: Replica, shop: str) -> None:
    wanted = {"stillframe.dev/capture": "snapshot"}
    made = cluster.created(system, shop, cluster.pod("missed", annotations=wanted))
    cluster.created(system, shop, cluster.pod("quiet"))
    [told] = until(lambda: cluster.events(system, shop, "NotInjected"), "the event on the pod")
    assert told["involvedObject"]["uid"] == made["metadata"]["uid"]
    until(lambda: leader.metric("stillframe_uninjected_pods") >= 1, "the pod to be counted")


async def test_the_least_recently_seen_report_above_the_cap_goes(
    system: Kube, leader: Replica, agent: Callable[[], Agent], shop: str
) -> None:
    made = cluster.created(system, shop, cluster.pod("solo"))
    one, now = agent(), datetime.now(UTC)
    for number in reversed(range(4)):  # one that is not counted yet is taken for the newest
        crash = report(made, fingerprint=f"v1:{number:016x}")
        crash.crashed_at.FromDatetime(now - timedelta(minutes=number))
        await one.submit(crash)

    def left() -> list[str]:
        return sorted(item["spec"]["fingerprint"][-1] for item in crashreports(system, shop))

    until(lambda: left() == ["0", "1", "2"], "the oldest to go")


async def test_the_lease_is_taken_away_under_load_and_nobody_notices(
    system: Kube, run_replica: RunReplica, shop: str, leader: Replica, agent: Callable[[], Agent]
) -> None:
    made = cluster.created(system, shop, cluster.pod("solo"))
    one = agent()
    trust = ssl.create_default_context(cadata=published_ca(system, cluster.SYSTEM))
    failures: list[object] = []
    calls = 0

    def review() -> Any:
        body = {"request": {"uid": "u", "namespace": shop, "object": cluster.pod("x")}}
        request = urllib.request.Request(
            f"https://localhost:{leader.webhook_port}/inject/pod", json.dumps(body).encode()
        )
        with urllib.request.urlopen(request, context=trust) as answer:
            return json.load(answer)["response"]["allowed"]

    async def load(call: Callable[[], Any]) -> None:
        nonlocal calls
        while not done.is_set():
            try:
                assert await call()
            except Exception as error:
                failures.append(error)
            calls += 1

    async def submit() -> bool:
        return (await one.submit(report(made))).name != ""

    done = asyncio.Event()
    tasks = [
        asyncio.create_task(load(call))
        for call in (*[submit] * 4, *[lambda: asyncio.to_thread(review)] * 2)
    ]
    await asyncio.to_thread(take_lease, system, "somebody-else")
    await asyncio.to_thread(until, lambda: not leader.leads, "the leader to step down")
    await asyncio.to_thread(until, lambda: leader.leads, "the leader to lead again")
    done.set()
    await asyncio.gather(*tasks)
    assert failures == []
    assert calls > 100
    other = cluster.created(system, shop, cluster.pod("after", injected=True))
    cluster.set_status(system, other, terminated(137))
    until(
        lambda: any(r["spec"]["signal"] == "SIGKILL" for r in crashreports(system, shop)),
        "kopf to work again",
    )


def take_lease(kube: Kube, holder: str) -> None:
    """As another replica would, if ours were late; it holds for one lease duration."""
    now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
    spec = {"spec": {"holderIdentity": holder, "renewTime": now, "acquireTime": now}}
    lease = ("lease", "-n", cluster.SYSTEM, "stillframe-operator")
    kube.kubectl("patch", *lease, "--type=merge", "-p", json.dumps(spec))


def test_one_replica_leads_and_another_follows_at_once_when_it_ends(
    system: Kube, leader: Replica, run_replica: RunReplica
) -> None:
    with run_replica("second", **QUICK) as second:
        assert (leader.leads, second.leads) == (True, False)
        assert leader.end() == 0
        until(lambda: second.leads, "the second to lead", QUICK["lease_seconds"] / 2)


def test_a_leader_that_cannot_reach_the_api_server_steps_down_before_another_may_lead(
    system: Kube, run_replica: RunReplica
) -> None:
    with Forwarder(api_address(system)) as way, run_replica("cut-off", way.url, **QUICK) as cut_off:
        until(lambda: cut_off.leads, "the replica to lead")
        with run_replica("standby", **QUICK) as standby:
            way.freeze()
            frozen = time.monotonic()
            until(lambda: not cut_off.leads, "the replica to step down", QUICK["lease_seconds"])
            assert not standby.leads
            until(lambda: standby.leads, "the other to lead", 2 * QUICK["lease_seconds"])
            assert time.monotonic() - frozen > QUICK["lease_seconds"] - QUICK["retry_seconds"]
            assert not cut_off.leads
