"""The metrics' documentation is the registry's own words."""

import re
from pathlib import Path

from stillframe_agent.health import Health
from stillframe_agent.metrics import Metrics

README = Path(__file__).parents[3] / "agent/README.md"
_ROW = re.compile(r"\| `(stillframe_agent_\w+)` \| (\w+) \| (.*) \|")


def test_every_metric_is_documented_and_nothing_else_is() -> None:
    metrics = Metrics()
    metrics.registry.register(Health())
    registered = {
        (family.name + "_total" * (family.type == "counter"), family.type, family.documentation)
        for family in metrics.registry.collect()
        if family.name.startswith("stillframe_agent_")
    }
    documented = {
        match.groups() for match in map(_ROW.fullmatch, README.read_text().splitlines()) if match
    }
    assert documented == registered


def test_quantities_have_their_unit_in_their_name() -> None:
    for family in Metrics().registry.collect():
        if family.type == "histogram":
            assert family.name.endswith("_seconds")
