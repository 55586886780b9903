"""250 pods on one node, and a hundred crashes at once: what is captured, what the agent needs.

A real agent with the privileges of its pod, an intake that takes every report,
pods that it watches; a hundred of them have one process each, which all die
when the other end of one FIFO is opened.  The holds are those of the reports;
the agent's memory is its own, without its analysis children: resident before
(all volumes watched), and the most there ever was.

There is no peer that holds: `bench.hold` has one for a single crash.  Counts and
memory are promises; times are only told.

    python -m bench.storm.run
"""

import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from bench.measurements import Measurement, report
from stillframe.rpc.v1.intake_pb2 import Report
from tests.integration.agent.intake import Operator
from tests.integration.agent.node import Agent, Node, Pod, wait_until

HERE = Path(__file__).parent
BUILD = HERE.parents[1] / "build/bench/storm"
PODS = 250
CRASHES = 100
IDLE_SECONDS = 10.0
SECONDS = 300.0
"""Longest wait for the last report."""
IDLE_MIB_MOST = 64
PEAK_MIB_MOST = 150


def storm(node: Node, operator: Operator) -> list[Measurement]:
    agent = Agent(node, operator.address, operator.credentials).wait_ready()
    pods = [Pod(node, name=f"cart-{number}").set_up() for number in range(PODS)]
    for pod in pods:
        agent.wait_watching(pod)
    woken = -agent.metric('wakeups_total{source="inotify"}')
    switches = -agent.switches()
    time.sleep(IDLE_SECONDS)  # what is measured is what happens in it
    switches += agent.switches()
    woken += agent.metric('wakeups_total{source="inotify"}')
    idle = agent.memory_mib("VmRSS")
    gate = node.directory / "gate"
    os.mkfifo(gate)
    victims = [pod.start(BUILD / "crash", gate, preload=True) for pod in pods[:CRASHES]]
    for victim in victims:
        wait_until("a process at the gate", lambda pid=victim.pid: at_the_gate(pid))  # type: ignore[misc]
    before = processor_ms(agent.pid)
    began = time.monotonic()
    opened = os.open(gate, os.O_WRONLY)
    statuses = [victim.wait(timeout=SECONDS) for victim in victims]
    died = time.monotonic() - began
    spent = processor_ms(agent.pid) - before
    reports = operator.wait_reports(CRASHES, SECONDS)
    told = time.monotonic() - began
    peak = agent.memory_mib("VmHWM")
    os.close(opened)
    held = [one.held_millis for one in reports if one.attested]
    return [
        Measurement("processes that did not die their own death", "", changed(statuses), limit=0),
        Measurement("crashes without a report", "", CRASHES - len(reports), limit=0),
        Measurement("reports without a complete snapshot", "", incomplete(reports), limit=0),
        Measurement("reports that came twice", "", len(operator.calls) - CRASHES, limit=0),
        Measurement("files left in volumes", "", sum(len(p.names()) for p in pods), limit=0),
        Measurement("crashes that waited for us", "", len(held)),
        *holds(held),
        Measurement("from the first crash to the last death", "s", round(died, 2)),
        Measurement("agent's processor time until then, for one crash", "ms", spent / CRASHES),
        Measurement("from the first crash to the last report", "s", round(told, 2)),
        Measurement(f"wake-ups for {PODS} idle pods, {IDLE_SECONDS:g} s", "", woken, limit=0),
        Measurement("agent's context switches, idle", "/s", round(switches / IDLE_SECONDS, 1)),
        Measurement("agent resident, idle", "MiB", idle, limit=IDLE_MIB_MOST),
        Measurement("agent resident, peak", "MiB", peak, limit=PEAK_MIB_MOST),
    ]


def holds(held: list[int]) -> list[Measurement]:
    """Of the processes that waited until we let them go; the others went after the claim time."""
    quantiles = statistics.quantiles(held, n=100, method="inclusive")
    return [
        Measurement(f"signal to release, {title}", "ms", round(quantiles[percent - 1], 1))
        for title, percent in (("median", 50), ("p99", 99))
    ]


def changed(statuses: list[int]) -> int:
    return sum(status != -signal.SIGSEGV for status in statuses)


def incomplete(reports: list[Report]) -> int:
    return sum(one.captured != "snapshot" or not one.top_frame for one in reports)


def at_the_gate(pid: int) -> bool:
    """Whether a process is the crasher by now, and sleeps."""
    fields = Path(f"/proc/{pid}/stat").read_text().partition("(")[2].split()
    return fields[:2] == ["crash)", "S"]


def processor_ms(pid: int) -> int:
    """Of all threads and no child; clock ticks are of 10 ms."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) * 10


def main() -> int:
    subprocess.run(["make", "-s", "-C", HERE.parents[1] / "preload"], check=True, stdout=sys.stderr)
    BUILD.mkdir(parents=True, exist_ok=True)
    subprocess.run(["gcc", "-O1", "-g", "-o", BUILD / "crash", HERE / "crash.c"], check=True)
    with tempfile.TemporaryDirectory(prefix="stillframe-bench-") as directory:
        place, credentials = Path(directory) / "node", Path(directory) / "credentials"
        for path in (place, credentials):
            path.mkdir()
        operator = Operator(credentials).start()
        with Node(place) as node:
            found = storm(node, operator)
        operator.stop()
    return report("storm", found, crashes=CRASHES)


if __name__ == "__main__":
    sys.exit(main())
