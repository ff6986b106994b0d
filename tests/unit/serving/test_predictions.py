"""Predictions over gRPC: what comes back, and what is refused how."""

from __future__ import annotations

import threading
from datetime import UTC, datetime
from typing import Any

import grpc
import lightgbm
import numpy as np
import pyarrow as pa
import pytest
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from plumbline import errors as base
from plumbline.features.errors import StoreUnavailable
from plumbline.features.errors import TypeMismatch as FeatureTypeMismatch
from plumbline.serving import errors
from plumbline.serving.client import PredictionClient
from plumbline.serving.v1 import prediction_service_pb2 as pb
from plumbline.serving.v1.prediction_service_pb2_grpc import PredictionServiceStub
from plumbline.types.v1 import column_pb2
from plumbline.wire import from_rpc_error
from servicekit.telemetry import build_telemetry
from tests.support import wait_until
from tests.unit.serving.conftest import World
from tests.unit.serving.fakes import signature

NOON = datetime(2013, 11, 1, 12, tzinfo=UTC)
KEYS = {"origin": ["JFK", "LGA", "EWR"], "carrier": ["AA", "DL", "ZZ"]}
SENT = {"sched": [NOON] * 3, "hour": [7, 8, 9]}
MATRIX = np.array([[12, 180, 7.5, 0, 7], [np.nan, 150, 3, 2, 8], [np.nan, np.nan, np.nan, np.nan, 9]])
GIVEN: dict[str, Any] = {
    "delay": pa.array([12.0, None, None]),
    "seats": pa.array([180, 150, None]),
    "wind": pa.array([7.5, 3.0, None], pa.float32()),
    "carrier": ["AA", "DL", "ZZ"],
    "hour": [7, 8, 9],
}


@pytest.fixture
def client(world: World) -> Any:
    with world.serving() as client:
        yield client


def test_entities_are_looked_up_and_scored(
    world: World, client: PredictionClient, trained: tuple[str, lightgbm.Booster]
) -> None:
    reply = client.predict(KEYS, request_data=SENT)
    assert reply.outputs["probability"].to_pylist() == trained[1].predict(MATRIX).tolist()
    assert reply.model_version == "models/delay/versions/1"
    assert reply.model_sha256 == world.registry.versions[reply.model_version].message.files[0].sha256
    assert reply.definition_digest == world.features.definition.digest
    assert reply.features is None
    assert len(set(reply.prediction_ids)) == 3
    asked = world.features.requests[-1]
    assert asked.selection.feature_service == "flights_v1"
    assert [column.name for column in asked.entities] == ["origin", "carrier"]
    assert [column.name for column in asked.request_data] == ["sched"]


def test_the_features_used_come_back_when_asked_for(client: PredictionClient) -> None:
    features = client.predict(KEYS, request_data=SENT, return_features=True).features
    assert features is not None
    assert features.values.column_names == ["delay", "seats", "wind", "carrier", "hour"]
    assert features.values["seats"].to_pylist() == [180, 150, None]
    assert features.values["carrier"].to_pylist() == ["AA", "DL", "ZZ"]
    assert features.status_names("delay") == ["PRESENT", "NULL_VALUE", "NOT_FOUND"]
    assert features.status_names("hour") == ["PRESENT"] * 3
    assert features.views["wind"] == "stats"
    assert features.event_times["stats"].to_pylist() == [datetime(2013, 11, 1, tzinfo=UTC)] * 2 + [None]


def test_given_features_are_scored_without_feature_service(
    world: World, client: PredictionClient, trained: tuple[str, lightgbm.Booster]
) -> None:
    reply = client.predict_features(GIVEN, return_features=True)
    assert reply.outputs["probability"].to_pylist() == trained[1].predict(MATRIX).tolist()
    assert reply.definition_digest == ""
    assert reply.features is not None
    assert reply.features.status_names("delay") == ["PRESENT", "NULL_VALUE", "NULL_VALUE"]
    assert world.features.requests == []


def test_whole_numbers_with_gaps_may_come_as_doubles(client: PredictionClient) -> None:
    doubles = GIVEN | {"seats": pa.array([180.0, 150.0, None])}
    expected = client.predict_features(GIVEN).outputs
    assert client.predict_features(doubles).outputs == expected


def test_many_rows_are_scored_off_the_event_loop_with_the_same_result(
    client: PredictionClient, trained: tuple[str, lightgbm.Booster]
) -> None:
    keys = {name: values * 500 for name, values in KEYS.items()}
    sent = {name: values * 500 for name, values in SENT.items()}
    reply = client.predict(keys, request_data=sent)
    assert reply.outputs["probability"].to_pylist() == trained[1].predict(MATRIX).tolist() * 500


def test_prediction_ids_of_the_caller_come_back(client: PredictionClient) -> None:
    assert client.predict_features(GIVEN, prediction_ids=["a", "b", "c"]).prediction_ids == ["a", "b", "c"]


