"""Grouping: every report counts once, in any order and batching, and the object stays bounded."""

from datetime import UTC, datetime, timedelta
from random import Random

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st
from stillframe_operator.crash import Crash, Pod
from stillframe_operator.group import (
    Arrival,
    fetch_template,
    merge,
    place,
    report_name,
    retract,
    spec_of,
    with_fetch,
)
from stillframe_operator.placement import Placement
from stillframe_operator.workload import workload

from stillframe.api.crashreport import (
    MAX_OBJECT_BYTES,
    MAX_RECENT_REPORTS,
    MAX_SAMPLES,
    MAX_STORE_URL,
    CrashReportStatus,
    SampleArtifact,
)

START = datetime(2026, 1, 1, tzinfo=UTC)
NOW = START + timedelta(days=1)
hard = st.text(st.sampled_from('a"\\ é😀'), max_size=256)


@st.composite
def arrivals(draw: st.DrawFn) -> Arrival:
    number = draw(st.integers(0, 40))
    crash = Crash(
        id=f"{number:032x}",
        time=START + timedelta(seconds=number * 37),
        node="n",
        pod=Pod("shop", f"web-{number}", "u", "app", f"{number:064x}"),
        signal="SIGSEGV",
        fingerprint="v1:0123456789abcdef",
        cause=draw(hard),
        message=draw(hard),
        captured=draw(st.sampled_from(["snapshot", "core", "none"])),
        stack=tuple(draw(st.lists(hard, max_size=3))) * 20,
        artifacts=tuple(draw(st.sampled_from([(), (SampleArtifact(kind="core", bytes=1),)]))),
    )
    return Arrival(crash, image=draw(hard), fetch=draw(hard), expires=crash.time)


batches = st.lists(st.lists(arrivals(), max_size=8), max_size=8)


@given(batches)
@settings(max_examples=200)
def test_each_report_counts_once_however_often_it_comes(incoming: list[list[Arrival]]) -> None:
    status = CrashReportStatus()
    for batch in incoming:
        status = merge(status, batch, NOW).status
        assert merge(status, batch, NOW).status == status
    ids = {arrival.crash.id for batch in incoming for arrival in batch}
    assert status.count == len(ids)
    if ids:
        times = [START + timedelta(seconds=int(i, 16) * 37) for i in ids]
        assert status.first_seen == min(times).strftime("%Y-%m-%dT%H:%M:%SZ")
        assert status.last_seen == max(times).strftime("%Y-%m-%dT%H:%M:%SZ")


@given(st.lists(arrivals(), max_size=12), st.randoms())
def test_order_and_batching_do_not_change_the_count(
    incoming: list[Arrival], random: Random
) -> None:
    together = merge(CrashReportStatus(), incoming, NOW).status
    shuffled = list(incoming)
    random.shuffle(shuffled)
    apart = CrashReportStatus()
    for arrival in shuffled:
        apart = merge(apart, [arrival], NOW).status
    assert (apart.count, apart.first_seen, apart.last_seen) == (
        together.count,
        together.first_seen,
        together.last_seen,
    )


@given(batches)
@settings(max_examples=100)
def test_the_object_stays_bounded_and_valid(incoming: list[list[Arrival]]) -> None:
    status = CrashReportStatus()
    for batch in incoming:
        merged = merge(status, batch, NOW, refused=3)
        status = merged.status
        assert merged.kept == set(status.samples)
    assert len(status.samples) <= MAX_SAMPLES
    assert len(status.recent_reports) <= MAX_RECENT_REPORTS
    assert len(msgspec.json.encode(status)) <= MAX_OBJECT_BYTES
    assert msgspec.convert(msgspec.to_builtins(status), CrashReportStatus) == status


