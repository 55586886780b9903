"""The page of attacks names tests that exist, and at least one for every attack."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[3]
PAGE = ROOT / "docs/reference/hostile-pods.md"
TEST = re.compile(r"`(tests/[\w/.]+\.py)::(test_\w+)`")


def rows() -> list[list[str]]:
    """The cells of each row of each table, without their heads."""
    lines = [line for line in PAGE.read_text().splitlines() if line.startswith("| ")]
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    return [row for row in cells if row[0] not in {"attack", "---"}]


def test_every_attack_has_a_test_that_exists() -> None:
    assert len(rows()) > 40
    for attack, outcome, tests in rows():
        assert outcome, attack
        named = TEST.findall(tests)
        assert named, attack
        for path, name in named:
            source = (ROOT / path).read_text()
            assert re.search(rf"^(async )?def {name}\(", source, re.MULTILINE), f"{path}::{name}"


def test_every_reason_to_refuse_is_on_the_page_or_the_agents_own() -> None:
    from stillframe.capture.refusals import Refusal

    # What the node, not the pod, is to blame for.
    ours = {Refusal.UNREADABLE, Refusal.HOLDER_NOT_VISIBLE, Refusal.HOLDER_UNREADABLE}
    page = PAGE.read_text()
    assert [reason for reason in Refusal if f"`{reason}`" not in page and reason not in ours] == []
