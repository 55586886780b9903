"""Facts are never worth a crash's report."""

from pathlib import Path
from types import SimpleNamespace

from stillframe_agent.artifacts import Artifacts
from stillframe_agent.collect import Collector
from stillframe_agent.manifest import Manifest, Phase
from stillframe_agent.metrics import Metrics
from stillframe_agent.pods import PodIdentity
from stillframe_agent.quota import Quota
from stillframe_agent.settings import Settings

from stillframe import names
from stillframe.capture.facts import Facts, Redactor, TakenFacts

REPORT_ID = "ab" * 16


def test_a_disk_that_refuses_the_facts_costs_nothing_else(tmp_path: Path) -> None:
    metrics = Metrics()
    settings = Settings(node_name="n", operator_address="o:1", state_dir=tmp_path)
    settings.artifacts_dir.mkdir()
    artifacts = Artifacts(
        settings.artifacts_dir, Quota(max_bytes=1, max_age=1, free_bytes=0, per_group=5), metrics
    )
    manifest = Manifest(
        report_id=REPORT_ID,
        phase=Phase.CAPTURED,
        snapshot_id="x",
        node="n",
        pod=PodIdentity("uid"),
        created=1,
        expires=2,
    )
    (artifacts.path(REPORT_ID) / names.ARTIFACT_FACTS).mkdir(parents=True)
    missing = dict.fromkeys(("container", "log"), "known to the node's agent only")
    taken = SimpleNamespace(facts=TakenFacts(Facts(missing=missing), Redactor()))
    kept = Collector(settings, artifacts, metrics)._keep_facts(manifest, taken)  # type: ignore[arg-type]
    assert kept.files == ()
    assert kept.soft_errors == ("no facts: our disk refused them: Is a directory",)