def test_the_largest_reports_for_ever_fill_the_object_and_no_more() -> None:
    wide = "😀" * 256
    status = CrashReportStatus()
    for number in range(100):
        crash = Crash(
            id=f"{number:032x}",
            time=START + timedelta(minutes=2 * number),
            node="n" * 253,
            pod=Pod("shop", "p" * 253, "u", "app", "c" * 64),
            signal="SIGSEGV",
            fingerprint="v1:0123456789abcdef",
            cause=wide,
            message=wide * 4,
            captured="core",
            stack=(wide,) * 64,
            artifacts=(
                SampleArtifact(kind="k" * 32, file="f" * 32, bytes=1 << 50, sha256="0" * 64),
            )
            * 8,
        )
        fetch = fetch_template("n" * 63, "p" * 253).format(id=crash.id)
        arrival = Arrival(crash, image=wide, fetch=fetch, expires=NOW)
        status = merge(status, [arrival], NOW).status
        status = place(status, at(crash.id, url="u" * MAX_STORE_URL), NOW)
    assert status.count == 100
    assert len(status.recent_reports) == MAX_RECENT_REPORTS
    assert status.recent_reports[-1].id == f"{99:032x}"
    assert sorted(status.samples) == [f"{n:032x}" for n in (0, 96, 97, 98, 99)]
    assert len(msgspec.json.encode(status)) <= MAX_OBJECT_BYTES


def at(report_id: str, url: str = "", *, deleted: bool = False) -> Placement:
    return Placement(report_id, "shop", "web", "u", url, deleted)


placements = st.builds(
    at,
    st.integers(0, 40).map("{:032x}".format),
    st.sampled_from(["", "s3://one/"]),
    deleted=st.booleans(),
)


@given(st.lists(arrivals(), max_size=8), st.lists(placements, max_size=8), st.randoms())
def test_where_samples_are_does_not_depend_on_the_order_in_which_it_is_told(
    incoming: list[Arrival], told: list[Placement], random: Random
) -> None:
    first = merge(CrashReportStatus(), incoming, NOW).status
    once = again = first
    for placement in told:
        once = place(once, placement, NOW)
    for placement in random.sample([*told, *told], 2 * len(told)):
        again = place(again, placement, NOW)
    assert (once.samples, once.conditions) == (again.samples, again.conditions)
    assert set(once.samples) == set(first.samples)
    for key, sample in once.samples.items():
        mine = [one for one in told if one.report_id == key]
        assert bool(sample.url) == any(one.url for one in mine)
        if any(one.deleted for one in mine):
            assert (sample.fetch, sample.expires) == ("", None)
        else:
            assert sample.fetch == first.samples[key].fetch


@given(
    st.lists(arrivals(), min_size=1, max_size=8), st.lists(placements, max_size=40), st.booleans()
)
def test_the_condition_says_where_the_files_can_be_had(
    incoming: list[Arrival], told: list[Placement], served: bool
) -> None:
    status = merge(CrashReportStatus(), incoming, NOW).status
    for placement in told:
        status = place(status, placement, NOW)
    status = with_fetch(status, {"n": "kubectl cp {id}"} if served else {"m": "other"}, NOW)
    (said,) = (c for c in status.conditions if c.type == "ArtifactsAvailable")
    samples = status.samples.values()
    on_node = {key for key, sample in status.samples.items() if sample.expires}
    fetched = {key for key, sample in status.samples.items() if sample.fetch}
    assert fetched == (on_node if served else set())
    assert all(status.samples[key].fetch == f"kubectl cp {key}" for key in fetched)
    assert (said.reason == "OnNode") == bool(fetched)
    assert (said.reason in ("OnNode", "InStore")) == (bool(fetched) or any(s.url for s in samples))
    assert said.reason != "Deleted" or not on_node
    assert (said.status == "True") == (said.reason in ("OnNode", "InStore"))


@given(st.lists(arrivals(), max_size=8), arrivals())
def test_what_was_counted_can_be_taken_back_once(old: list[Arrival], extra: Arrival) -> None:
    status = merge(CrashReportStatus(), old, NOW).status
    if extra.crash.id in {arrival.crash.id for arrival in old}:
        return
    more = merge(status, [extra], NOW).status
    less = retract(more, extra.crash.id)
    assert less.count == status.count
    assert retract(less, extra.crash.id) == less


@given(st.text(min_size=1, max_size=253), arrivals())
def test_names_are_labels_that_fit(name: str, arrival: Arrival) -> None:
    spec = spec_of(workload("apps/v1", "Deployment", name), arrival.crash)
    made = report_name(spec)
    assert len(made) <= 63
    assert made.replace("-", "").isascii()
    assert made.strip("-") == made
    assert made == made.lower()
