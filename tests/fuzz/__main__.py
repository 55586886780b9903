"""Fuzz what reads hostile bytes in the agent: ``python -m tests.fuzz [--minutes N] [TARGET ...]``.

Coverage-guided, by atheris (libFuzzer).  Each target runs in a process of its
own, two at a time, for its share of the minutes and five seconds at least.  A
finding stays in ``build/fuzz-agent``: give it to ``--again TARGET FILE``.
"""

import argparse
import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

ROOT = Path(__file__).parents[2]
BUILD = ROOT / "build/fuzz-agent"
AT_ONCE = 2
LEAST_SECONDS = 5
INPUT_SECONDS = 10
"""Longest that one input may take."""
INPUT_BYTES = 1 << 16
_RUNS = re.compile(r"stat::number_of_executed_units: (\d+)")
_EDGES = re.compile(r" cov: (\d+)")


def fuzz(target: str, seconds: int) -> str:
    """Fuzz one target; what to say, or the finding as a `RuntimeError`."""
    corpus = BUILD / "corpus" / target
    corpus.mkdir(parents=True, exist_ok=True)
    done = subprocess.run(
        [
            *(sys.executable, "-m", "tests.fuzz", "--libfuzzer", target),
            f"-max_total_time={seconds}",
            f"-timeout={INPUT_SECONDS}",
            f"-max_len={INPUT_BYTES}",
            f"-artifact_prefix={BUILD}/{target}-",
            *("-rss_limit_mb=1024", "-print_final_stats=1", corpus),
        ],
        cwd=ROOT,
        check=False,
        capture_output=True,
        text=True,
        errors="replace",
    )
    if done.returncode != 0:
        raise RuntimeError(f"fuzz: {target}: a finding\n{done.stdout[-2000:]}{done.stderr[-4000:]}")
    runs, edges = _RUNS.search(done.stderr), _EDGES.findall(done.stderr)
    if runs is None or not edges:
        raise RuntimeError(f"fuzz: {target}: did not run\n{done.stderr[-4000:]}")
    return f"fuzz: {target:9} {int(runs[1]):9} runs, {int(edges[-1]):4} edges, nothing found"


def libfuzzer(target: str, arguments: list[str]) -> None:
    """Be the fuzzer of one target; never returns."""
    import atheris

    with atheris.instrument_imports(include=["stillframe", "stillframe_agent"]):
        from tests.fuzz.targets import TARGETS
    chosen = TARGETS[target]
    corpus = Path(arguments[-1])
    for number, seed in enumerate(chosen.seeds()):
        (corpus / f"seed-{number}").write_bytes(seed)
    atheris.Setup(["fuzz", *arguments], chosen.check)
    atheris.Fuzz()


def names() -> list[str]:
    """Of all targets."""
    from tests.fuzz.targets import TARGETS

    return list(TARGETS)


def main() -> int:
    if sys.argv[1:2] == ["--libfuzzer"]:
        libfuzzer(sys.argv[2], sys.argv[3:])
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--minutes", type=float, default=0)
    parser.add_argument("--again", nargs=2, metavar=("TARGET", "FILE"))
    parser.add_argument("targets", nargs="*", metavar="TARGET")
    arguments = parser.parse_args()
    if arguments.again:
        from tests.fuzz.targets import TARGETS

        target, file = arguments.again
        TARGETS[target].check(Path(file).read_bytes())
        print(f"fuzz: {target}: {file} is no finding any more")
        return 0
    targets = arguments.targets or names()
    if unknown := set(targets) - set(names()):
        parser.error(
            f"no such target: {', '.join(sorted(unknown))}; there are {', '.join(names())}"
        )
    seconds = max(LEAST_SECONDS, int(arguments.minutes * 60 * AT_ONCE / len(targets)))
    found = 0
    with ThreadPoolExecutor(AT_ONCE) as threads:
        for run in [threads.submit(fuzz, target, seconds) for target in targets]:
            try:
                print(run.result(), flush=True)
            except RuntimeError as error:
                print(error, flush=True)
                found = 1
    return found


if __name__ == "__main__":
    sys.exit(main())
