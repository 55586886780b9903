"""Facts: what the node knows of a container, beside what was read of its process.

Flows in: the facts of a held process and whose it is.  Flows out: ``facts.json``
beside the snapshot, and later a section of the report.  Runs after the release:
nothing here needs the process.
"""

from dataclasses import dataclass
from pathlib import Path

import msgspec
from msgspec.structs import replace

from stillframe import names
from stillframe.capture.facts import (
    Container,
    FactName,
    Facts,
    FactsPolicy,
    Redactor,
    TakenFacts,
    render_kept,
)
from stillframe.text import LINE, escape
from stillframe_agent.containerlog import ContainerLogs
from stillframe_agent.files import keep
from stillframe_agent.identity import Placement
from stillframe_agent.manifest import KeptFile
from stillframe_agent.pods import PodIdentity, image


@dataclass(frozen=True, slots=True)
class Facter:
    """Completes and keeps the facts of this node's crashes."""

    policy: FactsPolicy
    bundles_dir: Path
    log_dir: Path

    def keep(self, taken: TakenFacts, pod: PodIdentity, directory: Path) -> KeptFile:
        """Write ``facts.json`` into ``directory``; raises `OSError` when our disk refuses."""
        facts = self._complete(taken.facts, pod, taken.redactor)
        data = msgspec.json.format(msgspec.json.encode(facts), indent=1) + b"\n"
        return keep("facts", directory / names.ARTIFACT_FACTS, data)

    def _complete(self, facts: Facts, pod: PodIdentity, redactor: Redactor) -> Facts:
        missing = dict(facts.missing)
        logs = ContainerLogs(self.log_dir, pod.uid, pod.container)
        if FactName.CONTAINER in self.policy.wanted:
            name, digest = image(Placement(pod.uid, pod.container_id), self.bundles_dir)
            container = Container(
                image=escape(name, LINE),
                image_digest=escape(digest, LINE),
                restarts=logs.restarts(),
            )
            facts = replace(facts, container=container)
            missing.pop(FactName.CONTAINER, None)
        if FactName.LOG in self.policy.wanted:
            log = logs.tail(redactor)
            if isinstance(log, str):
                missing[FactName.LOG] = log
            else:
                facts = replace(facts, log=log)
                missing.pop(FactName.LOG, None)
        return replace(facts, missing=missing)


def section(directory: Path) -> str:
    """The facts of a sample for its report; empty when it has none."""
    try:
        return render_kept((directory / names.ARTIFACT_FACTS).read_bytes())
    except FileNotFoundError:  # none were taken
        return ""
