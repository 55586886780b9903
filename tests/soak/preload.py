"""Thousands of crashes, 64 at once, against the real agent while it is killed at random.

Waves of 64, so that there is an agent to meet; each comes when the reports of
the last have nearly all come.

Flows in: the number of crashes and a seed.  Flows out: figures, and exit
status 1 when one of these is not 0:

- hangs: a process still there `HANG_SECONDS` after its start;
- changed exit statuses: one that the same case never had without the library,
  measured at the start of this very run;
- lost: a snapshot that nobody reported, or a crash that made none though the
  same case did with no agent around;
- wrong attributions: a report whose pod is not the one the crash was started
  in, and every report beyond the snapshots that were written;
- agents that ended by themselves.

**How it is counted.**  Every crasher runs under a name of its own, which the
kernel puts into ``comm`` and a report carries as ``process``; the library says
on stderr what it did (``STILLFRAME_DEBUG``), so each snapshot that was written
is known, and so is each that was not because its directory was full (errno 24;
those are lost by design and counted apart).  A process that closed its stderr
is taken to have written what the same case wrote before.  A report without a process (its
analysis was killed too often, or the writer died early) is told by its pod
alone, and makes up for one of that pod.

The seed gives the cases, their order and the agent's times of death; what
happens between them is up to the machine.
"""

import argparse
import json
import random
import resource
import subprocess
import sys
import tempfile
import time
from collections import Counter, defaultdict, deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from stillframe.rpc.v1.intake_pb2 import Report
from tests.integration.agent.intake import Operator
from tests.integration.agent.node import CRASHERS, Agent, Node, Pod
from tests.soak.crashing import AT_ONCE, ERRNO_FULL, Case, Crash, Pods, Stage

LIBCS = ("glibc", "glibc-nopie", "musl")
NOT_HERE = frozenset({"hog"})
"""Uses all memory of its cgroup, and this one has no limit."""
NATIVE_RUNS = 2
"""Of each case, without the library: what their statuses are is right."""
BACKLOG = AT_ONCE // 4
"""Reports that may be missing when the next `AT_ONCE` crashes start."""
STARTS_CUT = 0.25
"""Share of the agents that die within `START_SECONDS` of their start."""
START_SECONDS = 2.0
AGENT_SECONDS = 15.0
"""Longest life of the others once they are ready; uniform."""
WAVES_MET = 0.75
"""Share of the waves that wait for an agent; the others come when they come."""
LOOK_SECONDS = 0.1
"""Between looks at the log of an agent that starts."""
QUIET_SECONDS = 60.0
"""Without a further report until those missing are given up."""


@dataclass
class Baseline:
    """What each case does with no agent around."""

    statuses: dict[Case, set[int]] = field(default_factory=lambda: defaultdict(set))
    """Without the library."""
    written: dict[Case, int] = field(default_factory=dict)
    """Snapshots, with it."""
    mute: set[Case] = field(default_factory=set)
    """Without a word about them: the process closed its stderr."""
    out_of_descriptors: Counter[Case] = field(default_factory=Counter)
    """Errors of the number of a full directory, in one that was empty."""


def dying_ways(stage: Stage, pod: Pod) -> list[str]:
    """The ways that end in a signal, by themselves."""
    listed = subprocess.run(
        [CRASHERS / "glibc/crasher", "list"], check=True, capture_output=True, text=True
    ).stdout.split()
    ended: list[Crash] = []
    ways = (way for way in listed if way not in NOT_HERE)
    stage.run((stage.crash(Case(way, "glibc", False), pod, False) for way in ways), ended.append)
    return sorted(c.case.way for c in ended if c.status is not None and c.status < 0)


def measure(stage: Stage, pod: Pod, cases: Iterable[Case]) -> Baseline:
    """Run each case natively, and once with the library."""
    baseline = Baseline()
    distinct = sorted(set(cases))

    def ended(crash: Crash) -> None:
        if crash.library:
            baseline.written[crash.case] = len(pod.names())
            if crash.written < len(pod.names()):
                baseline.mute.add(crash.case)
            baseline.out_of_descriptors[crash.case] = crash.errors.count(ERRNO_FULL)
            for name in pod.names():
                (pod.directory / name).unlink(missing_ok=True)
        elif crash.status is None:
            raise TimeoutError(f"{crash.case} hangs without the library")
        else:
            baseline.statuses[crash.case].add(crash.status)

    native = (case for case in distinct for _ in range(NATIVE_RUNS))
    stage.run((stage.crash(case, pod, False) for case in native), ended)
    for case in distinct:  # one by one: the directory is emptied after each
        stage.run([stage.crash(case, pod, True)], ended)
    return baseline


