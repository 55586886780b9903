"""The intake on a real API server: who may report, what becomes of a report, what is never lost.

Aspects: the CrashReport a report becomes, grouping, two replicas (the same report twice, exact
counts under concurrency), tokens, nodes, pods and namespaces that are gone, hostile reports,
pressure, a replica that ends; where a sample is: told, told twice, by nobody who may, of nothing.
"""

import asyncio
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from functools import partial

import grpc
import pytest

from stillframe.rpc.v1 import intake_pb2
from tests.api.operator import cluster
from tests.api.operator.agent import Agent, placed, published_ca, report
from tests.api.operator.cluster import crashreports
from tests.api.operator.conftest import RunReplica
from tests.api.operator.process import Replica
from tests.support.kube import Kube, Manifest, until

MakeAgent = Callable[..., Agent]


@pytest.fixture(scope="module")
def replicas(run_replica: RunReplica) -> Iterator[tuple[Replica, Replica]]:
    with run_replica("one", batch_seconds=1) as one, run_replica("two", batch_seconds=1) as two:
        yield one, two


@pytest.fixture(scope="module")
def tokens(system: Kube) -> dict[str, str]:
    return {node: cluster.agent_token(system, node) for node in cluster.NODES}


@pytest.fixture
def agent(system: Kube, replicas: tuple[Replica, Replica], tokens: dict[str, str]) -> MakeAgent:
    """Makes an agent of a node that talks to one of the replicas."""
    ca = published_ca(system, cluster.SYSTEM)

    def make(node: str = cluster.NODES[0], which: int = 0, token: str = "") -> Agent:
        return Agent(replicas[which].intake_port, ca, token or tokens[node])

    return make


@pytest.fixture
def shop(system: Kube) -> str:
    return cluster.namespace(system)


async def refused(agent: Agent, crash: intake_pb2.Report) -> grpc.aio.AioRpcError:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await agent.submit(crash)
    return caught.value


async def test_a_report_becomes_a_crashreport_of_its_workload(
    system: Kube, agent: MakeAgent, shop: str
) -> None:
    made = cluster.deployment_pod(system, shop, "web")
    crash = report(made)
    answer = await agent().submit(crash)
    [found] = crashreports(system, shop)
    assert (answer.namespace, answer.name, answer.uid) == (
        shop,
        found["metadata"]["name"],
        found["metadata"]["uid"],
    )
    assert answer.sample_kept
    assert found["spec"] == {
        "workload": {
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "name": "web",
            "ref": "deployment/web",
        },
        "container": "app",
        "signal": "SIGSEGV",
        "fingerprint": "v1:0123456789abcdef",
        "triage": "Open",
    }
    status = found["status"]
    assert status["count"] == 1
    assert status["topFrame"] == "parse_header (app.c:42)"
    assert status["lastImage"] == "example/app:1"
    assert status["samples"][crash.id]["pod"] == made["metadata"]["name"]
    conditions = {c["type"]: (c["status"], c["reason"]) for c in status["conditions"]}
    assert conditions == {
        "Captured": ("True", "Snapshot"),
        "Verified": ("True", "Attested"),
        "ArtifactsAvailable": ("False", "NotServed"),
        "Throttled": ("False", "WithinLimits"),
    }
    told = until(lambda: cluster.events(system, shop, "CrashCaptured"), "the event on the pod")
    assert told[0]["involvedObject"]["uid"] == made["metadata"]["uid"]
    assert f"kubectl describe crashreport -n {shop} {answer.name}" in told[0]["message"]


async def test_ten_of_a_kind_are_one_report_and_a_second_kind_is_another(
    system: Kube, agent: MakeAgent, shop: str
) -> None:
    made = cluster.deployment_pod(system, shop, "web")
    one = agent()
    await asyncio.gather(*(one.submit(report(made)) for _ in range(10)))
    await one.submit(report(made, fingerprint="v1:fedcba9876543210"))
    counts = sorted(item["status"]["count"] for item in crashreports(system, shop))
    assert counts == [1, 10]


