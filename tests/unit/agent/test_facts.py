"""What the node adds to the facts of a process, and what is kept when something is wrong."""

import json
from pathlib import Path

import pytest
from stillframe_agent.facts import Facter, section
from stillframe_agent.pods import PodIdentity

from stillframe import names
from stillframe.capture.facts import FactName, Facts, FactsPolicy, Redactor, TakenFacts

UID = "1d3b6a0c-5f0e-4b67-9d5c-2f7a1c0de111"
POD = PodIdentity(UID, "shop", "cart-1", "app", "a1" * 32)
NOT_HERE = {FactName.CONTAINER: "known to the node's agent only", FactName.LOG: "likewise"}


def keep(directory: Path, policy: str, missing: dict[FactName, str]) -> Facts:
    facts = Facts(missing={str(name): why for name, why in missing.items()})
    facter = Facter(FactsPolicy.parse(policy), directory / "bundles", directory / "logs")
    kept = facter.keep(TakenFacts(facts, Redactor()), POD, directory)
    data = (directory / kept.file).read_bytes()
    assert kept.bytes == len(data)
    found: Facts = Facts(**json.loads(data))
    return found


def test_nothing_on_the_node_is_a_container_without_fields(tmp_path: Path) -> None:
    facts = keep(tmp_path, "all", NOT_HERE)
    assert facts.container == {"image": "", "image_digest": "", "restarts": None}
    assert facts.missing == {"log": "the node has no log of the container"}


def test_what_is_switched_off_is_not_looked_for(tmp_path: Path) -> None:
    off = dict.fromkeys(NOT_HERE, "switched off")
    facts = keep(tmp_path, "limits", off)
    assert (facts.container, facts.log, facts.missing) == (None, None, off)


def test_the_images_name_is_made_printable(tmp_path: Path) -> None:
    bundle = tmp_path / "bundles" / POD.container_id
    bundle.mkdir(parents=True)
    annotations = {"io.kubernetes.cri.image-name": "a\x1b[31m\nb"}
    (bundle / "config.json").write_text(json.dumps({"annotations": annotations}))
    assert keep(tmp_path, "all", NOT_HERE).container["image"] == r"a\x1b[31m\nb"  # type: ignore[index]


def test_a_refusing_disk_is_said_to_the_caller(tmp_path: Path) -> None:
    (tmp_path / names.ARTIFACT_FACTS).mkdir()
    with pytest.raises(OSError, match=names.ARTIFACT_FACTS):
        keep(tmp_path, "all", NOT_HERE)


def test_a_sample_without_facts_has_no_section(tmp_path: Path) -> None:
    assert section(tmp_path) == ""


@pytest.mark.parametrize("data", [b"", b"{", b"[]", b'{"limits": 7}'])
def test_facts_that_cannot_be_read_are_said_to_be(tmp_path: Path, data: bytes) -> None:
    (tmp_path / names.ARTIFACT_FACTS).write_bytes(data)
    assert "facts.json is not in the form that this version knows" in section(tmp_path)
