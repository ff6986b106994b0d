"""The steps of a job: timed, traced, reported."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from opentelemetry.trace import Tracer

from trainer.domain import StepRecord
from trainer.ports import Reporter


@dataclass
class Step:
    """What a step says of itself before it ends."""

    rows_in: int | None = None
    rows_out: int | None = None
    note: str = ""


class Steps:
    """Runs steps one after the other; `records` grows with each that ended, well or not."""

    def __init__(
        self, tracer: Tracer, reporter: Reporter, clock: Callable[[], float] = time.perf_counter
    ) -> None:
        self._tracer, self._reporter, self._clock = tracer, reporter, clock
        self.records: list[StepRecord] = []

    @contextmanager
    def step(self, name: str) -> Iterator[Step]:
        """One step: a span of its own, to which the spans of calls made in it belong."""
        began, current = self._clock(), Step()
        self._reporter.started(name)
        with self._tracer.start_as_current_span(f"trainer.{name}") as span:
            try:
                yield current
            finally:
                seconds = self._clock() - began
                self.records.append(StepRecord(name, round(seconds, 3), current.rows_in, current.rows_out))
                for key, rows in (("rows_in", current.rows_in), ("rows_out", current.rows_out)):
                    if rows is not None:
                        span.set_attribute(f"plumbline.{key}", rows)
        self._reporter.finished(name, seconds, current.note)