async def test_the_same_report_through_two_replicas_counts_once(
    system: Kube, agent: MakeAgent, shop: str
) -> None:
    crash = report(cluster.created(system, shop, cluster.pod("solo")))
    answers = await asyncio.gather(
        agent(which=0).submit(crash), agent(which=1).submit(crash), agent(which=0).submit(crash)
    )
    assert len({answer.uid for answer in answers}) == 1
    await agent(which=1).submit(crash)
    [found] = crashreports(system, shop)
    assert found["status"]["count"] == 1


async def test_the_count_is_exact_under_concurrency(
    system: Kube, agent: MakeAgent, shop: str
) -> None:
    made = cluster.deployment_pod(system, shop, "web")
    agents = [agent(which=0), agent(which=1)]
    answers = await asyncio.gather(
        *(agents[number % 2].submit(report(made)) for number in range(200))
    )
    assert len({answer.uid for answer in answers}) == 1
    [found] = crashreports(system, shop)
    assert found["status"]["count"] == 200
    assert len(found["status"]["samples"]) == 5
    assert len(found["status"]["recentReports"]) == 64


async def test_a_token_of_another_audience_is_unauthenticated(
    system: Kube, agent: MakeAgent, shop: str
) -> None:
    crash = report(cluster.created(system, shop, cluster.pod("solo")))
    wrong = cluster.agent_token(system, cluster.NODES[0], audience="somebody-else")
    for token in (wrong, "nonsense"):
        error = await refused(agent(token=token), crash)
        assert error.code() is grpc.StatusCode.UNAUTHENTICATED
    assert crashreports(system, shop) == []


async def test_another_service_account_is_denied(system: Kube, agent: MakeAgent, shop: str) -> None:
    crash = report(cluster.created(system, shop, cluster.pod("solo")))
    token = cluster.agent_token(system, cluster.NODES[0], owner="stillframe-operator")
    error = await refused(agent(token=token), crash)
    assert error.code() is grpc.StatusCode.PERMISSION_DENIED
    assert "may call the intake" in (error.details() or "")


async def test_a_token_without_a_node_is_denied(system: Kube, agent: MakeAgent, shop: str) -> None:
    crash = report(cluster.created(system, shop, cluster.pod("solo")))
    command = ("create", "token", "stillframe-agent", "-n", cluster.SYSTEM)
    token = system.kubectl(*command, "--audience=stillframe-intake").strip()
    error = await refused(agent(token=token), crash)
    assert error.code() is grpc.StatusCode.PERMISSION_DENIED


async def test_a_pod_of_another_node_is_denied(system: Kube, agent: MakeAgent, shop: str) -> None:
    made = cluster.created(system, shop, cluster.pod("solo", cluster.NODES[1]))
    error = await refused(agent(cluster.NODES[0]), report(made))
    assert error.code() is grpc.StatusCode.PERMISSION_DENIED
    error = await refused(agent(cluster.NODES[1]), report(made, node=cluster.NODES[0]))
    assert error.code() is grpc.StatusCode.PERMISSION_DENIED
    assert crashreports(system, shop) == []


async def test_a_pod_that_is_gone_counts_unverified_for_its_workload(
    system: Kube, agent: MakeAgent, shop: str
) -> None:
    made = cluster.deployment_pod(system, shop, "web")
    cluster.forget(system, made)
    await agent().submit(report(made))
    [found] = crashreports(system, shop)
    assert found["spec"]["workload"]["ref"] == "deployment/web"
    [verified] = [c for c in found["status"]["conditions"] if c["type"] == "Verified"]
    assert (verified["status"], verified["reason"]) == ("False", "PodGone")


async def test_a_new_pod_with_an_old_name_is_not_the_reported_one(
    system: Kube, agent: MakeAgent, shop: str
) -> None:
    old = cluster.created(system, shop, cluster.pod("db-0"))
    cluster.forget(system, old)
    cluster.created(system, shop, cluster.pod("db-0"))
    await agent().submit(report(old))
    [found] = crashreports(system, shop)
    [verified] = [c for c in found["status"]["conditions"] if c["type"] == "Verified"]
    assert verified["reason"] == "PodGone"
    assert cluster.events(system, shop, "CrashCaptured") == []


