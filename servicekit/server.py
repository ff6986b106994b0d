"""A gRPC server: start, health, reflection, drain on SIGTERM."""

from __future__ import annotations

import asyncio
import logging
import signal
import sys
from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Any, TypeVar

import grpc
import uvloop
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_health.v1.health import aio as health_aio
from grpc_reflection.v1alpha import reflection
from prometheus_client import start_http_server

from plumbline.errors import PlumblineError
from servicekit.access import Gate
from servicekit.garbage import settle
from servicekit.instrumentation import InstrumentedServer, LogPolicy
from servicekit.logs import configure_logging
from servicekit.settings import ServerSettings, read_settings
from servicekit.telemetry import Telemetry, build_telemetry

_log = logging.getLogger("plumbline.server")

_HEALTH = "grpc.health.v1.Health"

#: From one worker's metrics port to the next one's.
METRICS_STEP = 100


class StartupError(Exception):
    """The server cannot start; the message says why and what to do."""


@dataclass(frozen=True)
class Service:
    """One gRPC service: its full name, as in "plumbline.registry.v1.ModelRegistryService", and the
    function that adds it to a server: the generated add_…_to_server bound to its servicer."""

    name: str
    add_to: Callable[[Any], None]
    #: Methods that clients ask every second or so; OK and NOT_FOUND are logged at DEBUG unless slow.
    polled: frozenset[str] = frozenset()
    #: Methods that are called all the time; OK is logged at DEBUG unless slow.
    hot: frozenset[str] = frozenset()
    #: Called when the server begins to drain: streams that would never end by themselves must end now.
    drain: Callable[[], None] = lambda: None
    #: Asked before every call; None lets everybody in.
    gate: Gate | None = None

    def full_names(self, methods: frozenset[str]) -> frozenset[str]:
        """Methods as gRPC names them on the wire."""
        return frozenset(f"/{self.name}/{method}" for method in methods)


class GrpcServer:
    """Serves services on one port, with health (per service and overall) and reflection."""

    def __init__(
        self,
        settings: ServerSettings,
        services: Sequence[Service],
        telemetry: Telemetry,
        *,
        shares_port: bool = False,
    ) -> None:
        """shares_port: with other processes of this user, which take connections in turn."""
        self._settings, self._services = settings, services
        self._policy = LogPolicy(
            hot=frozenset().union(*(service.full_names(service.hot) for service in services)),
            polled=frozenset().union(*(service.full_names(service.polled) for service in services)),
            slow=settings.slow_call_seconds,
        )
        self._telemetry = telemetry
        self._server = grpc.aio.server(
            maximum_concurrent_rpcs=settings.max_concurrent_rpcs,
            options=[
                # A second server on the port is a mistake, not a helper, unless it is a worker.
                ("grpc.so_reuseport", int(shares_port)),
                ("grpc.max_receive_message_length", settings.max_message_bytes),
                ("grpc.max_send_message_length", settings.max_message_bytes),
                ("grpc.keepalive_permit_without_calls", 1),
                ("grpc.http2.min_ping_interval_without_data_ms", 30_000),
            ],
        )
        self._health = health_aio.HealthServicer()
        self.port = 0

    async def start(self, *, serving: bool = True) -> int:
        """Listens and returns the port. Raises StartupError when it is taken.

        serving: what health answers until `set_serving` says otherwise.
        """
        settings = self._settings
        instrumented: Any = InstrumentedServer(self._server, self._telemetry, self._policy)
        for service in self._services:
            service.add_to(InstrumentedServer(self._server, self._telemetry, self._policy, service.gate))
        health_pb2_grpc.add_HealthServicer_to_server(self._health, instrumented)
        names = [service.name for service in self._services]
        reflection.enable_server_reflection([*names, _HEALTH, reflection.SERVICE_NAME], self._server)
        try:
            self.port = self._server.add_insecure_port(f"{settings.host}:{settings.port}")
        except RuntimeError as error:
            raise StartupError(
                f"cannot listen on {settings.host}:{settings.port}: the port is taken or not allowed. "
                f"Set {settings.port_variable} to a free port."
            ) from error
        # Before the first probe can come: a server that is not ready must not look so for a moment.
        await self.set_serving(serving)
        await self._server.start()
        return self.port

    async def set_serving(self, serving: bool) -> None:
        """What health answers for every service and for the server as a whole."""
        state = (
            health_pb2.HealthCheckResponse.SERVING if serving else health_pb2.HealthCheckResponse.NOT_SERVING
        )
        for name in ("", *(service.name for service in self._services)):
            await self._health.set(name, state)

    async def stop(self, grace: float | None = None) -> None:
        """Reports NOT_SERVING, takes no new calls, and gives those in flight `grace` seconds."""
        await self.set_serving(False)
        for service in self._services:
            service.drain()
        await self._server.stop(self._settings.grace_seconds if grace is None else grace)


SettingsT = TypeVar("SettingsT", bound=ServerSettings)

#: An app.py's composition root: opens what the services need, yields them, closes it all again.
Build = Callable[[SettingsT, Telemetry], AbstractAsyncContextManager[Sequence[Service]]]


def run(
    name: str, settings_class: type[SettingsT], build: Build[SettingsT], worker: int | None = None
) -> int:
    """A server process from start to SIGTERM or SIGINT. Returns the exit code.

    worker: its number, when it is one of several (see servicekit.workers): then it shares its port, its
    metrics have a port of their own, and it ends too when its standard input does. 0: stopped as asked;
    2: could not start, with the reason on stderr.
    """
    settings = read_settings(name, settings_class)
    if settings is None:
        return 2
    if worker and settings.metrics_port:
        settings = settings.model_copy(update={"metrics_port": settings.metrics_port + worker * METRICS_STEP})
    configure_logging(name, settings.log_level, settings.log_format)
    telemetry = build_telemetry(
        name, otlp_endpoint=settings.otlp_endpoint, sample_ratio=settings.trace_sample_ratio
    )
    try:
        uvloop.run(_serve(name, settings, build, telemetry, worker))
    except (StartupError, PlumblineError) as error:
        print(f"{name}: {error}", file=sys.stderr)
        return 2
    finally:
        telemetry.shutdown()
    return 0


async def _serve(
    name: str, settings: SettingsT, build: Build[SettingsT], telemetry: Telemetry, worker: int | None
) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for signum in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(signum, stop.set)
    if worker is not None:
        # The parent writes nothing: what can be read is the end.
        loop.add_reader(sys.stdin.fileno(), stop.set)
    async with build(settings, telemetry) as services:
        server = GrpcServer(settings, services, telemetry, shares_port=worker is not None)
        port = await server.start()
        settle()
        metrics = _start_metrics(settings, telemetry)
        _log.info("%s listens on %s:%d", name, settings.host, port)
        await stop.wait()
        if worker is not None:
            loop.remove_reader(sys.stdin.fileno())
        _log.info("%s drains", name)
        await server.stop()
        if metrics is not None:
            metrics.shutdown()
    _log.info("%s stopped", name)


def _start_metrics(settings: ServerSettings, telemetry: Telemetry) -> Any:
    if settings.metrics_port is None:
        return None
    try:
        server, _ = start_http_server(
            settings.metrics_port, addr=settings.host, registry=telemetry.metrics.registry
        )
    except OSError as error:
        variable = settings.port_variable.replace("PORT", "METRICS_PORT")
        raise StartupError(
            f"cannot listen on {settings.host}:{settings.metrics_port} for metrics: {error.strerror}. "
            f"Set {variable} to a free port."
        ) from error
    return server
