"""The table of facts: code, documentation, chart and switches say the same."""

import json
import re
from pathlib import Path

import pytest

from stillframe.capture.facts import REGISTRY, FactName, Facts, FactsPolicy
from stillframe.capture.facts.registry import ENVIRONMENT_ALLOW

ROOT = Path(__file__).resolve().parents[3]
PAGE = ROOT / "docs/reference/facts.md"
SCHEMA = ROOT / "deploy/helm/stillframe/values.schema.json"


def test_the_page_has_the_table_of_the_code() -> None:
    rows = [
        f"| `{kind.name}` | {kind.source} | {kind.bound} | {'on' if kind.on else 'off'} "
        f"| {kind.why} |"
        for kind in REGISTRY
    ]
    written = re.findall(r"^\| `[a-z]+` \|.*\| (?:on|off) \|.*$", PAGE.read_text(), re.MULTILINE)
    assert written == rows, "\n".join(("the table has to be:", *rows))


def test_the_page_lists_every_variable_whose_value_is_kept() -> None:
    paragraphs = PAGE.read_text().partition("## Environment")[2].split("\n\n")
    assert re.findall(r"`([A-Z_*]+)`", paragraphs[2]) == list(ENVIRONMENT_ALLOW)


def test_every_fact_is_a_field_with_a_switch() -> None:
    assert [kind.name for kind in REGISTRY] == list(FactName)
    assert set(Facts.__struct_fields__) - {"missing", "taken_millis"} == set(FactName)


def test_the_chart_knows_every_switch() -> None:
    take = json.loads(SCHEMA.read_text())["properties"]["facts"]["properties"]["take"]
    assert take["items"]["enum"] == [
        "all", "none", *FactName, *(f"-{name}" for name in FactName)
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("all", set(FactName)),
        ("none", set()),
        ("log", {FactName.LOG}),
        ("-log", set(FactName) - {FactName.LOG}),
        ("all, -log,-command", set(FactName) - {FactName.LOG, FactName.COMMAND}),
        ("none,kernel", {FactName.KERNEL}),
    ],
)
def test_switches_are_read_from_left_to_right(text: str, wanted: set[FactName]) -> None:
    assert FactsPolicy.parse(text).wanted == wanted


@pytest.mark.parametrize("text", ["", " , ", "everything", "log,-x", "LOG"])
def test_a_switch_that_makes_no_sense_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="fact"):
        FactsPolicy.parse(text)


@pytest.mark.parametrize("name", ["*", "A=B", "A-B", "A**", "1A", "A" * 129])
def test_what_is_no_variable_is_not_allowed(name: str) -> None:
    with pytest.raises(ValueError, match="variable"):
        FactsPolicy.parse("all", name)


def test_more_variables_are_allowed_beside_the_defaults() -> None:
    policy = FactsPolicy.parse("all", "APP_ENV, FEATURE_*")
    assert policy.allows("APP_ENV")
    assert policy.allows("FEATURE_X")
    assert policy.allows("LC_ALL")
    assert not policy.allows("APP_ENV2")