async def test_a_report_whose_namespace_is_gone_is_acknowledged(
    agent: MakeAgent, replicas: tuple[Replica, Replica]
) -> None:
    metadata = {"namespace": "was-here", "name": "web-0", "uid": "aa-bb"}
    name = 'stillframe_intake_calls_total{call="Submit",result="namespace_gone"}'
    before = replicas[0].metric(name)
    answer = await agent().submit(report({"metadata": metadata}))
    assert (answer.namespace, answer.name, answer.uid) == ("", "", "")
    assert replicas[0].metric(name) == before + 1


async def test_a_malformed_report_is_refused_for_good(
    system: Kube, agent: MakeAgent, shop: str
) -> None:
    made = cluster.created(system, shop, cluster.pod("solo"))
    error = await refused(agent(), report(made, id="../../x"))
    assert error.code() is grpc.StatusCode.INVALID_ARGUMENT


async def test_hostile_text_is_cleaned_and_the_largest_report_fits(
    system: Kube, agent: MakeAgent, shop: str
) -> None:
    made = cluster.created(system, shop, cluster.pod("solo"))
    for _ in range(6):
        crash = report(made, cause="\x1b[2J" + "😀" * 9999, message="m\n\0" * 9999)
        crash.stack.extend(["\u202e" + "é" * 999] * 200)
        await agent().submit(crash)
    [found] = crashreports(system, shop)
    assert found["status"]["count"] == 6
    assert found["status"]["cause"].startswith("?[2J😀")
    raw = system.kubectl("get", "--raw", _raw_path(found))
    assert len(raw.encode()) <= 32 * 1024


async def test_an_owner_nobody_could_have_made_up_still_fits(
    system: Kube, agent: MakeAgent, shop: str
) -> None:
    owners = [cluster.owner("e" * 499 + "/v1", "K" * 999, "n\t" * 999, "1")]
    made = cluster.created(system, shop, cluster.pod("solo", ownerReferences=owners))
    await agent().submit(report(made))
    [found] = crashreports(system, shop)
    assert len(found["spec"]["workload"]["name"]) == 253


async def test_too_many_groups_at_once_are_asked_to_come_later(
    system: Kube, agent: MakeAgent, shop: str
) -> None:
    made = cluster.created(system, shop, cluster.pod("solo"))
    one = agent()
    crashes = [report(made, fingerprint=f"v1:{number:016x}") for number in range(60)]
    answers = await asyncio.gather(*map(one.submit, crashes), return_exceptions=True)
    errors = [answer for answer in answers if isinstance(answer, grpc.aio.AioRpcError)]
    codes = Counter(error.code() for error in errors)
    assert set(codes) == {grpc.StatusCode.RESOURCE_EXHAUSTED}
    delays = [retry_after(error) for error in errors]
    assert all(0 < delay <= 10_000 for delay in delays)
    assert len(crashreports(system, shop)) == 60 - len(errors)
    again = crashes[answers.index(errors[0])]

    async def comes_later() -> None:
        while True:
            try:
                await one.submit(again)
            except grpc.aio.AioRpcError as error:
                delay = retry_after(error)
                await asyncio.sleep(delay / 1000)
            else:
                return

    await asyncio.wait_for(comes_later(), 30)
    [throttled] = [
        item
        for item in crashreports(system, shop)
        if item["spec"]["fingerprint"] == again.fingerprint
    ]
    conditions = {c["type"]: c["status"] for c in throttled["status"]["conditions"]}
    assert conditions["Throttled"] == "True"


