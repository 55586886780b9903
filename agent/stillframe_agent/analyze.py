"""Analyze: from a collected sample to a report that is safely in the spool.

Flows in: a sample on our disk.  Flows out: its report, kept as files beside
the snapshot and as a message in the spool.  Blocking; the parsing itself is
`stillframe.analysis`, in a child without privileges.
"""

import logging
import time
from contextlib import ExitStack
from typing import Final

import msgspec
from msgspec.structs import replace

from stillframe import names
from stillframe.analysis import Analysis, AnalysisError, analyze, render_text
from stillframe.errors import StillframeError
from stillframe.rpc.v1.intake_pb2 import Report
from stillframe_agent.artifacts import Artifacts
from stillframe_agent.bundle import bundle
from stillframe_agent.collect import Collected
from stillframe_agent.facts import section
from stillframe_agent.files import keep
from stillframe_agent.logs import event
from stillframe_agent.manifest import Manifest, Phase
from stillframe_agent.metrics import Metrics
from stillframe_agent.report import build
from stillframe_agent.spool import Spool

log: Final = logging.getLogger(__name__)

_MAX_ATTEMPTS: Final = 2
"""Analyses begun for one sample; more ended with this agent, maybe because of it."""


class Analyzer:
    """Analyses samples; called from a few threads at once."""

    def __init__(
        self,
        artifacts: Artifacts,
        spool: Spool,
        metrics: Metrics,
        *,
        variables: bool,
        bundle_bytes: int,
    ) -> None:
        self._bundle_bytes = bundle_bytes
        self._artifacts = artifacts
        self._spool = spool
        self._metrics = metrics
        self._variables = variables

    def conclude(self, collected: Collected) -> str:
        """Analyse a sample and spool its report; the report's id.

        A sample that cannot be analysed is reported all the same.  Raises
        `OSError` when our disk refuses: the sample can be concluded later.
        """
        manifest = replace(collected.manifest, attempts=collected.manifest.attempts + 1)
        self._artifacts.update(manifest)
        analysis, failure = self._analyze(manifest, collected.modules)
        if analysis is not None:
            manifest = self._keep(manifest, analysis)
        if self._bundle_bytes and collected.modules:
            # In order of address; a program lies below its libraries.
            program = analysis.modules[0].path if analysis and analysis.modules else ""
            manifest = self._bundle(manifest, collected.modules, program)
        # Before anybody is told of its files: a later agent finds the report in the
        # spool and does not look at the sample again.
        self._artifacts.update(manifest)
        report = build(manifest, analysis, failure)
        self._spool.add(report)
        self._artifacts.update(replace(manifest, phase=Phase.REPORTED))
        _log_crash(report)
        return report.id

    def _analyze(
        self, manifest: Manifest, modules: tuple[tuple[str, int], ...]
    ) -> tuple[Analysis | None, str]:
        """The analysis, or why there is none."""
        if manifest.attempts > _MAX_ATTEMPTS:
            return None, f"given up: {_MAX_ATTEMPTS} analyses of it ended with their agent"
        directory = self._artifacts.path(manifest.report_id)
        kept = {file.kind: directory / file.file for file in manifest.files}
        started = time.monotonic()
        with ExitStack() as files:
            core = files.enter_context((directory / names.ARTIFACT_SNAPSHOT).open("rb"))
            log = kept.get("hs_err")
            try:
                analysis = analyze(
                    core.fileno(),
                    modules,
                    hs_err_fd=files.enter_context(log.open("rb")).fileno() if log else None,
                    full_core=kept.get("core"),
                    variables=self._variables,
                )
            except AnalysisError as error:
                self._metrics.analyses.labels("failed").inc()
                return None, f"the analysis failed: {error}"
            finally:
                self._metrics.analysis.observe(time.monotonic() - started)
        self._metrics.analyses.labels("ok").inc()
        return analysis, ""

    def _keep(self, manifest: Manifest, analysis: Analysis) -> Manifest:
        """Write the report for people and for programs beside the snapshot."""
        extra = {
            "Pod": f"{manifest.pod.namespace}/{manifest.pod.name}",
            "Container": manifest.pod.container,
            "Node": manifest.node,
        }
        directory = self._artifacts.path(manifest.report_id)
        text = render_text(analysis, extra) + section(directory)
        documents = {
            names.ARTIFACT_REPORT_TEXT: text.encode(),
            names.ARTIFACT_REPORT_JSON: msgspec.json.encode(analysis),
        }
        kept = [keep("report", directory / name, data) for name, data in documents.items()]
        evidence = (file for file in manifest.files if file.kind != "report")
        return replace(manifest, files=(*evidence, *kept))

    def _bundle(
        self, manifest: Manifest, modules: tuple[tuple[str, int], ...], program: str
    ) -> Manifest:
        """Keep the process's files with its core, while we have them open; or say why not."""
        limit = min(self._bundle_bytes, self._artifacts.room(manifest.pod.namespace))
        directory = self._artifacts.path(manifest.report_id)
        try:
            kept = bundle(directory, manifest, modules, program=program, limit=limit)
        except (StillframeError, OSError) as error:
            errors = (*manifest.soft_errors, f"no debug bundle: {error}")
            return replace(manifest, soft_errors=errors)
        return replace(manifest, files=(*manifest.files, kept))


def _log_crash(report: Report) -> None:
    event(
        log,
        logging.INFO,
        "crash",
        report=report.id,
        namespace=report.pod.namespace,
        pod=report.pod.name,
        pod_uid=report.pod.uid,
        container=report.pod.container,
        signal=report.signal.name,
        cause=report.cause,
        top_frame=report.top_frame,
        held_millis=report.held_millis,
        attested=report.attested,
        captured=report.captured,
    )
