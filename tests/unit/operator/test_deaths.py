"""Deaths without a snapshot, from container statuses.

Aspects: which ends are crashes, pods that are being deleted, containers that were not injected,
both states, cause and remedy, and when a report explains a death.
"""

from datetime import timedelta
from typing import Any

import pytest
from stillframe_operator.deaths import deaths, explained, retractable
from stillframe_operator.text import rfc3339

from stillframe.api.crashreport import CrashReportStatus, RecentReport

FINISHED = "2026-01-02T03:04:05Z"


def ended(**fields: Any) -> dict[str, Any]:
    state = {"exitCode": 139, "reason": "Error", "finishedAt": FINISHED, **fields}
    return {"terminated": {"containerID": "containerd://" + "ab" * 32, **state}}


def pod(state: dict[str, Any], last: dict[str, Any] | None = None, **metadata: Any) -> Any:
    return {
        "metadata": {"namespace": "shop", "name": "web-0", "uid": "u-1", **metadata},
        "spec": {
            "nodeName": "node-a",
            "containers": [
                {"name": "app", "volumeMounts": [{"name": "stillframe-shm"}]},
                {"name": "other"},
            ],
        },
        "status": {"containerStatuses": [{"name": "app", "state": state, "lastState": last or {}}]},
    }


@pytest.mark.parametrize(
    ("fields", "signal", "cause"),
    [
        ({"exitCode": 139}, "SIGSEGV", "died without a snapshot"),
        ({"exitCode": 134}, "SIGABRT", "died without a snapshot"),
        ({"exitCode": 1, "signal": 11}, "SIGSEGV", "died without a snapshot"),
        ({"exitCode": 137}, "SIGKILL", "killed (SIGKILL)"),
        (
            {"exitCode": 137, "reason": "OOMKilled"},
            "SIGKILL",
            "out of memory: killed by the kernel",
        ),
    ],
)
def test_an_end_by_signal_is_a_death(fields: dict[str, Any], signal: str, cause: str) -> None:
    [death] = deaths(pod(ended(**fields)))
    assert (death.signal, death.cause, death.captured) == (signal, cause, "none")
    assert death.pod.container_id == "ab" * 32
    assert death.node == "node-a"
    assert death.message.startswith(f"{signal} at {FINISHED}. ")


@pytest.mark.parametrize("code", [0, 1, 127, 128, 130, 143, 255])
def test_an_exit_and_a_polite_stop_are_not(code: int) -> None:
    assert deaths(pod(ended(exitCode=code))) == []


def test_each_cause_is_a_group_of_its_own() -> None:
    oom: dict[str, Any] = {"exitCode": 137, "reason": "OOMKilled"}
    statuses = [{"exitCode": 137}, oom, {"exitCode": 139}]
    assert len({deaths(pod(ended(**s)))[0].fingerprint for s in statuses}) == 3


def test_both_states_count_and_keep_their_ids() -> None:
    last = ended(containerID="containerd://" + "cd" * 32)
    first, second = deaths(pod(ended(), last))
    assert first.id != second.id
    assert deaths(pod({"running": {}}, last))[0].id == first.id


def test_a_kill_after_deletion_began_is_no_death() -> None:
    going: dict[str, Any] = {
        "deletionTimestamp": "2026-01-02T03:04:30Z",
        "deletionGracePeriodSeconds": 30,
    }
    assert deaths(pod(ended(exitCode=137), **going)) == []
    assert len(deaths(pod(ended(finishedAt="2026-01-02T03:03:59Z"), **going))) == 1


def test_an_init_container_that_was_injected_counts() -> None:
    told = pod({})
    told["spec"]["initContainers"] = [
        {"name": "proxy", "volumeMounts": [{"name": "stillframe-shm"}]}
    ]
    told["status"]["initContainerStatuses"] = [{"name": "proxy", "state": ended()}]
    [death] = deaths(told)
    assert death.pod.container == "proxy"


def test_a_container_that_was_not_injected_is_not_ours() -> None:
    dead = pod(ended())
    dead["status"]["containerStatuses"][0]["name"] = "other"
    assert deaths(dead) == []


@pytest.mark.parametrize(("seconds", "expected"), [(0, True), (-59, True), (-61, False)])
def test_a_report_near_the_end_of_the_container_explains_it(seconds: int, expected: bool) -> None:
    [death] = deaths(pod(ended()))
    when = rfc3339(death.time + timedelta(seconds=seconds))
    recent = RecentReport(id="x", container_id=death.pod.container_id, time=when)
    assert explained(death, [CrashReportStatus(recent_reports=[recent])]) is expected
    other = RecentReport(id="x", container_id="ef" * 32, time=when)
    assert not explained(death, [CrashReportStatus(recent_reports=[other])])


def test_a_late_report_finds_what_was_recorded_instead_of_it() -> None:
    [death] = deaths(pod(ended()))
    assert (death.id, death.signal, death.fingerprint) in {
        (d.id, d.signal, d.fingerprint) for d in retractable(death)
    }
    [killed] = deaths(pod(ended(exitCode=137, reason="OOMKilled")))
    assert killed.fingerprint in {d.fingerprint for d in retractable(death)}
