"""What happens around every call, once for the suite: typed errors to statuses, log, metrics, span, actor.

Handlers are wrapped when a service is added to the server, once a method, and not by gRPC's interceptors:
those are asked anew for every call, which costs a short call more than its own work.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any

import grpc
from google.protobuf.message import DecodeError
from opentelemetry import trace

from plumbline import wire
from plumbline.errors import Internal, InvalidArgument, PlumblineError, ResourceExhausted
from servicekit.access import Gate
from servicekit.context import ACTOR_METADATA, set_actor
from servicekit.telemetry import CallMetrics, Telemetry
from servicekit.tracing import ServerSpans

_log = logging.getLogger("plumbline.rpc")

# Probed every few seconds; a line or a span for each would drown the others.
_PROBES = "/grpc.health."


class LogPolicy:
    """Which calls are logged at DEBUG instead of INFO.

    hot: full method names that are called all the time; logged at INFO unless answered OK. polled: those that
    clients ask every second or so; "not yet" (NOT_FOUND) is no news either. slow: seconds from which any call
    is worth its line.
    """

    def __init__(
        self, *, hot: frozenset[str] = frozenset(), polled: frozenset[str] = frozenset(), slow: float = 1.0
    ) -> None:
        self.hot, self.polled, self.slow = hot, polled, slow

    def silent_codes(self, method: str) -> frozenset[str]:
        """The codes that are no news when a method answers them fast."""
        if method in self.polled:
            return frozenset({"OK", "NOT_FOUND"})
        return frozenset({"OK"}) if method in self.hot else frozenset()


class InstrumentedServer:
    """Takes handlers as a grpc.aio.Server does (generated code adds them) and hands them on wrapped.

    A PlumblineError becomes its status with details. Any other error is logged whole and answered with a
    plain INTERNAL that names the trace and leaks nothing.
    """

    def __init__(
        self, server: grpc.aio.Server, telemetry: Telemetry, policy: LogPolicy, gate: Gate | None = None
    ) -> None:
        """gate: asked before every call, where there is one."""
        self._server, self._telemetry, self._policy, self._gate = server, telemetry, policy, gate

    def add_generic_rpc_handlers(self, handlers: Sequence[grpc.GenericRpcHandler]) -> None:
        """As grpc.aio.Server's."""
        self._server.add_generic_rpc_handlers([_Generic(handler, self._wrapped) for handler in handlers])

    def add_registered_method_handlers(
        self, service: str, handlers: Mapping[str, grpc.RpcMethodHandler[Any, Any]]
    ) -> None:
        """As grpc.aio.Server's. Only hot methods are registered: at every call the server goes through all
        that are, with a task for each. The others come by `add_generic_rpc_handlers`, as generated code has
        both."""
        names = {f"/{service}/{name}": name for name in handlers}
        hot = {
            name: self._wrapped(method, handlers[name])
            for method, name in names.items()
            if method in self._policy.hot
        }
        if hot:
            self._server.add_registered_method_handlers(service, hot)

    def _wrapped(self, method: str, handler: Any) -> Any:
        spans = None if method.startswith(_PROBES) else self._telemetry.server_spans(method)
        calls = CallRecord(method, self._telemetry.metrics, spans, self._policy, self._gate)
        if handler.response_streaming:
            inner = handler.stream_stream if handler.request_streaming else handler.unary_stream
            make = (
                grpc.stream_stream_rpc_method_handler
                if handler.request_streaming
                else grpc.unary_stream_rpc_method_handler
            )
            behavior: Any = _streaming(calls, inner)
        else:
            inner = handler.stream_unary if handler.request_streaming else handler.unary_unary
            make = (
                grpc.stream_unary_rpc_method_handler
                if handler.request_streaming
                else grpc.unary_unary_rpc_method_handler
            )
            behavior = _unary(calls, inner)
        serializer = handler.response_serializer
        if serializer is not None:
            serializer = _serializer(serializer)
        deserializer = handler.request_deserializer
        if deserializer is not None:
            deserializer = _deserializer(deserializer, method, raises=handler.request_streaming)
        return make(behavior, deserializer, serializer)


class _Generic(grpc.GenericRpcHandler):
    """A generic handler that gives out wrapped method handlers, each wrapped once."""

    def __init__(self, inner: grpc.GenericRpcHandler, wrap: Any) -> None:
        self._inner, self._wrap = inner, wrap
        self._known: dict[int, tuple[Any, Any]] = {}

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> Any:
        """As grpc.GenericRpcHandler's."""
        handler = self._inner.service(handler_call_details)
        if handler is None:
            return None
        # By identity, and kept alive so that an identity is never another's.
        found = self._known.get(id(handler))
        if found is None:
            wrapped = self._wrap(str(handler_call_details.method), handler)
            found = self._known[id(handler)] = (handler, wrapped)
        return found[1]


def _serializer(inner: Any) -> Any:
    """A handler may answer with a message or, where it has written one itself, with its bytes."""

    def serialize(reply: Any) -> bytes:
        return reply if type(reply) is bytes else inner(reply)

    return serialize


class _Undecodable:
    """Stands for a request that is none."""

    def __init__(self, error: InvalidArgument) -> None:
        self.error = error


