"""The paths of Feast's HTTP feature server: decode, one call, encode.

A Feast SDK with `online_store: {type: remote, path: http://host:port}` reads and writes through these, and
so does anything else that was written for `feast serve`.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import aclosing
from datetime import datetime

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from feature_service.catalog import Catalog
from feature_service.feast_clients import http_codec
from feature_service.feast_clients.calls import FeastCalls, destination
from feature_service.jobs import drain
from feature_service.writes.materialize import Materialization
from feature_service.writes.push import Destination
from plumbline import wire
from plumbline.errors import FieldViolation, PlumblineError, ResourceExhausted, Unimplemented
from plumbline.features.errors import InvalidField
from servicekit.instrumentation import CallRecord, LogPolicy
from servicekit.telemetry import Telemetry

_log = logging.getLogger("plumbline.rpc")

#: What calls over HTTP are counted under, where gRPC's have the name of their service.
SERVICE = "feast.http"

Handler = Callable[[Request], Awaitable[Response]]


class _BodyTooLarge(ResourceExhausted):
    """The request's body is larger than a message may be."""


class FeastHttp:
    """The handlers. max_bytes: of a request's body. slow: see LogPolicy."""

    def __init__(
        self,
        calls: FeastCalls,
        catalog: Catalog,
        make_materialization: Callable[[], Materialization],
        telemetry: Telemetry,
        *,
        max_bytes: int,
        slow: float,
    ) -> None:
        self._calls, self._catalog, self._make_materialization = calls, catalog, make_materialization
        self._telemetry, self._max_bytes = telemetry, max_bytes
        self._policy = LogPolicy(hot=frozenset({f"/{SERVICE}/get-online-features"}), slow=slow)
        self._background: dict[asyncio.Task[None], frozenset[str]] = {}

    def app(self) -> Starlette:
        """The application."""
        posts: dict[str, Handler] = {
            "/get-online-features": self._get_online_features,
            "/push": self._push,
            "/write-to-online-store": self._write_to_online_store,
            "/materialize": self._materialize,
            "/materialize-incremental": self._materialize_incremental,
            "/search": _no_vector_search,
            "/retrieve-online-documents": _no_vector_search,
        }
        routes = [Route(path, self._shaped(path, call), methods=["POST"]) for path, call in posts.items()]
        routes.append(Route("/health", _health, methods=["GET"]))
        return Starlette(routes=routes, exception_handlers={HTTPException: _no_such_path})

    async def close(self) -> None:
        """Ends the materializations that nobody waits for."""
        for task in tuple(self._background):
            task.cancel()
        await asyncio.gather(*self._background, return_exceptions=True)

    async def _get_online_features(self, request: Request) -> Response:
        body = http_codec.body(http_codec.OnlineFeaturesBody, await self._body(request))
        answer = await self._calls.read(
            http_codec.selection(body),
            http_codec.columns(body.entities),
            full_names=body.full_feature_names,
        )
        return JSONResponse(
            http_codec.online_features(answer, versions=body.include_feature_view_version_metadata)
        )

    async def _push(self, request: Request) -> Response:
        body = http_codec.body(http_codec.PushBody, await self._body(request))
        to = destination(body.to)
        await self._calls.write(body.push_source_name, http_codec.columns(body.df), to)
        return Response()

    async def _write_to_online_store(self, request: Request) -> Response:
        body = http_codec.body(http_codec.WriteBody, await self._body(request))
        columns = http_codec.columns(body.df)
        await self._calls.write(body.feature_view_name, columns, Destination.ONLINE)
        return JSONResponse(None)

    async def _materialize(self, request: Request) -> Response:
        body = http_codec.body(http_codec.MaterializeBody, await self._body(request))
        _needed(start_ts=body.start_ts, end_ts=body.end_ts)
        return await self._run(request, body, http_codec.moment(body.start_ts, "start_ts"))

    async def _materialize_incremental(self, request: Request) -> Response:
        body = http_codec.body(http_codec.MaterializeBody, await self._body(request))
        _needed(end_ts=body.end_ts)
        return await self._run(request, body, None)

    async def _run(
        self, request: Request, body: http_codec.MaterializeBody, start: datetime | None
    ) -> Response:
        if body.disable_event_timestamp:
            raise _bad("disable_event_timestamp", "cannot be served: rows keep the event times they have")
        if body.version:
            raise _bad("version", "cannot be served: only the current version is materialized")
        end, views = http_codec.moment(body.end_ts, "end_ts"), tuple(body.feature_views or ())
        if request.query_params.get("async", "").lower() in ("true", "1"):
            return self._start(views, start, end)
        await self._materialize_views(views, start, end)
        return JSONResponse(None)

    def _start(self, views: Sequence[str], start: datetime | None, end: datetime | None) -> Response:
        """In the background, as Feast's ?async=true. What goes wrong is in the log."""
        definitions = self._catalog.definitions
        names = frozenset(
            [definitions.view(name).name for name in views]
            or [view.name for view in definitions.views.values() if view.online]
        )
        busy = sorted(name for running in self._background.values() for name in running & names)
        if busy:
            detail = {"error": f"these views are being materialized already: {busy}", "feature_views": busy}
            return JSONResponse(detail, 409)
        task = asyncio.create_task(self._logged(views, start, end))
        self._background[task] = names
        task.add_done_callback(self._background.pop)
        return JSONResponse({"status": "accepted", "feature_views": sorted(names)}, 202)

    async def _logged(self, views: Sequence[str], start: datetime | None, end: datetime | None) -> None:
        try:
            await self._materialize_views(views, start, end)
        except PlumblineError as error:
            _log.error("materialization in the background failed: %s", error.message)
        except Exception:  # noqa: BLE001 - the outermost frame of the task: nobody else would tell
            _log.exception("materialization in the background failed")

    async def _materialize_views(
        self, views: Sequence[str], start: datetime | None, end: datetime | None
    ) -> None:
        job, definitions = self._make_materialization(), self._catalog.definitions
        async with aclosing(drain(job, lambda: job.run(definitions, views, start, end))) as steps:
            async for _ in steps:
                pass

    async def _body(self, request: Request) -> bytes:
        # A page in somebody's browser may send any site a form, but not this type without being asked.
        if not request.headers.get("content-type", "").startswith("application/json"):
            raise HTTPException(415, "send JSON, and Content-Type: application/json")
        parts, size = [], 0
        async for part in request.stream():
            size += len(part)
            if size > self._max_bytes:
                raise _BodyTooLarge(f"a request may have {self._max_bytes} bytes; send fewer rows at once")
            parts.append(part)
        return b"".join(parts)

    def _shaped(self, path: str, call: Handler) -> Handler:
        """The outermost frame of a call: its record, and its errors in Feast's shape."""
        method = f"/{SERVICE}{path}"
        spans = self._telemetry.server_spans(method, "http")
        record = CallRecord(method, self._telemetry.metrics, spans, self._policy)

        async def shaped(request: Request) -> Response:
            start = time.perf_counter()
            span = record.begin(request.headers.items())
            told: PlumblineError | None = None
            code = "OK"
            try:
                reply = await call(request)
            except ClientDisconnect:
                code, reply = "CANCELLED", Response(status_code=499)
            except http_codec.MalformedBodyError as malformed:
                code, reply = "INVALID_ARGUMENT", JSONResponse({"detail": malformed.detail}, 422)
            except HTTPException as refused:
                code, reply = (
                    "INVALID_ARGUMENT",
                    JSONResponse({"detail": refused.detail}, refused.status_code),
                )
            except asyncio.CancelledError:
                record.finished("CANCELLED", start, span)
                raise
            except Exception as error:  # noqa: BLE001 - the outermost frame of a call
                told = record.typed(error, span)
                code, reply = _error_reply(told)
            record.finished(code, start, span, told)
            return reply

        return shaped


def _error_reply(error: PlumblineError) -> tuple[str, Response]:
    """The canonical code and the reply."""
    status, text = http_codec.error_reply(error)
    return wire.status_code(error).name, JSONResponse(
        text, 413 if isinstance(error, _BodyTooLarge) else status
    )


async def _health(_: Request) -> Response:
    return Response()


async def _no_such_path(_: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    return JSONResponse({"detail": error.detail}, error.status_code, error.headers)


async def _no_vector_search(_: Request) -> Response:
    raise Unimplemented("this server has no vector search; read documents by their entity keys")


def _needed(**times: str | None) -> None:
    for name, value in times.items():
        if not value:
            raise _bad(name, "is missing")


def _bad(field: str, what: str) -> InvalidField:
    return InvalidField(
        f"{field} {what}", metadata={"field": field}, violations=[FieldViolation(field, what)]
    )
