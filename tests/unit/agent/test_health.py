"""What the agent says over HTTP, also to clients that do not behave."""

import asyncio
import contextlib
import socket
from http import HTTPStatus

import pytest
from stillframe_agent.health import Health, serve
from stillframe_agent.metrics import Metrics
from stillframe_agent.served import readable


async def ask(port: int, request: bytes) -> bytes:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(request)
    writer.write_eof()
    answer = await reader.read()
    writer.close()
    return answer


async def talk(health: Health, request: bytes) -> bytes:
    server = await serve(("127.0.0.1", 0), health.ready, Metrics().registry)
    async with server:
        return await ask(server.sockets[0].getsockname()[1], request)


@pytest.mark.parametrize(
    ("request_line", "status", "body"),
    [
        (b"GET /healthz HTTP/1.1", 200, b"ok\n"),
        (b"GET /readyz?verbose HTTP/1.1", 200, b"ready\nPtraceDenied: why\n"),
        (b"HEAD /healthz HTTP/1.0", 200, b""),
        (b"GET /etc/passwd HTTP/1.1", 404, None),
    ],
)
async def test_pages(request_line: bytes, status: int, body: bytes | None) -> None:
    health = Health(conditions={"PtraceDenied": "why"})
    answer = await talk(health, request_line + b"\r\nHost: x\r\n\r\n")
    head, _, content = answer.partition(b"\r\n\r\n")
    assert head.startswith(f"HTTP/1.0 {status} ".encode())
    assert body is None or content == body


async def test_who_waits_is_not_ready_and_says_for_what() -> None:
    health = Health(waiting_for={"the spool"})
    assert health.ready() == (HTTPStatus.SERVICE_UNAVAILABLE, "waiting for the spool\n")


async def test_metrics_have_names_with_units() -> None:
    answer = (await talk(Health(), b"GET /metrics HTTP/1.1\r\n\r\n")).decode()
    for name in ("hold_seconds_bucket", "spool_bytes", "artifact_bytes", "directories"):
        assert f"stillframe_agent_{name}" in answer
    assert "process_resident_memory_bytes" in answer


@pytest.mark.parametrize(
    "noise",
    [b"", b"\r\n\r\n", b"GET\r\n\r\n", b"\xff\xfe \x00\r\n\r\n", b"GET /healthz HTTP/1.1\r\n"],
)
async def test_noise_is_hung_up_on(noise: bytes) -> None:
    assert await talk(Health(), noise) == b""


async def test_endless_headers_are_hung_up_on() -> None:
    flood = b"GET /healthz HTTP/1.1\r\n" + b"A: b\r\n" * 200 + b"\r\n"
    with contextlib.suppress(ConnectionResetError):  # we closed with bytes of it unread
        assert await talk(Health(), flood) == b""


def test_a_taken_port_is_an_error() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken, pytest.raises(OSError, match="in use"):
        asyncio.run(serve(taken.getsockname(), Health().ready))


def test_artifacts_that_cannot_be_read_are_not_ready(tmp_path) -> None:  # type: ignore[no-untyped-def]
    assert readable(tmp_path)[0] == HTTPStatus.OK
    status, text = readable(tmp_path / "missing")
    assert status == HTTPStatus.SERVICE_UNAVAILABLE
    assert "missing" in text