def _deserializer(inner: Any, method: str, *, raises: bool) -> Any:
    """What a client sends that is no such message is its own fault: INVALID_ARGUMENT, and no traceback.

    raises: of a stream's messages; the handler is running and meets the error where it reads. Of a single
    request gRPC asks before the handler is called, and would make UNKNOWN and a traceback of it.
    """

    def deserialize(data: bytes) -> Any:
        try:
            return inner(data)
        except DecodeError:
            error = InvalidArgument(f"the {len(data)} bytes of the request are no message of {method}")
        if raises:
            raise error
        return _Undecodable(error)

    return deserialize


def _unary(calls: CallRecord, inner: Any) -> Any:
    async def call(request: Any, context: Any) -> Any:
        start = time.perf_counter()
        metadata = context.invocation_metadata()
        span = calls.begin(metadata)
        try:
            calls.admit(metadata)
            if type(request) is _Undecodable:
                raise request.error
            reply = await inner(request, context)
        except BaseException as error:
            await calls.failed(error, context, start, span)
            raise
        calls.finished("OK", start, span)
        return reply

    return call


def _streaming(calls: CallRecord, inner: Any) -> Any:
    async def call(request: Any, context: Any) -> AsyncIterator[Any]:
        start = time.perf_counter()
        metadata = context.invocation_metadata()
        span = calls.begin(metadata)
        try:
            calls.admit(metadata)
            if type(request) is _Undecodable:
                raise request.error
            replies = inner(request, context)
            if hasattr(replies, "__aiter__"):
                async for reply in replies:
                    yield reply
            else:  # a handler that writes to the context itself, as health's Watch
                await replies
        except BaseException as error:
            await calls.failed(error, context, start, span)
            raise
        calls.finished("OK", start, span)

    return call


class CallRecord:
    """One method: everything about its calls that does not change from one to the next."""

    def __init__(
        self,
        method: str,
        metrics: CallMetrics,
        spans: ServerSpans | None,
        policy: LogPolicy,
        gate: Gate | None = None,
    ) -> None:
        self._method, self._metrics, self._spans, self._gate = method, metrics, spans, gate
        _, self._service, self._name = method.split("/", 2)
        self._observe = metrics.seconds.labels(self._service, self._name).observe
        self._count: dict[str, Any] = {}
        self._silent, self._slow = policy.silent_codes(method), policy.slow

    def begin(self, metadata: Any) -> Any:
        """Notes who calls; the call's span when it is recorded, else None."""
        for key, value in metadata or ():
            if key == ACTOR_METADATA:
                set_actor(value if isinstance(value, str) else value.decode("utf-8", "replace"))
        return None if self._spans is None else self._spans.start(metadata)

    def admit(self, metadata: Any) -> None:
        """Lets the call in, as whom its token says, where there is a gate. Raises Unauthenticated,
        PermissionDenied."""
        if self._gate is None:
            return
        given = next((value for key, value in metadata or () if key == "authorization"), "")
        set_actor(
            self._gate.admit(self._method, given if isinstance(given, str) else given.decode("latin-1"))
        )

    async def failed(self, error: BaseException, context: Any, start: float, span: Any) -> None:
        """Answers with the status of an error. Raises what `context.abort` raises, or returns to
        let a status that was already set, or a cancellation, go on."""
        if isinstance(error, asyncio.CancelledError | GeneratorExit):
            self.finished("CANCELLED", start, span)
            return
        if isinstance(error, grpc.aio.AbortError):  # the handler aborted by itself
            self.finished("ABORTED_BY_HANDLER", start, span)
            return
        typed = self.typed(error, span)
        code = wire.status_code(typed)
        self.finished(code.name, start, span, typed)
        await context.abort(code, typed.message, (*wire.trailers(typed), *_no_retry(code)))

    def typed(self, error: BaseException, span: Any) -> PlumblineError:
        """What the caller is told: an error that nobody foresaw is logged whole, and told as Internal."""
        if isinstance(error, PlumblineError):
            return error
        if isinstance(error, MemoryError):
            return ResourceExhausted("the server is out of memory for this request; send fewer rows at once")
        current = trace.get_current_span().get_span_context()
        trace_id = f"{current.trace_id:032x}" if current.is_valid else "none"
        _log.error("unexpected error in %s", self._method, exc_info=error)
        if span is not None:
            span.record_exception(error)
        return Internal(f"internal error; the server's log has the details under trace {trace_id}")

    def finished(self, code: str, start: float, span: Any, error: PlumblineError | None = None) -> None:
        """The call's metrics, its span's end, and its log line."""
        seconds = time.perf_counter() - start
        count = self._count.get(code)
        if count is None:
            count = self._count[code] = self._metrics.handled.labels(self._service, self._name, code).inc
        count()
        self._observe(seconds)
        if span is not None and self._spans is not None:
            self._spans.end(span, code, None if error is None else error.message)
        if self._spans is None:
            return
        level = logging.DEBUG if code in self._silent and seconds < self._slow else logging.INFO
        if not _log.isEnabledFor(level):
            return
        extra: dict[str, Any] = {"method": self._method, "code": code, "ms": round(seconds * 1e3, 3)}
        if error is not None:
            extra |= {"reason": error.reason, "error": error.message}
        _log.log(level, "%s %s", self._name, code, extra=extra)


def _no_retry(code: grpc.StatusCode) -> tuple[tuple[str, str], ...]:
    """A server that says UNAVAILABLE has tried what it could; a channel that repeats the call would multiply
    the attempts, and the wait, with every hop. Only a server that could not be reached is tried again."""
    return (("grpc-retry-pushback-ms", "-1"),) if code is grpc.StatusCode.UNAVAILABLE else ()
