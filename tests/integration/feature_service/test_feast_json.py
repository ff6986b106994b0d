"""The JSON of the HTTP paths is what Feast makes of the message that gRPC answers with."""

from __future__ import annotations

import json
from datetime import UTC, datetime

import numpy as np
import pyarrow as pa
from feast.feature_server_utils import convert_response_to_dict
from hypothesis import given
from hypothesis import strategies as st

from feature_service.arrow_types import arrow_type
from feature_service.domain import FeatureStatus, ValueType
from feature_service.feast_clients import codec as feast_codec
from feature_service.feast_clients import http_codec
from feature_service.feast_clients.calls import Answer, AnswerColumn
from feature_service.ports import NOT_STORED

KINDS = [kind for kind in ValueType if kind is not ValueType.UNSPECIFIED]
CELLS = {
    ValueType.DOUBLE: st.floats(),
    ValueType.FLOAT: st.floats(width=32),
    ValueType.INT64: st.integers(-(2**63), 2**63 - 1),
    ValueType.INT32: st.integers(-(2**31), 2**31 - 1),
    ValueType.BOOL: st.booleans(),
    ValueType.STRING: st.text(),
    ValueType.BYTES: st.binary(max_size=9),
    ValueType.TIMESTAMP: st.datetimes(
        min_value=datetime(1900, 1, 1), max_value=datetime(2200, 1, 1), timezones=st.just(UTC)
    ),
}
SECONDS = st.integers(0, 2 * 10**9)
MICROS = st.just(NOT_STORED) | st.integers(0, 2 * 10**15) | SECONDS.map(lambda seconds: seconds * 10**6)


@st.composite
def answers(draw: st.DrawFn) -> Answer:
    rows = draw(st.integers(1, 5))
    columns = []
    for position, kind in enumerate(draw(st.lists(st.sampled_from(KINDS), min_size=1, max_size=4))):
        cell = CELLS[kind.element]
        column = st.lists(cell, max_size=3) if kind.is_list else cell
        values = draw(st.lists(st.none() | column, min_size=rows, max_size=rows))
        array = pa.array(values, arrow_type(kind))
        times = draw(st.none() | st.lists(MICROS, min_size=rows, max_size=rows))
        statuses = np.array(
            [FeatureStatus.PRESENT if value is not None else draw(st.integers(2, 4)) for value in values],
            np.uint8,
        )
        known = None if times is None else np.array(times, np.int64)
        given_statuses = statuses if draw(st.booleans()) else None
        columns.append(AnswerColumn(f"c{position}", kind, array, given_statuses, known))
    return Answer(tuple(columns), ())


@given(answers())
def test_json_is_what_feast_makes_of_its_message(answer: Answer) -> None:
    message = feast_codec.online_features(answer, versions=False)
    expected = json.dumps(convert_response_to_dict(message), allow_nan=False)
    assert json.dumps(http_codec.online_features(answer, versions=False), allow_nan=False) == expected
