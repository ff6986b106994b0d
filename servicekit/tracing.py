"""Spans of calls: on the server's side, and of synchronous clients as a plain gRPC interceptor.

OpenTelemetry's own server interceptor builds a span and a context of its own for every call, which costs more
than a short call's work, also where nobody receives spans. Its synchronous client interceptor needs a channel
class of its own, which does not compose with `grpc.intercept_channel`; its asyncio ones are used as they are.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any, NamedTuple

import grpc
from opentelemetry import context as otel_context
from opentelemetry import propagate, trace

# What W3C propagation reads.
_CARRIED = ("traceparent", "tracestate", "baggage")
#: Codes that are the server's fault, as OpenTelemetry's conventions have it.
_SERVER_FAULTS = frozenset(
    {"UNKNOWN", "DEADLINE_EXCEEDED", "UNIMPLEMENTED", "INTERNAL", "UNAVAILABLE", "DATA_LOSS"}
)


class ServerSpans:
    """The SERVER spans of one method, each a child of its caller's.

    The current span is set in any case, so that log lines carry trace ids and calls made meanwhile go on
    with the trace; a span is recorded only where someone receives it and the sampler takes it.
    """

    def __init__(
        self, tracer: trace.Tracer, method: str, *, recorded: bool, sampled_below: int, system: str = "grpc"
    ) -> None:
        """recorded: whether someone receives spans. sampled_below: a new trace whose id's lower 64 bits are
        less is sampled, which callees hear of. system: how calls come in."""
        self._tracer, self._recorded, self._sampled_below = tracer, recorded, sampled_below
        _, service, name = method.split("/", 2)
        self._name = method
        self._attributes = {"rpc.system": system, "rpc.service": service, "rpc.method": name}

    def start(self, metadata: Any) -> trace.Span | None:
        """Makes the call's span the current one of its task; returns it when it is to be ended."""
        carrier = {
            key: value if isinstance(value, str) else value.decode("utf-8", "replace")
            for key, value in metadata or ()
            if key in _CARRIED
        }
        if not self._recorded:
            self._go_on(carrier)
            return None
        caller = propagate.extract(carrier) if carrier else otel_context.Context()
        span = self._tracer.start_span(
            self._name, caller, kind=trace.SpanKind.SERVER, attributes=self._attributes
        )
        # Never detached: each call is a task, whose context ends with it.
        otel_context.attach(trace.set_span_in_context(span, caller))
        return span if span.is_recording() else None

    def end(self, span: trace.Span, code: str, message: str | None) -> None:
        """code: the name of the call's status, or what the log calls it."""
        status = getattr(grpc.StatusCode, code, None)
        if status is not None:
            span.set_attribute("rpc.grpc.status_code", status.value[0])
        if code in _SERVER_FAULTS:
            span.set_status(trace.Status(trace.StatusCode.ERROR, message))
        span.end()

    def _go_on(self, carrier: dict[str, str]) -> None:
        if carrier:
            caller = propagate.extract(carrier)
            if trace.get_current_span(caller).get_span_context().is_valid:
                otel_context.attach(caller)
                return
        trace_id = random.getrandbits(128) or 1
        flags = trace.TraceFlags(
            trace.TraceFlags.SAMPLED
            if trace_id & 0xFFFF_FFFF_FFFF_FFFF < self._sampled_below
            else trace.TraceFlags.DEFAULT
        )
        span_id = random.getrandbits(64) or 1
        ids = trace.SpanContext(trace_id, span_id, is_remote=False, trace_flags=flags)
        otel_context.attach(trace.set_span_in_context(trace.NonRecordingSpan(ids), otel_context.Context()))


class _Details(NamedTuple):
    method: str
    timeout: float | None
    metadata: Any
    credentials: Any
    wait_for_ready: bool | None
    compression: Any


class _CallDetails(_Details, grpc.ClientCallDetails):
    pass


class TracingInterceptor(
    grpc.UnaryUnaryClientInterceptor,
    grpc.UnaryStreamClientInterceptor,
    grpc.StreamUnaryClientInterceptor,
    grpc.StreamStreamClientInterceptor,
):
    """Makes a CLIENT span of each call, a child of the current one, and sends it along (W3C traceparent).

    The span ends with the call, for a stream with its last reply.
    """

    def __init__(self, tracer: trace.Tracer) -> None:
        self._tracer = tracer

    def _intercept(self, continuation: Callable[..., Any], details: Any, request: Any) -> Any:
        service, _, method = details.method.lstrip("/").partition("/")
        span = self._tracer.start_span(
            f"/{service}/{method}",
            kind=trace.SpanKind.CLIENT,
            attributes={"rpc.system": "grpc", "rpc.service": service, "rpc.method": method},
        )
        headers: dict[str, str] = {}
        propagate.inject(headers, context=trace.set_span_in_context(span))
        call = continuation(
            _CallDetails(
                details.method,
                details.timeout,
                (*(details.metadata or ()), *headers.items()),
                details.credentials,
                details.wait_for_ready,
                details.compression,
            ),
            request,
        )
        call.add_done_callback(lambda done: _end(span, done))
        return call

    def intercept_unary_unary(self, continuation: Any, client_call_details: Any, request: Any) -> Any:
        """See the class."""
        return self._intercept(continuation, client_call_details, request)

    def intercept_unary_stream(self, continuation: Any, client_call_details: Any, request: Any) -> Any:
        """See the class."""
        return self._intercept(continuation, client_call_details, request)

    def intercept_stream_unary(
        self, continuation: Any, client_call_details: Any, request_iterator: Any
    ) -> Any:
        """See the class."""
        return self._intercept(continuation, client_call_details, request_iterator)

    def intercept_stream_stream(
        self, continuation: Any, client_call_details: Any, request_iterator: Any
    ) -> Any:
        """See the class."""
        return self._intercept(continuation, client_call_details, request_iterator)


def _end(span: trace.Span, call: Any) -> None:
    code: grpc.StatusCode = call.code()
    span.set_attribute("rpc.grpc.status_code", code.value[0])
    if code is not grpc.StatusCode.OK:
        span.set_status(trace.Status(trace.StatusCode.ERROR, call.details()))
    span.end()
