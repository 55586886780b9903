"""Local mode: the agent's stages without Kubernetes, and reports for people.

``stillframe run -- ./app`` runs a program under the preload library and
captures its crashes; ``stillframe snapshot PID`` looks at one that runs, and lets
it go on; ``stillframe analyze DIR`` looks into what was kept, or into a core;
``stillframe bundle DIR`` packs it for another machine.
The stages are those of `stillframe.capture` and `stillframe.analysis`; here is
only what a terminal needs.

One module per idea: `library` (which library), `coverage` (what it cannot
see), `child` (the program, its signals and its death), `watcher` (its
crashes), `evidence` (what is kept), `sample` (what was kept), `run`, `snapshot`,
`analyze` and `bundle` (the commands).
"""

import click

from stillframe import __version__
from stillframe.cli.analyze import analyze
from stillframe.cli.bundle import bundle
from stillframe.cli.run import run
from stillframe.cli.snapshot import snapshot


@click.group()
@click.version_option(__version__)
def main() -> None:
    """A still frame of every process that dies."""


main.add_command(run)
main.add_command(snapshot)
main.add_command(analyze)
main.add_command(bundle)
