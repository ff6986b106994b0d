"""The HTTP server of MLflow's API, in the process and on the loop of the gRPC server."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from ipaddress import ip_address

from registry_service.calls import Calls
from registry_service.mlflow_api.app import Limits, MlflowApi
from registry_service.reading import CachedReads
from registry_service.settings import RegistrySettings
from registry_service.transfers import Transfers
from servicekit.access import Gate
from servicekit.http import serving_http
from servicekit.telemetry import Telemetry

_THIS_MACHINE = frozenset({"localhost", "127.0.0.1", "[::1]"})


@asynccontextmanager
async def serving_mlflow(
    settings: RegistrySettings,
    calls: Calls,
    reads: CachedReads,
    transfers: Transfers,
    telemetry: Telemetry,
    gate: Gate | None,
) -> AsyncIterator[int | None]:
    """Serves meanwhile; yields the port, None when there is none to be served on. Raises StartupError."""
    if settings.http_port is None:
        yield None
        return
    limits = Limits(
        body=settings.max_message_bytes,
        slow=settings.slow_call_seconds,
        hosts=_hosts(settings),
        url=settings.http_url,
    )
    app = MlflowApi(calls, reads, transfers, telemetry, limits, gate)
    variable = settings.port_variable.replace("PORT", "HTTP_PORT")
    async with serving_http(app, settings, settings.http_port, variable) as port:
        yield port


def _hosts(settings: RegistrySettings) -> frozenset[str] | None:
    """Under which names callers may come: whoever listens on this machine alone is called by its names."""
    if settings.http_allowed_hosts:
        return _THIS_MACHINE | {host.lower() for host in settings.http_allowed_hosts}
    return _THIS_MACHINE | {settings.host} if _is_loopback(settings.host) else None


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
