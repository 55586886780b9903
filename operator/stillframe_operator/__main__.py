"""``stillframe-operator``: read the settings, run until SIGTERM."""

import argparse
import asyncio
import logging
import os
import signal
import sys

from stillframe import __version__
from stillframe.errors import StillframeError
from stillframe_operator import logs, settings
from stillframe_operator.app import running

log = logging.getLogger("stillframe_operator")


def main() -> None:
    """Run; exit status 2 when the settings are not usable, 1 when the start fails."""
    parser = argparse.ArgumentParser(
        prog="stillframe-operator",
        description="Injects the capture library into pods and records their crashes.",
        epilog="Settings (environment variable, default):\n" + settings.describe(),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=__version__)
    parser.parse_args()
    try:
        chosen = settings.from_environment(os.environ)
    except StillframeError as error:
        parser.exit(2, f"stillframe-operator: {error}\n")
    logs.configure()
    try:
        asyncio.run(_run(chosen))
    except StillframeError as error:
        log.error("%s", error)
        sys.exit(1)


async def _run(chosen: settings.Settings) -> None:
    end = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, end.set)
    async with running(chosen) as ports:
        log.info("serving: %s", ports)
        await end.wait()


if __name__ == "__main__":
    main()
