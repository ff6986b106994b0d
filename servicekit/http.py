"""An HTTP server beside the gRPC one: the same process, the same event loop."""

from __future__ import annotations

import asyncio
import logging
import math
import socket
from collections.abc import AsyncIterator, Generator
from contextlib import ExitStack, asynccontextmanager, contextmanager
from typing import Any

import uvicorn

from servicekit.server import StartupError
from servicekit.settings import ServerSettings

_log = logging.getLogger("plumbline.server")


@asynccontextmanager
async def serving_http(
    app: Any, settings: ServerSettings, port: int, variable: str, *, shares_port: bool = False
) -> AsyncIterator[int]:
    """Serves an ASGI application meanwhile; yields the port, which is a free one for port 0.

    variable: the environment variable that moves the port. shares_port: with other processes. At the end, no
    new connections are taken and those in flight have the grace that settings give. Raises StartupError when
    the port is taken.
    """
    listener = _listen(settings.host, port, variable, shares_port)
    config = uvicorn.Config(
        app,
        log_config=None,
        access_log=False,
        lifespan="off",
        ws="none",
        server_header=False,
        limit_concurrency=settings.max_concurrent_rpcs,
        timeout_graceful_shutdown=math.ceil(settings.grace_seconds),
    )
    # It says at INFO what is said here in one line.
    logging.getLogger("uvicorn.error").setLevel(logging.WARNING)
    server = _Server(config)
    running = asyncio.create_task(server.serve([listener]))
    chosen: int = listener.getsockname()[1]
    _log.info("listening on %s:%d for HTTP", settings.host, chosen)
    try:
        yield chosen
    finally:
        server.should_exit = True
        await running
        listener.close()


class _Server(uvicorn.Server):
    """Leaves signals to the process, whose one stop ends both servers."""

    @contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        """No handlers of its own."""
        yield


def _listen(host: str, port: int, variable: str, shares_port: bool) -> socket.socket:
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        with ExitStack() as stack:
            listener = stack.enter_context(socket.socket(family, kind, protocol))
            # A port whose last connections still fade is free; one that somebody listens on is not.
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if shares_port:
                listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            listener.bind(address)
            # Connections that come before the server runs wait for it.
            listener.listen(1024)
            listener.setblocking(False)
            stack.pop_all()
    except OSError as error:
        raise StartupError(
            f"cannot listen on {host}:{port} for HTTP: {error.strerror}. "
            f"Set {variable} to a free port, or to none."
        ) from error
    return listener
