"""What happens around every call, once for the suite: typed errors to statuses, log, metrics, actor."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import grpc
from opentelemetry import trace

from plumbline import wire
from plumbline.errors import Internal, PlumblineError, ResourceExhausted
from servicekit.context import ACTOR_METADATA, set_actor
from servicekit.telemetry import CallMetrics

_log = logging.getLogger("plumbline.rpc")

# Probed every few seconds; a line for each would drown the log.
_QUIET = ("/grpc.health.", "/grpc.reflection.")


class RequestInterceptor(grpc.aio.ServerInterceptor):
    """Wraps the four kinds of handlers of an asyncio server.

    A PlumblineError becomes its status with details. Any other error is logged whole and answered
    with a plain INTERNAL that names the trace and leaks nothing.
    """

    def __init__(self, metrics: CallMetrics, polled: frozenset[str] = frozenset()) -> None:
        """polled: full method names that clients ask every second or so; their answers, "not yet" among
        them, are logged at DEBUG."""
        self._metrics, self._polled = metrics, polled

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[grpc.RpcMethodHandler[Any, Any] | None]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Any:
        handler: Any = await continuation(handler_call_details)
        if handler is None:
            return None
        method = str(handler_call_details.method)
        if handler.response_streaming:
            inner = handler.stream_stream if handler.request_streaming else handler.unary_stream
            make = (
                grpc.stream_stream_rpc_method_handler
                if handler.request_streaming
                else grpc.unary_stream_rpc_method_handler
            )
            behavior: Any = self._streaming(method, inner)
        else:
            inner = handler.stream_unary if handler.request_streaming else handler.unary_unary
            make = (
                grpc.stream_unary_rpc_method_handler
                if handler.request_streaming
                else grpc.unary_unary_rpc_method_handler
            )
            behavior = self._unary(method, inner)
        return make(behavior, handler.request_deserializer, handler.response_serializer)

    def _unary(self, method: str, inner: Any) -> Any:
        async def call(request: Any, context: Any) -> Any:
            record = _Call(method, context, self._metrics, self._polled)
            try:
                reply = await inner(request, context)
            except BaseException as error:
                await record.failed(error)
                raise
            record.finished("OK")
            return reply

        return call

    def _streaming(self, method: str, inner: Any) -> Any:
        async def call(request: Any, context: Any) -> AsyncIterator[Any]:
            record = _Call(method, context, self._metrics, self._polled)
            try:
                replies = inner(request, context)
                if hasattr(replies, "__aiter__"):
                    async for reply in replies:
                        yield reply
                else:  # a handler that writes to the context itself, as health's Watch
                    await replies
            except BaseException as error:
                await record.failed(error)
                raise
            record.finished("OK")

        return call


class _Call:
    """One call: its clock, its caller, its one log line."""

    def __init__(self, method: str, context: Any, metrics: CallMetrics, polled: frozenset[str]) -> None:
        self._method, self._context, self._metrics, self._polled = method, context, metrics, polled
        self._start = time.perf_counter()
        _, self._service, self._name = method.split("/", 2)
        for key, value in context.invocation_metadata() or ():
            if key == ACTOR_METADATA:
                set_actor(value if isinstance(value, str) else value.decode("utf-8", "replace"))

    async def failed(self, error: BaseException) -> None:
        """Answers with the status of an error. Raises what `context.abort` raises, or returns to
        let a status that was already set, or a cancellation, go on."""
        if isinstance(error, asyncio.CancelledError | GeneratorExit):
            self.finished("CANCELLED")
            return
        if isinstance(error, grpc.aio.AbortError):  # the handler aborted by itself
            self.finished("ABORTED_BY_HANDLER")
            return
        if isinstance(error, MemoryError):
            error = ResourceExhausted("the server is out of memory for this request; send fewer rows at once")
        if not isinstance(error, PlumblineError):
            span = trace.get_current_span().get_span_context()
            trace_id = f"{span.trace_id:032x}" if span.is_valid else "none"
            _log.error("unexpected error in %s", self._method, exc_info=error)
            error = Internal(f"internal error; the server's log has the details under trace {trace_id}")
        code = wire.status_code(error)
        self.finished(code.name, error)
        await self._context.abort(code, error.message, (*wire.trailers(error), *_no_retry(code)))

    def finished(self, code: str, error: PlumblineError | None = None) -> None:
        seconds = time.perf_counter() - self._start
        self._metrics.handled.labels(self._service, self._name, code).inc()
        self._metrics.seconds.labels(self._service, self._name).observe(seconds)
        if self._method.startswith(_QUIET):
            return
        quiet = self._method in self._polled and code in ("OK", "NOT_FOUND")
        level = logging.DEBUG if quiet else logging.INFO
        extra: dict[str, Any] = {"method": self._method, "code": code, "ms": round(seconds * 1e3, 3)}
        if error is not None:
            extra |= {"reason": error.reason, "error": error.message}
        _log.log(level, "%s %s", self._name, code, extra=extra)


def _no_retry(code: grpc.StatusCode) -> tuple[tuple[str, str], ...]:
    """A server that says UNAVAILABLE has tried what it could; a channel that repeats the call would multiply
    the attempts, and the wait, with every hop. Only a server that could not be reached is tried again."""
    return (("grpc-retry-pushback-ms", "-1"),) if code is grpc.StatusCode.UNAVAILABLE else ()