class Mortal:
    """Agents, one after the other; each but the last is killed."""

    def __init__(self, node: Node, operator: Operator, chance: random.Random) -> None:
        self._node = node
        self._operator = operator
        self._chance = chance
        self.killed = 0
        self.ended_by_itself = 0
        self._start()

    def _start(self) -> None:
        self._agent = Agent(
            self._node, self._operator.address, self._operator.credentials, analyses=2
        )
        self._cut = self._chance.random() < STARTS_CUT
        self._life = self._chance.uniform(0, START_SECONDS if self._cut else AGENT_SECONDS)
        self._dies = time.monotonic() + self._life if self._cut else None

    def ready(self) -> bool:
        """Whether the agent has said so; its life is counted from then."""
        ready = bool(self._agent.lines("ready"))
        if ready and self._dies is None:
            self._dies = time.monotonic() + self._life
        return ready

    def due(self) -> float:
        """Kill the agent if its time has come; seconds until the next look."""
        self.revive()
        if self._dies is None:
            self.ready()
            return LOOK_SECONDS
        if time.monotonic() >= self._dies:
            self._agent.kill()
            self.killed += 1
            self._start()
            return LOOK_SECONDS
        return max(0.0, self._dies - time.monotonic())

    def revive(self) -> None:
        """Start another if the agent ended by itself."""
        if self._agent.process.poll() is not None:
            self.ended_by_itself += 1
            print(self._agent.log.read_text()[-2000:], file=sys.stderr)
            self._start()


@dataclass
class Figures:
    """What came out."""

    hangs: list[str] = field(default_factory=list)
    statuses: list[str] = field(default_factory=list)
    lost: list[str] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)
    written: int = 0
    full: int = 0
    reports: int = 0
    nameless: int = 0
    attested: int = 0
    refused: Counter[str] = field(default_factory=Counter)
    """Snapshots that agents refused, by reason; each of them is lost."""


def judge_ends(crashes: list[Crash], baseline: Baseline, figures: Figures) -> None:
    for crash in crashes:
        who = f"{crash.name} {crash.case}"
        expected = baseline.statuses[crash.case]
        if crash.status is None:
            figures.hangs.append(who)
        elif crash.status not in expected:
            figures.statuses.append(f"{who}: {crash.status}, natively {sorted(expected)}")
        figures.written += crash.written
        full = crash.errors.count(ERRNO_FULL) - baseline.out_of_descriptors[crash.case]
        figures.full += full
        missing = baseline.written[crash.case] - crash.written - full
        if missing > 0:
            figures.lost.append(f"{who}: {missing} snapshots not written, errno {crash.errors}")


def judge_reports(
    crashes: list[Crash], reports: list[Report], pods: dict[str, Pod], figures: Figures
) -> int:
    """Match reports and snapshots; returns how many snapshots have no report yet."""
    by_name = {crash.name: crash for crash in crashes}
    missing: Counter[str] = Counter({crash.name: crash.written for crash in crashes})
    nameless: Counter[str] = Counter()
    for report in reports:
        pod = pods.get(report.pod.uid)
        crash = by_name.get(report.process)
        figures.reports += 1
        figures.attested += report.attested
        if pod is None or not _is_of(report, pod):
            figures.wrong.append(f"{report.id}: {_one_line(report)}")
        elif crash is None:
            figures.nameless += 1
            nameless[pod.uid] += 1
        elif crash.pod is not pod:
            figures.wrong.append(f"{report.id} of {crash.name}: {_one_line(report)}")
        else:
            missing[crash.name] -= 1
    absent = 0
    for crash in crashes:
        count = missing[crash.name]
        made_up = min(max(count, 0), nameless[crash.pod.uid])
        nameless[crash.pod.uid] -= made_up
        absent += max(count, 0) - made_up
        if count - made_up > 0:
            figures.lost.append(f"{crash.name} {crash.case}: {count - made_up} not reported")
        elif count < 0:
            figures.wrong.append(f"{crash.name} {crash.case}: {-count} reports too many")
    figures.wrong += [
        f"{count} reports too many of pod {uid}" for uid, count in (+nameless).items()
    ]
    return absent


def refusals(node: Node) -> Counter[str]:
    """By reason, of all agents of the node."""
    found: Counter[str] = Counter()
    for log in node.directory.glob("agent-*.log"):
        lines = (line for line in log.read_text().splitlines() if '"snapshot refused"' in line)
        found.update(json.loads(line)["reason"] for line in lines)
    return found


def _one_line(report: Report) -> str:
    return " ".join(str(report.pod).split())


def _is_of(report: Report, pod: Pod) -> bool:
    """The container's id is proven or left out, never another's."""
    claimed = (report.pod.namespace, report.pod.name, report.pod.container)
    ids = (pod.container_id,) if report.attested else (pod.container_id, "")
    return claimed == (pod.namespace, pod.name, pod.container) and report.pod.container_id in ids