async def test_an_old_crash_keeps_its_time(system: Kube, agent: MakeAgent, shop: str) -> None:
    crash = report(cluster.created(system, shop, cluster.pod("solo")))
    crash.crashed_at.FromDatetime(datetime.now(UTC) - timedelta(days=2))
    await agent().submit(crash)
    [found] = crashreports(system, shop)
    seconds = crash.crashed_at.ToDatetime(tzinfo=UTC)
    assert found["status"]["firstSeen"] == seconds.strftime("%Y-%m-%dT%H:%M:%SZ")


async def test_a_replica_that_ends_answers_what_it_has_taken(
    system: Kube, run_replica: RunReplica, tokens: dict[str, str], shop: str
) -> None:
    made = cluster.deployment_pod(system, shop, "web")
    with run_replica("ending", batch_seconds=60) as ending:
        one = Agent(
            ending.intake_port, published_ca(system, cluster.SYSTEM), tokens[cluster.NODES[0]]
        )
        await one.submit(report(made))
        waiting = [asyncio.create_task(one.submit(report(made))) for _ in range(5)]
        taken = partial(ending.metric, "stillframe_submits_in_flight")
        await asyncio.to_thread(until, lambda: taken() == 5, "five reports to wait")
        status = await asyncio.to_thread(ending.end)
        assert len({answer.uid for answer in await asyncio.gather(*waiting)}) == 1
    assert status == 0
    [found] = crashreports(system, shop)
    assert found["status"]["count"] == 6


async def test_a_crashreport_says_where_its_sample_is(
    system: Kube, agent: MakeAgent, shop: str
) -> None:
    crash = report(cluster.created(system, shop, cluster.pod("solo")))
    one, two = agent(which=0), agent(which=1)
    answer = await one.submit(crash)
    uploaded = placed(crash, answer)
    deleted = placed(crash, answer, url="", deleted=True)

    await one.place(uploaded)
    [told] = crashreports(system, shop)
    sample = told["status"]["samples"][crash.id]
    assert sample["url"] == f"s3://evidence/cluster-1/{shop}/{crash.id}/"
    assert sample["artifacts"] == [
        {"kind": "snapshot", "file": "snapshot.core", "bytes": 65536, "sha256": "ab" * 32}
    ]
    assert "expires" in sample
    assert available(told) == ("True", "InStore")

    await two.place(deleted)
    await one.place(uploaded)  # a call that was overtaken
    [later] = crashreports(system, shop)
    sample = later["status"]["samples"][crash.id]
    assert (sample["url"], "expires" in sample, "fetch" in sample) == (uploaded.url, False, False)
    version = later["metadata"]["resourceVersion"]
    await asyncio.gather(one.place(uploaded), two.place(deleted))
    [same] = crashreports(system, shop)
    assert same["metadata"]["resourceVersion"] == version
    assert same["status"]["count"] == 1


async def test_a_sample_that_was_deleted_and_is_nowhere_else_is_said_to_be_gone(
    system: Kube, agent: MakeAgent, shop: str
) -> None:
    crash = report(cluster.created(system, shop, cluster.pod("solo")))
    answer = await agent().submit(crash)
    await agent().place(placed(crash, answer, url="", deleted=True))
    [told] = crashreports(system, shop)
    assert available(told) == ("False", "Deleted")


async def test_what_nobody_wants_to_know_is_acknowledged_and_forgotten(
    system: Kube, agent: MakeAgent, shop: str
) -> None:
    crash = report(cluster.created(system, shop, cluster.pod("solo")))
    answer = await agent().submit(crash)
    [before] = crashreports(system, shop)
    never_heard = report({"metadata": {"namespace": shop, "name": "solo", "uid": "aa"}})
    for unwanted in (
        placed(never_heard, answer),
        placed(crash, answer, uid="aa-bb"),
        placed(crash, answer, name="never-made"),
        placed(
            crash,
            answer,
            namespace="was-here",
            url=f"s3://evidence/was-here/{crash.id}/",
        ),
    ):
        await agent().place(unwanted)
    assert crashreports(system, shop) == [before]
    system.kubectl("delete", "crashreport", "-n", shop, answer.name)
    await agent().place(placed(crash, answer))
    assert crashreports(system, shop) == []


