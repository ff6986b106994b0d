"""One prediction, and one training run, are each one trace through every program they touch."""

from __future__ import annotations

from collections.abc import Iterable

import pytest

from tests.e2e.conftest import Stack
from tests.e2e.otlp import ReceivedSpan
from tests.support import wait_until

pytestmark = pytest.mark.timeout(300)


def ending_in(spans: Iterable[ReceivedSpan], program: str, method: str) -> list[ReceivedSpan]:
    return [span for span in spans if span.program == program and span.name.endswith(method)]


def traces_with(stack: Stack, program: str, method: str) -> list[list[ReceivedSpan]]:
    return [trace for trace in stack.spans.traces().values() if ending_in(trace, program, method)]


def test_a_prediction_is_one_trace_through_serving_and_feature_service(stack: Stack) -> None:
    wait_until(
        lambda: any(
            ending_in(trace, "feature_service", "/GetOnlineFeatures")
            for trace in traces_with(stack, "serving", "/Predict")
        ),
        what="a trace with serving's Predict and feature_service's GetOnlineFeatures",
    )
    trace = next(
        trace
        for trace in traces_with(stack, "serving", "/Predict")
        if ending_in(trace, "feature_service", "/GetOnlineFeatures")
    )
    by_id = {span.span_id: span for span in trace}
    (read,) = ending_in(trace, "feature_service", "/GetOnlineFeatures")
    callers = []
    while read.parent_id in by_id:
        read = by_id[read.parent_id]
        callers.append(read.program)
    assert callers
    assert set(callers) == {"serving"}


def test_a_prediction_over_http_is_traced_too(stack: Stack) -> None:
    wait_until(
        lambda: any(
            ending_in(trace, "feature_service", "/GetOnlineFeatures")
            and not ending_in(trace, "serving", "PredictionService/Predict")
            and any(span.program == "serving" for span in trace)
            for trace in stack.spans.traces().values()
        ),
        what="a trace of HTTP /predict",
    )


def test_a_training_run_is_one_trace_through_three_programs(stack: Stack) -> None:
    wait_until(
        lambda: any(
            {"feature_service", "registry_service"} <= {span.program for span in trace}
            for trace in stack.spans.traces().values()
            if any(span.program == "trainer" for span in trace)
        ),
        what="a trace of the trainer that reaches both services",
    )
