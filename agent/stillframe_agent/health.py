"""Health: what the agent says of itself over HTTP.

``/healthz`` (the event loop turns), ``/readyz`` (and the work can begin),
``/metrics``.  Forty lines of HTTP/1.0 in the event loop, because the standard
library's servers wake up twice a second for nothing.
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Final

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest

_REQUEST_SECONDS: Final = 5.0
_REQUEST_LINES: Final = 100
_PLAIN: Final = "text/plain; charset=utf-8"


@dataclass(slots=True)
class Health:
    """What is not done yet, and what is wrong but does not stop us."""

    waiting_for: set[str] = field(default_factory=set)
    """Reasons for which we are not ready."""
    conditions: dict[str, str] = field(default_factory=dict)
    """CamelCase reason → what to do about it."""

    def ready(self) -> tuple[HTTPStatus, str]:
        """Status and body of ``/readyz``."""
        lines = [f"waiting for {reason}" for reason in sorted(self.waiting_for)] or ["ready"]
        lines += [f"{reason}: {text}" for reason, text in sorted(self.conditions.items())]
        status = HTTPStatus.SERVICE_UNAVAILABLE if self.waiting_for else HTTPStatus.OK
        return status, "\n".join(lines) + "\n"


async def serve(
    address: tuple[str, int],
    ready: Callable[[], tuple[HTTPStatus, str]],
    registry: CollectorRegistry | None = None,
) -> asyncio.Server:
    """Start answering on ``address``; raises `OSError` when it is taken."""

    def answer(path: str) -> tuple[HTTPStatus, str, bytes]:
        if path == "/healthz":
            return HTTPStatus.OK, _PLAIN, b"ok\n"
        if path == "/readyz":
            status, text = ready()
            return status, _PLAIN, text.encode()
        if path == "/metrics" and registry is not None:
            return HTTPStatus.OK, CONTENT_TYPE_LATEST, generate_latest(registry)
        return HTTPStatus.NOT_FOUND, _PLAIN, b"there are /healthz, /readyz and /metrics\n"

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            async with asyncio.timeout(_REQUEST_SECONDS):
                method, path = await _request(reader)
                status, kind, body = answer(path)
                head = (
                    f"HTTP/1.0 {status.value} {status.phrase}\r\nContent-Type: {kind}\r\n"
                    f"Content-Length: {len(body)}\r\nConnection: close\r\n\r\n"
                )
                writer.write(head.encode() + (b"" if method == "HEAD" else body))
                await writer.drain()
        except (ValueError, OSError, EOFError, asyncio.LimitOverrunError):
            pass  # a client that is gone, slow or speaks no HTTP: nothing to tell anybody
        finally:
            writer.close()

    return await asyncio.start_server(handle, *address, limit=8 << 10)


async def _request(reader: asyncio.StreamReader) -> tuple[str, str]:
    """Method and path; raises `ValueError` for anything that is not HTTP."""
    method, target, _version = (await reader.readuntil(b"\r\n")).decode("ascii").split()
    for _ in range(_REQUEST_LINES):
        if await reader.readuntil(b"\r\n") == b"\r\n":
            return method, target.partition("?")[0]
    raise ValueError("too many header lines")
