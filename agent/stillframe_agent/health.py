"""Health: what the agent says of itself over HTTP.

``/healthz`` (the event loop turns), ``/readyz`` (and the work can begin),
``/metrics``.  Forty lines of HTTP/1.0 in the event loop, because the standard
library's servers wake up twice a second for nothing.
"""

import asyncio
import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Final

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest
from prometheus_client.metrics_core import GaugeMetricFamily
from prometheus_client.registry import Collector

from stillframe_agent.conditions import Reason
from stillframe_agent.logs import event
from stillframe_agent.selftest import CAPABILITY_MISSING

log: Final = logging.getLogger(__name__)

_REQUEST_SECONDS: Final = 5.0
_REQUEST_LINES: Final = 100
_PLAIN: Final = "text/plain; charset=utf-8"

STOPPING: Final = frozenset({Reason.STATE_DIRECTORY.value, CAPABILITY_MISSING})
"""With one of these nothing is captured here, and no more agents like us should be rolled out."""


@dataclass(slots=True, eq=False)
class Health(Collector):
    """What is not done yet, and what is wrong."""

    waiting_for: set[str] = field(default_factory=set)
    """Reasons for which we are not ready."""
    conditions: dict[str, str] = field(default_factory=dict)
    """CamelCase reason → what to do about it."""
    look: Callable[[], dict[str, str]] = dict
    """Likewise, of what is looked at whenever somebody asks."""
    _told: frozenset[str] = frozenset()

    def current(self) -> dict[str, str]:
        """Every condition as of now; what has changed is logged."""
        found = self.conditions | self.look()
        for reason in found.keys() - self._told:
            level = logging.ERROR if reason in STOPPING else logging.WARNING
            event(log, level, found[reason], reason=str(reason))
        for reason in self._told - found.keys():
            event(log, logging.INFO, "a condition has gone", reason=str(reason))
        self._told = frozenset(found)
        return found

    def ready(self) -> tuple[HTTPStatus, str]:
        """Status and body of ``/readyz``."""
        found = self.current()
        lines = [f"waiting for {reason}" for reason in sorted(self.waiting_for)]
        unready = bool(lines or found.keys() & STOPPING)
        lines += [] if unready else ["ready"]
        lines += [f"{reason}: {text}" for reason, text in sorted(found.items())]
        status = HTTPStatus.SERVICE_UNAVAILABLE if unready else HTTPStatus.OK
        return status, "\n".join(lines) + "\n"

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """The conditions as a metric."""
        family = GaugeMetricFamily(
            "stillframe_agent_condition",
            "1 for each condition that the readiness page tells of, by reason.",
            labels=["reason"],
        )
        for reason in self.current():
            family.add_metric([str(reason)], 1)
        yield family


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
