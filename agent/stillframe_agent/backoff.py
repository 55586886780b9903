"""Backoff: one gate for all that talk to one server, so that it can come up again.

Exponential, with jitter.  Belongs to one event loop.
"""

import asyncio
import random


class Backoff:
    """Closed for a while after a failure; open until the first one."""

    def __init__(self, first: float, most: float) -> None:
        """Seconds: of the first pause, and of the longest."""
        self._first = first
        self._most = most
        self._failures = 0
        self._until = 0.0

    async def wait(self) -> None:
        """Until the gate opens; it may have been closed again meanwhile, which does no harm."""
        await asyncio.sleep(max(0.0, self._until - asyncio.get_running_loop().time()))

    def succeeded(self) -> None:
        """Open the gate."""
        self._failures = 0
        self._until = 0.0

    def failed(self, at_least: float) -> bool:
        """Close the gate; whether it was open, that is, whether this is news."""
        now = asyncio.get_running_loop().time()
        if now < self._until:
            return False
        self._failures += 1
        ceiling = min(self._most, self._first * 2 ** min(self._failures, 16))
        self._until = now + max(at_least, random.uniform(self._first, ceiling))  # noqa: S311
        return True
