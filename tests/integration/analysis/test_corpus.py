"""The whole crash corpus: its causes are those of the documentation, its bugs are groups."""

from collections import defaultdict

from tests.integration.analysis.corpus import TARGET, document, reports

ONE_GROUP = {
    "one recursion; its thread, its stack and the handler do not matter": {
        *("overflow_main", "overflow_thread", "overflow_small_thread", "overflow_supplied_stack"),
        *("overflow_with_handler", "overflow_with_handler_on_stack"),
    },
    "the child becomes `crasher null_read`": {"null_read", "spawned_child", "after_exec"},
    "one function of a thread": {"thread_segv", "all_crash 64"},
}
"""Cases that rightly share a key, and why; all others have one of their own."""


def test_the_documented_causes_are_what_is_told() -> None:
    """If a sentence has changed on purpose: tests/integration/analysis/generate-causes."""
    assert document() == TARGET.read_text()


def test_every_report_of_the_corpus_has_a_cause_of_its_own() -> None:
    vague = ("killed by", "not known", "wild pointer: access", "access")
    told = {way: report.cause for way, found in reports().items() for report in found}
    assert [way for way, cause in told.items() if cause.startswith(vague)] == []


def test_cases_share_a_group_only_where_it_is_one_bug() -> None:
    groups = defaultdict(set)
    for way, found in reports().items():
        for report in found:
            groups[report.fingerprint].add(way)
    shared = [ways for ways in groups.values() if len(ways) > 1]
    assert sorted(map(sorted, shared)) == sorted(map(sorted, ONE_GROUP.values()))