def digest(crashes: Iterable[Crash], operator: Operator, mortal: Mortal) -> None:
    """Let reports come until `BACKLOG` are missing, or none came for long: `settle` judges."""
    written = sum(crash.written for crash in crashes)
    quiet = time.monotonic()
    seen = 0
    while written - (reports := len(operator.reports)) > BACKLOG:
        if reports > seen:
            seen, quiet = reports, time.monotonic()
        if time.monotonic() - quiet > QUIET_SECONDS:
            return
        operator.wait_change(mortal.due())


def settle(crashes: list[Crash], operator: Operator, pods: Pods, mortal: Mortal) -> Figures:
    """Wait for the reports that are missing, while they still come."""
    quiet = time.monotonic()
    seen = -1
    while True:
        figures = Figures()
        reports = list(operator.reports.values())
        absent = judge_reports(crashes, reports, pods.all, figures)
        if len(reports) > seen:
            seen, quiet = len(reports), time.monotonic()
        if absent == 0 or time.monotonic() - quiet > QUIET_SECONDS:
            return figures
        mortal.revive()
        operator.wait_change(1.0)


def soak(count: int, seed: int, directory: Path) -> bool:
    chance = random.Random(seed)
    credentials, place = directory / "credentials", directory / "node"
    for path in (credentials, place):
        path.mkdir()
    began = time.monotonic()
    with Node(place) as node:
        stage = Stage(node)
        quarry = Pod(node).set_up()
        ways = dying_ways(stage, quarry)
        cases = [
            Case(chance.choice(ways), chance.choice(LIBCS), chance.random() < 0.5)
            for _ in range(count)
        ]
        baseline = measure(stage, quarry, cases)
        quarry.tear_down()
        measured = time.monotonic()
        print(
            f"baseline: {len(baseline.written)} cases of {len(ways)} ways that die,"
            f" measured in {measured - began:.0f} s",
            flush=True,
        )

        pods = Pods(node, chance)
        operator = Operator(credentials).start()
        operator.sample_kept = False
        mortal = Mortal(node, operator, chance)
        crashes: deque[Crash] = deque()

        def ended(crash: Crash) -> None:
            if crash.case in baseline.mute:
                crash.written = baseline.written[crash.case]
            crashes.append(crash)
            pods.ended(crash.pod)

        for first in range(0, count, AT_ONCE):
            wave = cases[first : first + AT_ONCE]
            meet = chance.random() < WAVES_MET
            while meet and not mortal.ready():
                operator.wait_change(mortal.due())
            stage.run((stage.crash(case, pods.take(), True) for case in wave), ended, mortal.due)
            digest(crashes, operator, mortal)
        crashed = time.monotonic()
        figures = settle(list(crashes), operator, pods, mortal)
        judge_ends(list(crashes), baseline, figures)
        figures.refused = refusals(node)
        operator.stop()
    print_figures(figures, mortal, len(pods.all), len(crashes))
    now = time.monotonic()
    print(f"{now - began:.0f} s, of which the last {now - crashed:.0f} s waited for reports")
    return not (
        figures.hangs or figures.statuses or figures.lost or figures.wrong or mortal.ended_by_itself
    )


def print_figures(figures: Figures, mortal: Mortal, pods: int, crashes: int) -> None:
    print(
        f"{crashes} crashes, {AT_ONCE} at once, in {pods} pods; agent killed {mortal.killed} times"
    )
    print(f"{figures.written} snapshots written, {figures.full} not: directory full")
    print(
        f"{figures.reports} reports, {figures.attested} attested,"
        f" {figures.nameless} without a process name"
    )
    refused = ", ".join(f"{count} {reason}" for reason, count in figures.refused.most_common())
    print(f"{figures.refused.total()} snapshots refused{refused and f': {refused}'}")
    for title, found in (
        ("hangs", figures.hangs),
        ("changed exit statuses", figures.statuses),
        ("lost", figures.lost),
        ("wrong attributions", figures.wrong),
    ):
        print(f"{len(found)} {title}")
        for line in found[:20]:
            print(f"    {line}")
    print(f"{mortal.ended_by_itself} agents that ended by themselves")


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--crashes", type=int, default=200)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(1 << 32))
    arguments = parser.parse_args()
    print(f"SEED={arguments.seed}", flush=True)
    # The kernel's own cores are no part of it.
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    with tempfile.TemporaryDirectory(prefix="stillframe-soak-") as directory:
        return 0 if soak(arguments.crashes, arguments.seed, Path(directory)) else 1


if __name__ == "__main__":
    sys.exit(main())