@pytest.mark.parametrize(
    ("ids", "message"),
    [
        (["a", "b"], "2 prediction ids for 3 rows"),
        (["a", "b", "a"], "'a' comes twice"),
        (["a", "b", "x" * 129], "129 characters"),
        (["a", "b", ""], "0 characters"),
    ],
)
def test_bad_prediction_ids_are_refused(client: PredictionClient, ids: list[str], message: str) -> None:
    with pytest.raises(errors.InvalidPredictionId, match=message) as caught:
        client.predict_features(GIVEN, prediction_ids=ids)
    assert caught.value.metadata == {"field": "prediction_ids"}


def without(columns: dict[str, Any], name: str) -> dict[str, Any]:
    return {key: values for key, values in columns.items() if key != name}


@pytest.mark.parametrize(
    ("keys", "sent", "error", "metadata"),
    [
        (without(KEYS, "origin"), SENT, errors.InputMissing, {"column": "origin"}),
        (KEYS, without(SENT, "hour"), errors.InputMissing, {"column": "hour"}),
        (KEYS, without(SENT, "sched"), errors.InputMissing, {"column": "sched"}),
        (KEYS | {"dest": ["LAX"] * 3}, SENT, errors.InputUnknown, {"column": "dest"}),
        (KEYS, SENT | {"delay": [1.0] * 3}, errors.InputUnknown, {"column": "delay"}),
        (
            KEYS | {"origin": [1, 2, 3]},
            SENT,
            errors.TypeMismatch,
            {"column": "origin", "expected": "STRING", "actual": "INT64"},
        ),
        (
            KEYS,
            SENT | {"hour": [7.5, 8.0, 9.0]},
            errors.TypeMismatch,
            {"column": "hour", "expected": "INT64", "actual": "DOUBLE"},
        ),
        (
            KEYS,
            SENT | {"sched": ["2013-11-01"] * 3},
            errors.TypeMismatch,
            {"column": "sched", "expected": "TIMESTAMP", "actual": "STRING"},
        ),
        (
            KEYS,
            {name: values[:2] for name, values in SENT.items()},
            base.MalformedColumn,
            {"column": "sched"},
        ),
    ],
)
def test_columns_that_do_not_fit_the_signature_are_named(
    client: PredictionClient, keys: Any, sent: Any, error: type[base.PlumblineError], metadata: dict[str, str]
) -> None:
    with pytest.raises(error) as caught:
        client.predict(keys, request_data=sent)
    assert caught.value.metadata == metadata
    assert metadata["column"] in caught.value.message


@pytest.mark.parametrize(
    ("given", "error", "column"),
    [
        (without(GIVEN, "wind"), errors.InputMissing, "wind"),
        (GIVEN | {"snow": [1.0] * 3}, errors.InputUnknown, "snow"),
        (GIVEN | {"carrier": [0, 1, 2]}, errors.TypeMismatch, "carrier"),
        (GIVEN | {"delay": ["a", "b", "c"]}, errors.TypeMismatch, "delay"),
    ],
)
def test_given_features_must_be_the_inputs_of_the_signature(
    client: PredictionClient, given: Any, error: type[base.PlumblineError], column: str
) -> None:
    with pytest.raises(error) as caught:
        client.predict_features(given)
    assert caught.value.metadata["column"] == column
    if error is not errors.TypeMismatch:
        assert caught.value.violations[0].field == "features.columns"


def test_narrow_integers_and_all_null_columns_fit(client: PredictionClient) -> None:
    narrow = SENT | {"hour": pa.array([7, 8, 9], pa.int32())}
    assert (
        client.predict(KEYS, request_data=narrow).outputs == client.predict(KEYS, request_data=SENT).outputs
    )
    nothing = GIVEN | {"carrier": pa.array([None] * 3, pa.string()), "delay": pa.nulls(3)}
    assert client.predict_features(nothing).outputs.num_rows == 3


def test_empty_requests_are_refused(client: PredictionClient) -> None:
    for call in (lambda: client.predict({}), lambda: client.predict_features({})):
        with pytest.raises(errors.EmptyRequest):
            call()
    with pytest.raises(errors.EmptyRequest) as caught:
        client._call(client._stub.Predict, pb.PredictRequest())
    assert caught.value.metadata == {"field": "input"}


def test_a_column_that_contradicts_itself_is_refused(client: PredictionClient) -> None:
    twice = column_pb2.Column(name="origin", strings=column_pb2.Strings(values=["JFK"]))
    request = pb.PredictRequest(entities=pb.EntityInput(join_keys=[twice, twice]))
    with pytest.raises(base.MalformedColumn, match="comes twice"):
        client._call(client._stub.Predict, request)


def test_too_many_rows_are_refused(world: World) -> None:
    with world.serving(max_rows=2) as client, pytest.raises(errors.TooManyRows) as caught:
        client.predict_features(GIVEN)
    assert caught.value.metadata == {"limit": "2", "actual": "3"}


@pytest.mark.parametrize("name", ["", "delay@champion", "models/delay/aliases/champion", "delay/1"])
def test_a_model_is_found_by_its_names(client: PredictionClient, name: str) -> None:
    assert client.predict_features(GIVEN, model=name).model_version == "models/delay/versions/1"
    assert client.get_model(name).model_version == "models/delay/versions/1"


