"""The artifacts pod's process: waits, while `kubectl cp` runs ``tar`` beside it.

It reads a directory now and then for its readiness, and nothing else: no
capability, no token, no host namespace.
"""

import asyncio
import os
import signal
from http import HTTPStatus
from pathlib import Path

from stillframe_agent import health


async def run(listen: tuple[str, int], root: Path) -> None:
    """Answer health checks until SIGTERM or SIGINT."""
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    async with await health.serve(listen, lambda: readable(root)):
        await stop.wait()


def readable(root: Path) -> tuple[HTTPStatus, str]:
    """Whether we can serve what is in ``root``."""
    try:
        os.listdir(root)  # noqa: PTH208 -- only whether it can be read
    except OSError as error:
        text = f"waiting for the agent to make {root} readable: {error}\n"
        return HTTPStatus.SERVICE_UNAVAILABLE, text
    return HTTPStatus.OK, "ready\n"
