"""What quotas take, and what room they leave: by age, group, namespace, bytes and free space.

Covers: single decisions, and what holds for all of them.
"""

from collections import Counter
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from stillframe_agent.quota import Quota, Sample, room, surplus

QUOTA = Quota(max_bytes=1000, max_age=100, free_bytes=50, per_group=3)
PLENTY = 10_000
NOW = 200


def sample(name: str, created: float, size: int = 100, **more: object) -> Sample:
    return Sample(name, created, size, **({"deletable": True} | more))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("samples", "free", "incoming", "gone"),
    [
        ([sample("a", 0), sample("b", 60)], PLENTY, 0, [("a", "age")]),
        ([sample("a", 60, 600), sample("b", 50, 600)], PLENTY, 0, [("b", "quota")]),
        ([sample("a", 60, 600)], PLENTY, 500, [("a", "quota")]),
        ([sample("a", 60), sample("b", 50), sample("c", 55)], 0, 0, [("b", "free-space")]),
        ([sample("a", 60), sample("b", 50)], 100, 100, [("b", "free-space")]),
        ([sample("a", 0, 2000, deletable=False)], 0, 0, []),
        ([sample("a", 60, 1000)], PLENTY, 0, []),
        # Evidence that is nowhere else: past its age, and the last that goes.
        ([sample("a", 0, pending=True)], PLENTY, 0, []),
        (
            [sample("a", 50, 600, pending=True), sample("b", 60, 600)],
            PLENTY,
            0,
            [("b", "quota")],
        ),
        ([sample("a", 50, 1200, pending=True)], PLENTY, 0, [("a", "quota")]),
    ],
)
def test_the_oldest_go_until_the_quotas_hold(
    samples: list[Sample], free: int, incoming: int, gone: list[tuple[str, str]]
) -> None:
    assert surplus(samples, QUOTA, 110, free, incoming=incoming) == gone


def test_of_a_group_the_first_and_the_newest_stay() -> None:
    group = [sample(str(number), 100 + number, 1, group="g") for number in range(6)]
    others = [sample("other", 100, 1, group="h"), sample("unknown", 100, 1)]
    gone = surplus([*reversed(group), *others], QUOTA, NOW, PLENTY)
    assert gone == [("1", "surplus"), ("2", "surplus"), ("3", "surplus")]
    group[2] = replace(group[2], pending=True)
    gone = surplus(group, QUOTA, NOW, PLENTY)
    assert gone == [("1", "surplus"), ("3", "surplus")]


def test_a_storm_takes_the_room_of_its_own_namespace() -> None:
    quiet = [sample("old", 100, 100, namespace="quiet")]
    loud = [sample(str(number), 110 + number, 100, namespace="loud") for number in range(9)]
    assert surplus([*quiet, *loud], QUOTA, NOW, PLENTY, incoming=150, namespace="loud") == [
        ("0", "quota"),
        ("1", "quota"),
    ]


def test_a_newcomer_gets_its_share_from_who_has_more() -> None:
    loud = [sample(str(number), 110 + number, 100, namespace="loud") for number in range(10)]
    assert surplus(loud, QUOTA, NOW, PLENTY, incoming=100, namespace="new") == [("0", "quota")]


@pytest.mark.parametrize(
    ("samples", "free", "expected"),
    [
        ([], PLENTY, 1000),
        ([], 300, 250),
        ([], 10, 0),
        ([sample("a", 0, 400, namespace="mine")], PLENTY, 1000),
        ([sample("a", 0, 400, namespace="mine", deletable=False)], PLENTY, 600),
        ([sample("a", 0, 400, namespace="other")], PLENTY, 600),
        ([sample("a", 0, 900, namespace="other")], PLENTY, 500),
        ([sample("a", 0, 900, namespace="other", deletable=False)], PLENTY, 100),
    ],
)
def test_a_core_has_the_room_that_others_do_not_need(
    samples: list[Sample], free: int, expected: int
) -> None:
    assert room(samples, QUOTA, free, "mine") == expected


SAMPLES = st.lists(
    st.builds(
        Sample,
        st.uuids().map(str),
        st.floats(0, NOW),
        st.integers(1, 500),
        st.booleans(),
        st.sampled_from(["a", "b", "c"]),
        st.sampled_from(["", "g", "h"]),
        st.booleans(),
    ),
    max_size=25,
    unique_by=lambda sample: sample.report_id,
)