async def test_only_the_agent_of_a_samples_node_says_where_it_is(
    system: Kube, agent: MakeAgent, shop: str
) -> None:
    crash = report(cluster.created(system, shop, cluster.pod("solo")))
    answer = await agent().submit(crash)
    [before] = crashreports(system, shop)
    for token, code in (
        ("nonsense", grpc.StatusCode.UNAUTHENTICATED),
        (cluster.agent_token(system, cluster.NODES[1]), grpc.StatusCode.PERMISSION_DENIED),
    ):
        for where in (placed(crash, answer), placed(crash, answer, url="", deleted=True)):
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await agent(token=token).place(where)
            assert caught.value.code() is code
    assert crashreports(system, shop) == [before]


@pytest.mark.parametrize(
    "url",
    [
        "https://evil.example.org/",
        "s3://evidence/cluster-1/",
        "s3://evidence/{namespace}/{id}/\nfetch: rm -rf /",
        "s3://key:secret@evidence/{namespace}/{id}/",
        "s3://evidence/?X-Amz-Signature=1/{namespace}/{id}/",
        "s3://evidence/" + "x" * 9999 + "/{namespace}/{id}/",
    ],
)
async def test_an_odd_place_is_refused_for_good(
    system: Kube, agent: MakeAgent, shop: str, url: str
) -> None:
    crash = report(cluster.created(system, shop, cluster.pod("solo")))
    answer = await agent().submit(crash)
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await agent().place(placed(crash, answer, url=url.format(namespace=shop, id=crash.id)))
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    [found] = crashreports(system, shop)
    assert "url" not in found["status"]["samples"][crash.id]


async def test_places_and_counts_do_not_lose_each_other(
    system: Kube, agent: MakeAgent, shop: str
) -> None:
    made = cluster.deployment_pod(system, shop, "web")
    crashes = [report(made) for _ in range(5)]
    answers = [await agent().submit(crash) for crash in crashes]
    await asyncio.gather(
        *(agent(which=n % 2).submit(report(made)) for n in range(40)),
        *(
            agent(which=n % 2).place(placed(crash, answer))
            for n, (crash, answer) in enumerate(zip(crashes, answers, strict=True))
        ),
    )
    [found] = crashreports(system, shop)
    assert found["status"]["count"] == 45
    assert {s.get("url", "") for s in found["status"]["samples"].values()} == {
        f"s3://evidence/cluster-1/{shop}/{crash.id}/" for crash in crashes
    }


async def test_a_node_that_places_too_much_is_asked_to_come_later(
    system: Kube, agent: MakeAgent, shop: str
) -> None:
    one = agent(cluster.NODES[1])
    crash = report({"metadata": {"namespace": shop, "name": "solo", "uid": "aa"}})
    nobody = intake_pb2.SubmitResponse(namespace=shop, name="nobody", uid="aa")
    answers = await asyncio.gather(
        *(one.place(placed(crash, nobody)) for _ in range(150)), return_exceptions=True
    )
    errors = [answer for answer in answers if isinstance(answer, grpc.aio.AioRpcError)]
    assert {error.code() for error in errors} == {grpc.StatusCode.RESOURCE_EXHAUSTED}
    assert all(0 < retry_after(error) <= 1000 for error in errors)
    await agent(cluster.NODES[0]).place(placed(crash, nobody))


def available(found: Manifest) -> tuple[str, str]:
    """Status and reason of the condition that tells whether artifacts can be had."""
    [said] = [c for c in found["status"]["conditions"] if c["type"] == "ArtifactsAvailable"]
    return said["status"], said["reason"]


def retry_after(error: grpc.aio.AioRpcError) -> int:
    """Milliseconds the operator asks for."""
    return int(dict(error.trailing_metadata() or ())["retry-after-ms"])


def _raw_path(found: Manifest) -> str:
    metadata = found["metadata"]
    kind = f"/apis/stillframe.dev/v1alpha1/namespaces/{metadata['namespace']}/crashreports"
    return f"{kind}/{metadata['name']}"