@pytest.mark.parametrize("name", ["delay@other", "delay/2", "fraud@champion", "nonsense"])
def test_a_model_that_is_not_served_is_not_found(client: PredictionClient, name: str) -> None:
    for call in (lambda: client.predict_features(GIVEN, model=name), lambda: client.get_model(name)):
        with pytest.raises(errors.ModelNotServed):
            call()


def test_get_model_tells_what_answers(world: World, client: PredictionClient) -> None:
    before = datetime.now(UTC)
    served = client.get_model()
    assert served.name == "models/delay/aliases/champion"
    assert served.signature == signature()
    assert served.last_error == ""
    assert abs((before - served.load_time.ToDatetime(tzinfo=UTC)).total_seconds()) < 60
    assert list(client.list_models()) == [served]


def test_features_that_cannot_be_had_are_unavailable_by_address(world: World) -> None:
    world.features.error = StoreUnavailable("the store is away", metadata={"store": "x"})
    with world.serving() as client:
        with pytest.raises(errors.FeaturesUnavailable, match="the store is away") as caught:
            client.predict(KEYS, request_data=SENT)
        assert caught.value.metadata == {"address": world.features_address}
        # The model itself still answers.
        assert client.predict_features(GIVEN).outputs.num_rows == 3


def test_what_feature_service_refuses_keeps_its_meaning(world: World, client: PredictionClient) -> None:
    facts = {"column": "origin", "expected": "STRING", "actual": "INT64"}
    world.features.error = FeatureTypeMismatch("origin is not text", metadata=facts)
    with pytest.raises(errors.TypeMismatch, match="origin is not text") as caught:
        client.predict(KEYS, request_data=SENT)
    assert caught.value.metadata == facts


def test_definitions_that_changed_while_serving_are_a_mismatch(
    world: World, client: PredictionClient
) -> None:
    del world.features.definition.projections[0].features[2]
    with pytest.raises(errors.SignatureMismatch) as caught:
        client.predict(KEYS, request_data=SENT)
    assert caught.value.metadata == {"model": "models/delay/versions/1", "column": "wind"}


def predict_within(client: PredictionClient, seconds: float) -> Any:
    request = pb.PredictRequest(
        entities=pb.EntityInput(
            join_keys=[
                column_pb2.Column(name="origin", strings=column_pb2.Strings(values=["JFK"])),
                column_pb2.Column(name="carrier", strings=column_pb2.Strings(values=["AA"])),
            ],
            request_data=[
                column_pb2.Column(name="sched", timestamps=column_pb2.Timestamps(micros=[0])),
                column_pb2.Column(name="hour", int64s=column_pb2.Int64s(values=[7])),
            ],
        )
    )
    with grpc.insecure_channel(client.target) as channel:
        try:
            return PredictionServiceStub(channel).Predict(request, timeout=seconds)
        except grpc.RpcError as error:
            raise from_rpc_error(error, errors.CLASSES) from error


def test_the_callers_deadline_reaches_feature_service(world: World) -> None:
    with world.serving(features_timeout=5.0) as client:
        predict_within(client, 1.0)
        assert 0 < world.features.remaining[-1] < 1.5
        predict_within(client, 60.0)
        assert 1.0 < world.features.remaining[-1] < 5.5  # gRPC rounds deadlines up


def test_slow_features_are_given_up_in_time(world: World) -> None:
    world.features.delay = threading.Event()
    try:
        with world.serving(features_timeout=0.3) as client:
            with pytest.raises(errors.FeaturesUnavailable, match=r"did not answer within 0\.3 s"):
                predict_within(client, 30.0)
            with pytest.raises(base.DeadlineExceeded):
                predict_within(client, 0.1)
    finally:
        world.features.delay.set()


def test_one_prediction_is_one_trace(world: World) -> None:
    spans = InMemorySpanExporter()
    telemetry = build_telemetry("serving", processors=[SimpleSpanProcessor(spans)])
    with world.serving(telemetry=telemetry) as client:
        spans.clear()
        client.predict(KEYS, request_data=SENT)
        wait_until(lambda: any("Predict" in span.name for span in spans.get_finished_spans()))
        finished = spans.get_finished_spans()
    telemetry.shutdown()
    predict = next(span for span in finished if span.name.endswith("/Predict"))
    lookup = next(span for span in finished if span.name.endswith("/GetOnlineFeatures"))
    assert lookup.parent is not None
    assert lookup.parent.span_id == predict.context.span_id
    assert lookup.context.trace_id == predict.context.trace_id


def test_predictions_are_counted_by_version(world: World) -> None:
    telemetry = build_telemetry("serving")
    with world.serving(telemetry=telemetry) as client:
        client.predict_features(GIVEN)
    registry = telemetry.metrics.registry
    telemetry.shutdown()
    version = {"model_version": "models/delay/versions/1"}
    assert registry.get_sample_value("plumbline_predictions_total", version) == 3
    assert registry.get_sample_value("plumbline_prediction_seconds_count", version) == 1
