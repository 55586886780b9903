"""``stillframe snapshot``: a running process, as if it had crashed now; it goes on."""

import os
from pathlib import Path

import click
import msgspec

from stillframe.capture.corejob import Compression
from stillframe.capture.fullcore import CoreRequest
from stillframe.capture.standby import Standby
from stillframe.cli.evidence import evidence_root, keep_live, keep_option
from stillframe.errors import StillframeError


@click.command()
@click.argument("pid", type=click.IntRange(1))
@keep_option
@click.option(
    "--timeout-hold",
    type=click.FloatRange(0.1, 3600),
    default=30.0,
    show_default=True,
    metavar="SECONDS",
    help="Longest time that the process is stopped; the core is cut there.",
)
@click.option(
    "--core-bytes",
    type=click.IntRange(1),
    default=16 << 30,
    show_default=True,
    metavar="BYTES",
    help="Largest core; a larger one is cut.",
)
@click.option("--json", "as_json", is_flag=True, help="Print the report as one line of JSON.")
def snapshot(
    *, pid: int, keep: Path | None, timeout_hold: float, core_bytes: int, as_json: bool
) -> None:
    """Report what the process PID is doing now, and keep a core of it.

    All its threads are stopped while its memory is copied, about a second per
    GiB; then it goes on unharmed.  Needs the right to trace it: the same user,
    or root.  The core is not compressed: gdb, lldb and drgn open it as it is.
    """
    try:
        standby = Standby()
        standby.prepare()
        request = CoreRequest(
            hold_seconds=timeout_hold,
            max_bytes=core_bytes,
            compression=Compression.NONE,
            standby=standby,
        )
        report, text = keep_live(evidence_root(keep, os.environ), pid, request)
    except (StillframeError, OSError) as error:
        raise click.ClickException(str(error)) from error
    click.echo(msgspec.json.encode(report) if as_json else text, nl=as_json)
