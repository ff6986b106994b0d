"""An HTTP server beside the gRPC one: where it listens, and how it ends."""

from __future__ import annotations

import asyncio
import signal
import socket
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from servicekit.http import serving_http
from servicekit.server import StartupError
from servicekit.settings import ServerSettings

SETTINGS = ServerSettings(grace_seconds=5)
ASK = b"GET / HTTP/1.1\r\nHost: here\r\nConnection: close\r\n\r\n"


def app(answer: Any) -> Starlette:
    return Starlette(routes=[Route("/", answer)])


async def ask(port: int) -> bytes:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(ASK)
    reply = await reader.read()
    writer.close()
    await writer.wait_closed()
    return reply


async def test_a_call_in_flight_is_answered_when_the_server_stops() -> None:
    begun, go_on = asyncio.Event(), asyncio.Event()

    async def slow(_: Request) -> PlainTextResponse:
        begun.set()
        await go_on.wait()
        return PlainTextResponse("done")

    async with serving_http(app(slow), SETTINGS, 0, "A_PORT") as port:
        asked = asyncio.create_task(ask(port))
        await begun.wait()
        asyncio.get_running_loop().call_later(0.3, go_on.set)
    assert (await asked).endswith(b"done")
    with pytest.raises(ConnectionRefusedError):
        await ask(port)


async def test_a_call_that_outlives_the_grace_is_ended() -> None:
    begun, ended = asyncio.Event(), asyncio.Event()

    async def stuck(_: Request) -> PlainTextResponse:
        begun.set()
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()
        return PlainTextResponse("never")

    async with serving_http(app(stuck), ServerSettings(grace_seconds=0.1), 0, "A_PORT") as port:
        asked = asyncio.create_task(ask(port))
        await begun.wait()
    assert ended.is_set()
    assert b"never" not in await asked


async def test_a_port_that_is_taken_is_named_with_its_variable() -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        with pytest.raises(
            StartupError, match=rf"127\.0\.0\.1:{port} .* Set A_PORT to a free port, or to none"
        ):
            async with serving_http(app(None), SETTINGS, port, "A_PORT"):
                pass


async def test_signals_stay_with_the_process() -> None:
    """uvicorn would take SIGTERM for itself, and the gRPC server would not hear of it."""
    before = [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)]
    async with serving_http(app(None), SETTINGS, 0, "A_PORT"):
        await asyncio.sleep(0)
        assert [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)] == before
