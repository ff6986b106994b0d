"""Traces over OTLP and metrics for Prometheus: built once by a process's main and handed in."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import grpc
from opentelemetry import trace
from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
from opentelemetry.instrumentation.grpc import aio_client_interceptors
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.sdk.trace.sampling import ParentBased, TraceIdRatioBased
from prometheus_client import CollectorRegistry, Counter, Histogram

from servicekit.tracing import ServerSpans, TracingInterceptor

# From 250 µs (an online read of one entity) to a minute (a historical join).
_BUCKETS = (0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)


class CallMetrics:
    """Counts and times of calls, under the names of grpc-ecosystem's server metrics."""

    def __init__(self, registry: CollectorRegistry | None = None) -> None:
        self.registry = registry or CollectorRegistry()
        self.handled = Counter(
            "grpc_server_handled",
            "Calls answered, by status code.",
            ("grpc_service", "grpc_method", "grpc_code"),
            registry=self.registry,
        )
        self.seconds = Histogram(
            "grpc_server_handling_seconds",
            "Time from the first byte of a call to its status.",
            ("grpc_service", "grpc_method"),
            buckets=_BUCKETS,
            registry=self.registry,
        )


@dataclass(frozen=True)
class Telemetry:
    """Where spans and metrics of this process go. received: whether there is a receiver of spans at all."""

    provider: TracerProvider
    metrics: CallMetrics = field(default_factory=CallMetrics)
    received: bool = True
    sample_ratio: float = 1.0

    @property
    def tracer(self) -> trace.Tracer:
        """For the program's own spans."""
        return self.provider.get_tracer("plumbline")

    def server_spans(self, method: str, system: str = "grpc") -> ServerSpans:
        """The spans of the calls of a method (full name), children of their callers'. system: or "http"."""
        return ServerSpans(
            self.tracer,
            method,
            recorded=self.received,
            sampled_below=TraceIdRatioBased.get_bound_for_rate(self.sample_ratio),
            system=system,
        )

    def client_interceptors(self) -> Sequence[Any]:
        """For `plumbline.channel.open_channel`: the callee's span becomes a child of the current one."""
        return [TracingInterceptor(self.tracer)]

    def aio_client_interceptors(self) -> Sequence[grpc.aio.ClientInterceptor]:
        """For `plumbline.channel.open_aio_channel`."""
        return list(aio_client_interceptors(tracer_provider=self.provider))

    def shutdown(self) -> None:
        """Sends what is buffered."""
        self.provider.shutdown()


def build_telemetry(
    service: str,
    *,
    otlp_endpoint: str | None = None,
    sample_ratio: float = 1.0,
    processors: Sequence[SpanProcessor] = (),
    registry: CollectorRegistry | None = None,
) -> Telemetry:
    """Telemetry of one process. Calls have trace ids, in logs and for their callees, even when no spans are
    exported and hence none are recorded.

    otlp_endpoint: "http://host:4317". processors: further receivers of spans, as in tests.
    """
    provider = TracerProvider(
        resource=Resource.create({"service.name": service, "service.namespace": "plumbline"}),
        sampler=ParentBased(TraceIdRatioBased(sample_ratio)),
        shutdown_on_exit=False,
    )
    for processor in processors:
        provider.add_span_processor(processor)
    if otlp_endpoint:
        exporter = OTLPSpanExporter(endpoint=otlp_endpoint, insecure=otlp_endpoint.startswith("http://"))
        provider.add_span_processor(BatchSpanProcessor(exporter))
    return Telemetry(
        provider=provider,
        metrics=CallMetrics(registry),
        received=bool(otlp_endpoint or processors),
        sample_ratio=sample_ratio,
    )