@given(SAMPLES, st.integers(0, 500), st.integers(0, 400), st.sampled_from(["a", "d"]))
def test_afterwards_the_quotas_hold_or_nothing_more_may_go(
    samples: list[Sample], free: int, incoming: int, namespace: str
) -> None:
    went = surplus(samples, QUOTA, NOW, free, incoming=incoming, namespace=namespace)
    gone = {report_id for report_id, _ in went}
    assert len(gone) == len(went)
    kept = [sample for sample in samples if sample.report_id not in gone]
    assert all(sample.deletable for sample in samples if sample.report_id in gone)
    if any(sample.deletable for sample in kept):
        freed = sum(sample.bytes for sample in samples if sample.report_id in gone)
        assert sum(sample.bytes for sample in kept) + incoming <= QUOTA.max_bytes
        assert free + freed - incoming >= QUOTA.free_bytes
    final = [sample for sample in kept if sample.deletable and not sample.pending]
    assert all(NOW - sample.created <= QUOTA.max_age for sample in final)


@given(SAMPLES, st.integers(0, 500))
def test_nothing_goes_without_need(samples: list[Sample], free: int) -> None:
    """Whatever went for want of room was needed: with the last of it back, a limit is broken."""
    went = surplus(samples, QUOTA, NOW, free)
    if not went or went[-1][1] in ("age", "surplus"):
        return
    size = {sample.report_id: sample.bytes for sample in samples}
    gone = {report_id for report_id, _ in went[:-1]}
    kept = sum(bytes_ for report_id, bytes_ in size.items() if report_id not in gone)
    freed = sum(size[report_id] for report_id in gone)
    assert kept > QUOTA.max_bytes or free + freed < QUOTA.free_bytes


@given(SAMPLES, st.integers(0, 500))
def test_a_group_keeps_its_first_and_its_newest(samples: list[Sample], free: int) -> None:
    roomy = replace(QUOTA, max_bytes=1 << 40, max_age=1e9, free_bytes=0)
    gone = {report_id for report_id, _ in surplus(samples, roomy, NOW, free)}
    for name in ("g", "h"):
        group = sorted(
            (s for s in samples if s.group == name), key=lambda s: (s.created, s.report_id)
        )
        listed = {s.report_id for s in [*group[:1], *group[-(QUOTA.per_group - 1) :]]}
        assert listed.isdisjoint(gone)
        assert {
            s.report_id
            for s in group
            if s.deletable and not s.pending and s.report_id not in listed
        } <= gone
    assert not {s.report_id for s in samples if not s.group} & gone


@given(SAMPLES, st.integers(0, 500), st.integers(0, 400))
def test_a_namespace_within_its_share_loses_nothing_to_a_storm(
    samples: list[Sample], free: int, incoming: int
) -> None:
    """As long as one that is above its share has anything left that is as dispensable."""
    went = surplus(samples, QUOTA, NOW, free, incoming=incoming, namespace="storm")
    by_id = {sample.report_id: sample for sample in samples}
    used: Counter[str] = Counter({"storm": incoming} if incoming else {})
    for one in samples:
        used[one.namespace] += one.bytes
    for report_id, why in went:
        if why in ("age", "surplus"):
            used[by_id[report_id].namespace] -= by_id[report_id].bytes
    used = Counter({name: bytes_ for name, bytes_ in used.items() if bytes_})
    pressed = [by_id[report_id] for report_id, why in went if why in ("quota", "free-space")]
    if not pressed:
        return
    freed = sum(by_id[i].bytes for i, why in went if why in ("age", "surplus"))
    allowed = min(
        QUOTA.max_bytes,
        used.total() - max(0, QUOTA.free_bytes - (free + freed - incoming)),
    )
    share = allowed / len(used)
    left = {
        i: s for i, s in by_id.items() if i not in {j for j, w in went if w in ("age", "surplus")}
    }
    for victim in pressed:
        if used[victim.namespace] <= share:
            assert not [
                other
                for other in left.values()
                if other.deletable
                and other.pending <= victim.pending
                and used[other.namespace] > share
            ]
        del left[victim.report_id]
        used[victim.namespace] -= victim.bytes


@given(SAMPLES, st.integers(0, 5000), st.sampled_from(["a", "b", "d"]))
def test_a_core_that_fits_its_room_takes_nobodys_share(
    samples: list[Sample], free: int, namespace: str
) -> None:
    roomy = replace(QUOTA, max_age=1e9, per_group=1 << 20)
    fits = room(samples, roomy, free, namespace)
    core = Sample("core", NOW, fits, deletable=False, namespace=namespace)
    went = surplus([*samples, core], roomy, NOW, free - fits) if fits else []
    by_id = {sample.report_id: sample for sample in samples}
    share = roomy.max_bytes // len({namespace} | {s.namespace for s in samples})
    for name in {s.namespace for s in samples} - {namespace}:
        before = sum(s.bytes for s in samples if s.namespace == name)
        lost = sum(by_id[i].bytes for i, _ in went if by_id[i].namespace == name)
        if lost and not any(s.pending for s in samples):
            biggest = max(s.bytes for s in samples if s.namespace == name)
            assert before - lost > share - biggest
