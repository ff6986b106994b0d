"""The BentoML service: HTTP, and the gRPC server beside it in the same worker.

The one place that knows BentoML. Its probes and metrics are at /livez, /readyz and /metrics.
"""

from __future__ import annotations

import asyncio
import logging
import signal
import threading
import time
from contextlib import AsyncExitStack
from types import FrameType
from typing import Any

import bentoml
from opentelemetry import trace
from opentelemetry.propagate import extract
from pydantic import ValidationError
from starlette.responses import JSONResponse

from plumbline import wire
from plumbline.errors import PlumblineError
from servicekit.logs import configure_logging
from servicekit.server import GrpcServer
from servicekit.telemetry import Telemetry, build_telemetry
from serving import http
from serving.app import App, building, serving_grpc
from serving.http_errors import SHAPED_HEADER, ErrorShape
from serving.settings import ServingSettings

_log = logging.getLogger("plumbline.serving")


class _PredictionHttp:
    """Predictions of registered LightGBM models, from entity keys or from given features.

    The same models answer over gRPC as plumbline.serving.v1.PredictionService.
    """

    def __init__(self) -> None:
        self._open = AsyncExitStack()
        self._app: App | None = None
        self._grpc: GrpcServer | None = None
        self._telemetry: Telemetry | None = None
        self._draining: asyncio.Task[None] | None = None

    @bentoml.on_startup  # type: ignore[untyped-decorator]
    async def start(self) -> None:
        """Reads the settings, starts to load models, and listens for gRPC."""
        settings = ServingSettings()
        configure_logging("serving", settings.log_level, settings.log_format)
        _quieten_bentoml()
        self._telemetry = build_telemetry(
            "serving", otlp_endpoint=settings.otlp_endpoint, sample_ratio=settings.trace_sample_ratio
        )
        self._open.callback(self._telemetry.shutdown)
        self._app = await self._open.enter_async_context(building(settings, self._telemetry))
        self._grpc = await self._open.enter_async_context(serving_grpc(settings, self._telemetry, self._app))
        self._drain_on_signals()
        _log.info("serving listens on %s:%d for gRPC", settings.host, self._grpc.port)

    @bentoml.on_shutdown  # type: ignore[untyped-decorator]
    async def stop(self) -> None:
        """Waits for gRPC calls in flight, then ends what `start` began."""
        await self._open.aclose()
        _log.info("serving stopped")

    async def __is_ready__(self) -> bool:
        return self._app is not None and self._app.models.ready and self._draining is None

    @bentoml.api(route="/predict", output_spec=http.PredictReply)  # type: ignore[untyped-decorator]
    async def predict(self, body: http.PredictBody, /, ctx: bentoml.Context) -> Any:
        """Predicts for each row, by looking the entities' features up or from the features given."""
        assert self._app is not None
        assert self._telemetry is not None
        start = time.perf_counter()
        # BentoML traces HTTP with a provider of its own that samples nothing: the caller's context is
        # read from the headers, so that one prediction is one trace whichever way it came in.
        span = self._telemetry.tracer.start_as_current_span(
            "POST /predict", context=extract(ctx.request.headers), kind=trace.SpanKind.SERVER
        )
        with span:
            try:
                signature = self._app.models.loaded(body.model).release.signature
                request = http.prediction_request(body, signature)
                reply = JSONResponse(http.prediction_reply(await self._app.predict(request)))
            except PlumblineError as error:
                _log_call(wire.status_code(error).name, start, reason=error.reason, error=error.message)
                status, content = http.error_body(error)
                ctx.response.status_code = status
                return JSONResponse(content, headers={SHAPED_HEADER: error.reason})
            _log_call("OK", start)
        return reply

    def _drain_on_signals(self) -> None:
        """gRPC drains from the signal on, at the same time as HTTP, and not only after it."""
        if threading.current_thread() is not threading.main_thread():
            return
        loop = asyncio.get_running_loop()
        for signum in (signal.SIGTERM, signal.SIGINT):
            previous = signal.getsignal(signum)

            def handle(number: int, frame: FrameType | None, then: Any = previous) -> None:
                loop.call_soon_threadsafe(self._drain)
                if callable(then):
                    then(number, frame)

            signal.signal(signum, handle)

    def _drain(self) -> None:
        if self._draining is None and self._grpc is not None:
            _log.info("serving drains")
            self._draining = asyncio.ensure_future(self._grpc.stop())


#: What `bentoml serve` and `bentoml build` are pointed at.
PredictionHttp: Any = bentoml.service(
    name="plumbline_serving",
    workers=1,
    traffic={"timeout": 60},
    logging={"access": {"enabled": False}},  # one line a prediction is written here, as for gRPC
)(_PredictionHttp)
PredictionHttp.add_asgi_middleware(ErrorShape, paths=("/predict",))


def http_app() -> Any:
    """The ASGI application, for a process that runs it by itself as `bentoml serve` would."""
    bentoml.server_context.service_name = PredictionHttp.name
    bentoml.server_context.bento_name = PredictionHttp.name
    bentoml.server_context.service_routes = ["/predict"]
    return PredictionHttp.to_asgi()


def _log_call(code: str, start: float, **more: str) -> None:
    extra = {"method": "/predict", "code": code, "ms": round((time.perf_counter() - start) * 1e3, 3), **more}
    _log.info("predict %s", code, extra=extra)


def _quieten_bentoml() -> None:
    """BentoML's and uvicorn's lines go through our handler, and only from WARNING on."""
    for name in ("bentoml", "uvicorn", "uvicorn.error", "circus"):
        logger = logging.getLogger(name)
        logger.handlers.clear()
        logger.propagate = True
        logger.setLevel(logging.WARNING)
    logging.getLogger("bentoml._internal.server.http_app").addFilter(_not_a_bad_request)


def _not_a_bad_request(record: logging.LogRecord) -> bool:
    """BentoML logs a body that does not fit its model as an error with a traceback; the caller is told."""
    return not (record.exc_info and isinstance(record.exc_info[1], ValidationError))
