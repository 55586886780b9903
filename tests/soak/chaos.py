"""Hundreds of crashes, and agents that are killed at every line of their work on them.

Two agents that live write down which lines they reach (see `dying_agent`): one
with a wave of crashes, one with what such a wave leaves when nobody is there.
Then agents die: one at a line of the first kind, with a wave around it, the
next at a line of the second, over what the first has left; and so on.

Flows in: the number of crashes and a seed.  Flows out: figures, and exit
status 1 when one of these is not 0:

- changed exit statuses and hangs;
- lost: a snapshot that no report tells of, or without its sample on the disk;
- twice: a snapshot with two reports or samples;
- damaged: a file that its manifest does not describe, or describes wrongly;
- left over: a file in a pod's volume, in the spool, or between the samples.
"""

import hashlib
import random
import signal
import sys
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from stillframe_agent.manifest import Manifest, Phase

from stillframe import names
from tests.integration.agent.intake import Operator
from tests.integration.agent.node import Agent, Node
from tests.soak.crashing import Case, Crash, Pods, Stage, command, show

STATUSES = {"null_read": -11, "abort_call": -6, "div0": -8, "int3": -5, "with_threads": -11}
"""Ways to die, and how each ends without us; as `subprocess`."""
WHEN = {"signal": "of a crash that meets an agent", "start": "of one that was before it"}
"""Where an agent's lines are counted from; see `dying_agent`."""
WAVE = 5
"""Crashes that meet one agent."""
LIFE_SECONDS = 10.0
"""Without a further report until an agent that did not die is killed from outside."""
PROGRAM = Path(__file__).with_name("dying_agent.py")


@dataclass
class Figures:
    """What came out."""

    written: int = 0
    reports: int = 0
    attested: int = 0
    samples: int = 0
    points: set[str] = field(default_factory=set)
    """Lines at which an agent died."""
    outlived: int = 0
    """Agents that did not come to the line they were to die at."""
    statuses: list[str] = field(default_factory=list)
    lost: list[str] = field(default_factory=list)
    twice: list[str] = field(default_factory=list)
    damaged: list[str] = field(default_factory=list)
    left: list[str] = field(default_factory=list)

    @property
    def good(self) -> bool:
        return not (self.statuses or self.lost or self.twice or self.damaged or self.left)


class Chaos:
    """One node, its crashes and its agents."""

    def __init__(self, node: Node, operator: Operator, chance: random.Random) -> None:
        self._node = node
        self._operator = operator
        self._chance = chance
        # An agent whose every line is looked at is slow.
        self._stage = Stage(node, STILLFRAME_CLAIM_MS=5_000, STILLFRAME_HOLD_MS=20_000)
        self.pods = Pods(node, chance)
        self.crashes: list[Crash] = []

    def agent(self, plan: str = "") -> Agent:
        program = (str(PROGRAM), plan) if plan else ("-m", "stillframe_agent")
        return Agent(self._node, self._operator.address, self._operator.credentials, program)

    def wave(self, size: int) -> None:
        """Let so many processes die; returns when they are dead."""

        def ended(crash: Crash) -> None:
            self.crashes.append(crash)
            self.pods.ended(crash.pod)

        cases = [Case(self._chance.choice([*STATUSES]), "glibc", False) for _ in range(size)]
        self._stage.run((self._stage.crash(case, self.pods.take(), True) for case in cases), ended)

    def settle(self, agent: Agent) -> bool:
        """Until all is reported; False if the agent died or no report came for long."""
        written = sum(crash.written for crash in self.crashes)
        seen, quiet = -1, time.monotonic()
        while (reports := len(self._operator.reports)) < written or not all(
            map(_acknowledged, agent.manifests())
        ):
            if reports > seen:
                seen, quiet = reports, time.monotonic()
            if agent.process.poll() is not None or time.monotonic() - quiet > LIFE_SECONDS:
                return False
            self._operator.wait_change(0.05)
        return True

    def record(self, file: Path, when: str) -> list[str]:
        """The lines that one wave reaches, in order; its agent lives until all is reported."""
        agent = self._agent(f"record:{when}:{file}", when, WAVE)
        assert self.settle(agent), agent.log.read_text()[-2000:]
        agent.kill()
        return file.read_text().split()

    def live(self, point: str, when: str, size: int) -> bool:
        """One agent, to be killed at ``point``; whether it came there."""
        agent = self._agent(f"die:{when}:{point}:{self._chance.randint(1, WAVE)}", when, size)
        self.settle(agent)
        reached = agent.process.poll() is not None
        agent.kill()
        return reached

    def _agent(self, plan: str, when: str, size: int) -> Agent:
        """An agent with crashes: they meet it (``signal``), or came before it (``start``)."""
        if when == "start":
            self.wave(size)
            return self.agent(plan)
        agent = self.agent(plan).wait_ready()
        assert self.settle(agent), agent.log.read_text()[-2000:]
        agent.process.send_signal(signal.SIGUSR1)
        self.wave(size)
        return agent


