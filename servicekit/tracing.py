"""Traces of synchronous client calls, as a plain gRPC interceptor.

OpenTelemetry's own synchronous client interceptor needs a channel class of its own, which does not
compose with `grpc.intercept_channel`; its asyncio interceptors and its server side are used as they are.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import grpc
from opentelemetry import propagate, trace


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
