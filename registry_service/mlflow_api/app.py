"""The HTTP side: finds the route of a request, and is the outermost frame of its call.

Plain ASGI: a request that is answered from memory costs little more than its parsing.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Awaitable, Callable, Collection
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qs

from plumbline.errors import InvalidArgument, PermissionDenied, PlumblineError
from registry_service.calls import Calls
from registry_service.mlflow_api.arguments import Arguments
from registry_service.mlflow_api.artifacts import ArtifactFiles
from registry_service.mlflow_api.endpoints import Call, Endpoint, routes
from registry_service.mlflow_api.errors import BodyTooLarge, NoSuchEndpoint, refusal
from registry_service.reading import CachedReads
from registry_service.transfers import Transfers
from servicekit.access import Gate
from servicekit.instrumentation import CallRecord, LogPolicy
from servicekit.telemetry import Telemetry

#: What calls over HTTP are counted under, where gRPC's have the name of their service.
SERVICE = "mlflow"
PREFIXES = ("/api/2.0/mlflow/", "/ajax-api/2.0/mlflow/")
ARTIFACTS = "/api/2.0/mlflow-artifacts/artifacts"
_ALIAS_VERBS = {"GET": "get-alias", "POST": "set-alias", "DELETE": "delete-alias"}
_HOT = ("registered-models/get", "registered-models/get-alias", "model-versions/get")

Send = Callable[[dict[str, Any]], Awaitable[None]]
Receive = Callable[[], Awaitable[dict[str, Any]]]


class _GoneError(Exception):
    """The caller did not wait."""


@dataclass(frozen=True)
class Limits:
    """body: bytes of a request's body. slow: see LogPolicy. hosts: the names under which callers may reach
    this server; None for any. url: of this server, as callers reach it; "" for the one they use."""

    body: int
    slow: float
    hosts: Collection[str] | None = None
    url: str = ""


@dataclass(frozen=True)
class _Route:
    endpoint: Endpoint
    record: CallRecord


class MlflowApi:
    """The ASGI application."""

    def __init__(
        self,
        calls: Calls,
        reads: CachedReads,
        transfers: Transfers,
        telemetry: Telemetry,
        limits: Limits,
        gate: Gate | None = None,
    ) -> None:
        self._limits, self._files = limits, ArtifactFiles(calls, transfers)
        policy = LogPolicy(hot=frozenset(f"/{SERVICE}/{name}" for name in _HOT), slow=limits.slow)

        def record(name: str) -> CallRecord:
            method = f"/{SERVICE}/{name}"
            return CallRecord(method, telemetry.metrics, telemetry.server_spans(method, "http"), policy, gate)

        self._routes: dict[tuple[str, str], _Route] = {}
        records: dict[str, CallRecord] = {}
        for (verb, path), endpoint in routes(calls, reads).items():
            name = path.replace("alias", _ALIAS_VERBS[verb]) if path.endswith("/alias") else path
            route = _Route(endpoint, records.setdefault(name, record(name)))
            self._routes |= {(verb, prefix + path): route for prefix in PREFIXES}
        self._artifacts, self._unknown = record("artifacts"), record("unknown")

    async def __call__(self, scope: dict[str, Any], receive: Receive, send: Send) -> None:
        path, verb = scope["path"], scope["method"]
        route = self._routes.get((verb, path))
        if route is not None:
            await self._answer(route.record, scope, send, lambda: self._endpoint(route, scope, receive))
        elif path in ("/health", "/health/"):
            await reply(send, 200, b"OK", b"text/plain")
        elif verb == "GET" and (path == ARTIFACTS or path.startswith(ARTIFACTS + "/")):
            await self._answer(self._artifacts, scope, send, lambda: self._artifact(scope, send))
        else:
            await self._answer(self._unknown, scope, send, lambda: _unknown(verb, path))

    async def _answer(
        self,
        record: CallRecord,
        scope: dict[str, Any],
        send: Send,
        call: Callable[[], Awaitable[bytes | None]],
    ) -> None:
        """Makes the call, and sends what it returns, unless it has sent it itself."""
        start = time.perf_counter()
        headers = [(key.decode("latin-1"), value.decode("latin-1")) for key, value in scope["headers"]]
        span = record.begin(headers)
        told: PlumblineError | None = None
        code = "OK"
        try:
            self._check_host(headers)
            record.admit(headers)
            body = await call()
            if body is not None:
                await reply(send, 200, body)
        except _GoneError:
            code = "CANCELLED"
        except asyncio.CancelledError:
            record.finished("CANCELLED", start, span)
            raise
        except Exception as error:  # noqa: BLE001 - the outermost frame of a call
            told = record.typed(error, span)
            refused = refusal(told)
            code = refused.canonical
            await reply(send, refused.status, refused.body())
        record.finished(code, start, span, told)

    async def _endpoint(self, route: _Route, scope: dict[str, Any], receive: Receive) -> bytes:
        query = scope["query_string"]
        if scope["method"] == "GET" and query:
            values = parse_qs(query.decode("utf-8", "replace"), keep_blank_values=True)
            arguments = Arguments(values, query=True)
        else:
            arguments = Arguments(await self._body(scope, receive))
        return await route.endpoint(Call(arguments, self._url(scope)))

    async def _artifact(self, scope: dict[str, Any], send: Send) -> bytes | None:
        # Decoded once by the server; nothing here decodes again.
        below = scope["path"][len(ARTIFACTS) :].lstrip("/")
        if below:
            await self._files.send(below, send)
            return None
        query = parse_qs(scope["query_string"].decode("utf-8", "replace"), keep_blank_values=True)
        return await self._files.listing(query.get("path", [""])[0])

    async def _body(self, scope: dict[str, Any], receive: Receive) -> dict[str, Any]:
        parts, size = [], 0
        while True:
            message = await receive()
            if message["type"] == "http.disconnect":
                raise _GoneError
            parts.append(message.get("body", b""))
            size += len(parts[-1])
            if size > self._limits.body:
                raise BodyTooLarge(f"a request may have {self._limits.body} bytes")
            if not message.get("more_body"):
                break
        body = b"".join(parts)
        if not body:
            return {}
        # A page in somebody's browser may send any site a form, but not this type without being asked.
        kind = next((value for key, value in scope["headers"] if key == b"content-type"), b"")
        if not kind.startswith(b"application/json"):
            raise InvalidArgument("send JSON, and Content-Type: application/json")
        try:
            document = json.loads(body)
            # Old clients encode twice.
            document = json.loads(document) if isinstance(document, str) else document
        except (ValueError, RecursionError) as error:
            raise InvalidArgument("the body of the request is no JSON") from error
        if not isinstance(document, dict):
            raise InvalidArgument("the body of the request is no JSON object")
        return document

    def _url(self, scope: dict[str, Any]) -> str:
        """Of the artifact route."""
        if self._limits.url:
            return self._limits.url.rstrip("/") + ARTIFACTS
        host = next((value.decode("latin-1") for key, value in scope["headers"] if key == b"host"), "")
        return f"{scope['scheme']}://{host}{ARTIFACTS}"

    def _check_host(self, headers: list[tuple[str, str]]) -> None:
        """Against pages that give their own name this server's address (DNS rebinding)."""
        if self._limits.hosts is None:
            return
        given = next((value for key, value in headers if key == "host"), "")
        host = given.partition("]")[0] + "]" if given.startswith("[") else given.partition(":")[0]
        if host.lower() not in self._limits.hosts:
            raise PermissionDenied(
                f"this server is not called {host!r}; if it is, name it in "
                "PLUMBLINE_REGISTRY_HTTP_ALLOWED_HOSTS"
            )


async def reply(send: Send, status: int, body: bytes, kind: bytes = b"application/json") -> None:
    """A whole reply."""
    headers = [
        (b"content-type", kind),
        (b"content-length", str(len(body)).encode()),
        (b"x-content-type-options", b"nosniff"),
    ]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


async def _unknown(verb: str, path: str) -> bytes:
    shown = path if len(path) <= 200 else f"{path[:200]}…"
    raise NoSuchEndpoint(f"{verb} {shown} is not served here: this is MLflow's model registry alone")