def _acknowledged(manifest: Manifest) -> bool:
    return manifest.phase is Phase.REPORTED and bool(manifest.crash_report_uid)


def judge(chaos: Chaos, operator: Operator, agent: Agent, figures: Figures) -> None:
    """Compare what died, what was reported and what lies on the disk."""
    reports = operator.reports
    told = Counter(report.process for report in reports.values())
    for crash in chaos.crashes:
        figures.written += crash.written
        if crash.status != STATUSES[crash.case.way]:
            figures.statuses.append(f"{crash.name} {crash.case}: {crash.status}")
        if told[crash.name] > crash.written:
            figures.twice.append(f"{crash.name} {crash.case}: {told[crash.name]} reports")
    samples = agent.manifests()
    figures.reports, figures.samples = len(reports), len(samples)
    figures.attested = sum(report.attested for report in reports.values())
    missing = figures.written - figures.reports
    figures.lost += [f"{missing} snapshots without a report"] * (missing > 0)
    figures.twice += [f"{-missing} reports too many"] * (missing < 0)
    for gone in reports.keys() - {sample.report_id for sample in samples}:
        figures.lost.append(f"sample of report {gone}")
    for sample in samples:
        if sample.report_id not in reports:
            figures.twice.append(f"sample {sample.report_id} that was never reported")
        figures.damaged += _damage(agent.node.state / names.ARTIFACTS_DIR, sample)


def _damage(root: Path, sample: Manifest) -> list[str]:
    directory = root / sample.report_id
    described = {kept.file: kept.sha256 for kept in sample.files}
    there = {
        path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in directory.iterdir()
    }
    there.pop(names.ARTIFACT_MANIFEST)
    found = [] if described == there else [f"{directory.name}: {described} is {there}"]
    return found if _acknowledged(sample) else [*found, f"{directory.name}: {sample.phase}"]


def left_over(chaos: Chaos, state: Path) -> list[str]:
    """Files that nobody needs any more."""
    spooled = [path.name for path in (state / names.SPOOL_DIR).glob("*.report*")]
    artifacts = (state / names.ARTIFACTS_DIR).iterdir()
    between = [path.name for path in artifacts if not path.name.isalnum()]
    pods = [pod for pod in chaos.pods.all.values() if pod.directory.exists()]
    return [*spooled, *between, *(name for pod in pods for name in pod.names())]


def run(count: int, seed: int, directory: Path) -> bool:
    chance = random.Random(seed)
    credentials, place = directory / "credentials", directory / "node"
    for path in (credentials, place):
        path.mkdir()
    began = time.monotonic()
    figures = Figures()
    with Node(place) as node:
        operator = Operator(credentials).start()
        operator.group_of = lambda report: report.id  # of one group a node keeps five
        chaos = Chaos(node, operator, chance)
        lines = {when: chaos.record(directory / when, when) for when in WHEN}
        print(", ".join(f"{len(lines[when])} lines {WHEN[when]}" for when in WHEN), flush=True)
        waves = max(1, (count - len(WHEN) * WAVE) // WAVE)
        plan = zip(*(spread(lines[when], waves, chance) for when in WHEN), strict=True)
        for points in plan:
            for when, point in zip(WHEN, points, strict=True):
                if chaos.live(point, when, WAVE if when == "signal" else 0):
                    figures.points.add(point)
                else:
                    figures.outlived += 1
        last = chaos.agent().wait_ready()
        chaos.settle(last)
        judge(chaos, operator, last, figures)
        figures.left = left_over(chaos, node.state)
        operator.stop()
    print_figures(figures, len(chaos.crashes), time.monotonic() - began)
    return figures.good


def spread(lines: Sequence[str], count: int, chance: random.Random) -> list[str]:
    """``count`` of the lines, as far apart as can be; each at most once more than another."""
    offset = chance.random()
    return [
        lines[int((index + offset) * len(lines) / count) % len(lines)] for index in range(count)
    ]


def print_figures(figures: Figures, crashes: int, seconds: float) -> None:
    print(
        f"{crashes} crashes; agents killed at {len(figures.points)} lines,"
        f" {figures.outlived} did not come to theirs"
    )
    print(
        f"{figures.written} snapshots, {figures.reports} reports"
        f" ({figures.attested} attested), {figures.samples} samples"
    )
    show(
        {
            "changed exit statuses or hangs": figures.statuses,
            "lost": figures.lost,
            "twice": figures.twice,
            "damaged": figures.damaged,
            "left over": figures.left,
        }
    )
    print(f"{seconds:.0f} s")


if __name__ == "__main__":
    sys.exit(command(__doc__ or "", 50, run))
