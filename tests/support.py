"""Helpers for tests: real servers on free ports, in this process."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from servicekit.server import Build, GrpcServer, SettingsT
from servicekit.telemetry import Telemetry, build_telemetry


@contextmanager
def running_server(
    settings: SettingsT,
    build: Build[SettingsT],
    telemetry: Telemetry | None = None,
    start_seconds: float = 60,
) -> Iterator[str]:
    """Runs a program's own composition root and server on a thread; yields "127.0.0.1:port".

    settings: with port 0, so that a free port is taken. Errors of the start are raised here.
    """
    own = telemetry or build_telemetry("test")
    started: threading.Event = threading.Event()
    outcome: list[str | BaseException] = []
    loop_box: list[tuple[asyncio.AbstractEventLoop, asyncio.Event]] = []

    async def serve() -> None:
        stop = asyncio.Event()
        loop_box.append((asyncio.get_running_loop(), stop))
        async with build(settings, own) as services:
            server = GrpcServer(settings, services, own)
            outcome.append(f"127.0.0.1:{await server.start()}")
            started.set()
            await stop.wait()
            await server.stop(grace=2)

    def main() -> None:
        try:
            asyncio.run(serve())
        except BaseException as error:  # noqa: BLE001 - handed to the test's thread
            outcome.append(error)
        finally:
            started.set()

    thread = threading.Thread(target=main, daemon=True)
    thread.start()
    started.wait(start_seconds)
    if not outcome or isinstance(outcome[0], BaseException):
        raise outcome[0] if outcome and isinstance(outcome[0], BaseException) else TimeoutError("no server")
    try:
        yield outcome[0]
    finally:
        loop, stop = loop_box[0]
        loop.call_soon_threadsafe(stop.set)
        thread.join(30)
        if telemetry is None:
            own.shutdown()
        if len(outcome) > 1 and isinstance(outcome[1], BaseException):
            raise outcome[1]


def wait_until(condition: Callable[[], bool], timeout: float = 30.0, what: str = "") -> None:
    """Returns once the condition holds; fails the test after `timeout` seconds."""
    deadline = time.monotonic() + timeout
    while not condition():
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {timeout} s: {what or condition}")
        time.sleep(0.02)
