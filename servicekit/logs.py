"""Logging: one JSON object a line on stderr, with the trace it belongs to."""

from __future__ import annotations

import logging
import sys
import time

from opentelemetry import trace
from pythonjsonlogger.json import JsonFormatter


class _TraceIds(logging.Filter):
    """Adds trace_id and span_id (hex) of the current span to every record; "" outside of one."""

    def filter(self, record: logging.LogRecord) -> bool:
        context = trace.get_current_span().get_span_context()
        record.trace_id = f"{context.trace_id:032x}" if context.is_valid else ""
        record.span_id = f"{context.span_id:016x}" if context.is_valid else ""
        return True


class _Json(JsonFormatter):
    def __init__(self, service: str) -> None:
        super().__init__(
            "%(asctime)s %(levelname)s %(name)s %(message)s %(trace_id)s %(span_id)s",
            rename_fields={"asctime": "time", "levelname": "level", "name": "logger"},
            static_fields={"service": service},
        )

    def formatTime(self, record: logging.LogRecord, datefmt: str | None = None) -> str:  # noqa: N802
        whole = int(record.created)
        base = super(JsonFormatter, self).formatTime(record, "%Y-%m-%dT%H:%M:%S")
        return f"{base}.{int((record.created - whole) * 1e6):06d}Z"


def configure_logging(service: str, level: str = "INFO", style: str = "json") -> None:
    """Makes the root logger write to stderr. Called once, by a process's main."""
    logging.Formatter.converter = time.gmtime
    handler = logging.StreamHandler(sys.stderr)
    handler.addFilter(_TraceIds())
    handler.setFormatter(
        _Json(service)
        if style == "json"
        else logging.Formatter("%(asctime)s %(levelname)-7s %(name)s: %(message)s")
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level)
    # Libraries that log every request or retry at INFO.
    for noisy in ("httpx", "httpcore", "urllib3", "grpc._cython.cygrpc"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
