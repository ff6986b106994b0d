"""A small OTLP receiver: keeps the spans that programs export over gRPC."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import grpc
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2, trace_service_pb2_grpc


@dataclass(frozen=True)
class ReceivedSpan:
    """A span as it was exported. ids in hex; parent_id "" for a root."""

    program: str
    name: str
    trace_id: str
    span_id: str
    parent_id: str


class Collector(trace_service_pb2_grpc.TraceServiceServicer):
    """Collects spans; safe to read while they come."""

    def __init__(self) -> None:
        self._spans: list[ReceivedSpan] = []
        self._lock = threading.Lock()

    def Export(self, request: Any, context: Any) -> Any:  # noqa: N802
        with self._lock:
            for resource in request.resource_spans:
                attributes = {item.key: item.value.string_value for item in resource.resource.attributes}
                for scope in resource.scope_spans:
                    for span in scope.spans:
                        self._spans.append(
                            ReceivedSpan(
                                attributes["service.name"],
                                span.name,
                                span.trace_id.hex(),
                                span.span_id.hex(),
                                span.parent_span_id.hex(),
                            )
                        )
        return trace_service_pb2.ExportTraceServiceResponse()

    def traces(self) -> dict[str, list[ReceivedSpan]]:
        """The spans so far, by trace."""
        with self._lock:
            found: dict[str, list[ReceivedSpan]] = {}
            for span in self._spans:
                found.setdefault(span.trace_id, []).append(span)
            return found


@contextmanager
def collector() -> Iterator[tuple[Collector, str]]:
    """A receiver on a free port, and its endpoint "http://127.0.0.1:port"."""
    spans, server = Collector(), grpc.server(ThreadPoolExecutor(2))
    trace_service_pb2_grpc.add_TraceServiceServicer_to_server(spans, server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        yield spans, f"http://127.0.0.1:{port}"
    finally:
        server.stop(1).wait()
