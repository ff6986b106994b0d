"""Online reads through a real server."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

import grpc
import pyarrow as pa
import pytest
from google.protobuf import duration_pb2, timestamp_pb2

from plumbline import wire
from plumbline.errors import PlumblineError
from plumbline.features.errors import (
    CLASSES,
    AmbiguousFeatureName,
    DefinitionChanged,
    EmptyRequest,
    EntityNotFound,
    FeatureNotFound,
    FeatureServiceNotFound,
    InvalidField,
    InvalidPageToken,
    JoinKeyMissing,
    OnDemandFailed,
    RequestDataMissing,
    StoreUnavailable,
    TooManyRows,
    TypeMismatch,
    ViewNotFound,
)
from plumbline.features.v1 import feature_retrieval_service_pb2 as pb
from plumbline.types.v1 import column_pb2, feature_column_pb2
from tests.integration.feature_service.conftest import Running, settings_for
from tests.integration.feature_service.repo import SQLITE, ago, kinds_row, write_repo

PRESENT, NULL, NOT_FOUND, OUTSIDE = 1, 2, 3, 4


def test_a_feature_service_is_answered_in_its_order(server: Running) -> None:
    found = server.client.get_online_features(
        "tiny",
        {"driver_id": [1, 2], "city_id": ["LGA", "JFK"]},
        request_data={"factor": [10.0, 100.0]},
    )
    assert found.values.column_names == ["n", "rate", "temp", "scaled"]
    assert found.values["n"].to_pylist() == [3, None]
    assert found.values["temp"].to_pylist() == [20.5, -3.0]
    assert found.values["scaled"].to_pylist() == pytest.approx([3.0, 40.0])
    assert found.values.schema.field("n").type == pa.int64()


def test_each_cell_says_what_stands_behind_it(server: Running) -> None:
    """Feast 0.67 does not apply the ttl online, calls a miss PRESENT and never says NULL_VALUE."""
    found = server.client.get_online_features(["trips:n", "trips:rate"], {"driver_id": [1, 2, 3, 404, None]})
    assert found.statuses["n"].tolist() == [PRESENT, NULL, OUTSIDE, NOT_FOUND, NOT_FOUND]
    assert found.statuses["rate"].tolist() == [PRESENT, PRESENT, OUTSIDE, NOT_FOUND, NOT_FOUND]
    assert found.values["rate"].to_pylist() == [0.3, 0.4, None, None, None]
    # The time of a row that is too old is told, though its values are withheld.
    assert found.event_times["trips"].to_pylist() == [ago(0.5), ago(1), ago(9), None, None]


def test_statuses_are_left_out_when_all_are_present(server: Running) -> None:
    request = pb.GetOnlineFeaturesRequest(
        selection=pb.FeatureSelection(features=pb.FeatureReferences(references=["weather:temp"])),
        entities=[column_pb2.Column(name="city_id", strings=column_pb2.Strings(values=["LGA"]))],
    )
    reply = server.stub.GetOnlineFeatures(request)
    assert list(reply.features[0].statuses) == []
    assert reply.features[0].view == "weather"
    assert reply.row_count == 1
    request.entities[0].strings.values[0] = "nowhere"
    reply = server.stub.GetOnlineFeatures(request)
    assert list(reply.features[0].statuses) == [feature_column_pb2.FEATURE_STATUS_NOT_FOUND]
    assert reply.view_event_times[0].event_micros == [-(2**63)]


def test_a_request_may_ask_for_fresher_values_than_the_ttl(server: Running) -> None:
    found = server.client.get_online_features(
        ["trips:rate", "weather:temp"],
        {"driver_id": [1, 2], "city_id": ["LGA", "JFK"]},
        max_age=timedelta(hours=18),
    )
    assert found.statuses["rate"].tolist() == [PRESENT, OUTSIDE]
    assert found.statuses["temp"].tolist() == [OUTSIDE, OUTSIDE]


def test_every_value_type_is_answered_as_stored(server: Running) -> None:
    found = server.client.get_online_features(["kinds:*"], {"small_id": [1]})
    expected = kinds_row(1, ago(1))
    assert found.values.to_pylist()[0] == {name: expected[name] for name in found.values.column_names}
    assert len(found.values.column_names) == 16


def test_a_view_without_entities_needs_none(server: Running) -> None:
    found = server.client.get_online_features(["world:fuel"], {})
    assert found.values["fuel"].to_pylist() == [1.5]
    found = server.client.get_online_features(["world:fuel", "trips:rate"], {"driver_id": [1, 2]})
    assert found.values["fuel"].to_pylist() == [1.5, 1.5]


def test_one_view_is_read_by_two_columns(server: Running) -> None:
    found = server.client.get_online_features(
        "route", {"from_city": ["LGA"], "to_city": ["JFK"]}, full_feature_names=True
    )
    assert found.values.to_pylist() == [{"origin__temp": 20.5, "destination__temp": -3.0}]
    assert set(found.event_times) == {"origin", "destination"}


def test_features_of_one_name_are_told_apart_by_their_view(server: Running) -> None:
    """An on-demand view that reads two views finds each value under view__feature."""
    keys = {"driver_id": [1, 2], "city_id": ["LGA", "JFK"]}
    found = server.client.get_online_features(["gap:gap"], keys)
    assert found.values["gap"].to_pylist() == pytest.approx([0.3 - 8.0, 0.4 - 16.0])


def test_a_transformation_that_fails_is_told_with_its_view(server: Running) -> None:
    """The inputs of the caller or the code of the definition are at fault, no store is."""
    with pytest.raises(OnDemandFailed, match="picky: its transformation raised IntCastingNaNError") as caught:
        server.client.get_online_features(
            ["picky:picky"], {"driver_id": [1]}, request_data={"factor": [None]}
        )
    assert caught.value.metadata == {"view": "picky"}


def test_a_narrower_integer_fits(server: Running) -> None:
    keys = pa.array([1], pa.int32())
    assert server.client.get_online_features(["trips:n"], {"driver_id": keys}).values["n"].to_pylist() == [3]
    wide = pa.array([1], pa.int64())
    found = server.client.get_online_features(["kinds:int32"], {"small_id": wide})
    assert found.values["int32"].to_pylist() == [-5]


BAD: list[tuple[Any, dict[str, Any], dict[str, Any], type[PlumblineError], dict[str, str]]] = [
    ("nope", {}, {}, FeatureServiceNotFound, {"feature_service": "nope", "project": "tiny"}),
    (["nope:n"], {}, {}, ViewNotFound, {"view": "nope", "project": "tiny"}),
    (["trips:nope"], {}, {}, FeatureNotFound, {"view": "trips", "feature": "nope"}),
    ([], {"driver_id": [1]}, {}, EmptyRequest, {"field": "selection"}),
    (["trips:n"], {"driver_id": pa.array([], pa.int64())}, {}, EmptyRequest, {"field": "entities"}),
    (["trips:n"], {"city_id": ["LGA"]}, {}, JoinKeyMissing, {"join_key": "driver_id"}),
    (["trips:n"], {}, {}, JoinKeyMissing, {"join_key": "driver_id"}),
    (
        ["trips:n"], {"driver_id": ["1"]}, {},
        TypeMismatch, {"column": "driver_id", "expected": "INT64", "actual": "string"},
    ),
    (
        ["weather:temp"], {"city_id": [1]}, {},
        TypeMismatch, {"column": "city_id", "expected": "STRING", "actual": "int64"},
    ),
    (
        ["trips:n"], {"driver_id": [True]}, {},
        TypeMismatch, {"column": "driver_id", "expected": "INT64", "actual": "bool"},
    ),
    (["trips:n"], {"driver_id": list(range(101))}, {}, TooManyRows, {"limit": "100", "actual": "101"}),
    (["scaled:scaled"], {"driver_id": [1]}, {}, RequestDataMissing, {"column": "factor"}),
    (
        ["scaled:scaled"], {"driver_id": [1]}, {"factor": ["1"]},
        TypeMismatch, {"column": "factor", "expected": "DOUBLE", "actual": "string"},
    ),
    ("route", {"from_city": ["a"], "to_city": ["b"]}, {}, AmbiguousFeatureName, {"feature": "temp"}),
]  # fmt: skip


@pytest.mark.parametrize(("selection", "entities", "request_data", "error", "metadata"), BAD)
def test_bad_requests_are_told_what_is_wrong(
    server: Running,
    selection: Any,
    entities: dict[str, Any],
    request_data: dict[str, Any],
    error: type[PlumblineError],
    metadata: dict[str, str],
) -> None:
    with pytest.raises(error) as caught:
        server.client.get_online_features(selection, entities, request_data=request_data)
    assert caught.value.metadata == metadata
    assert caught.value.reason == error.reason


def test_columns_of_unequal_length_are_refused(server: Running) -> None:
    with pytest.raises(PlumblineError, match="rows") as caught:
        server.client.get_online_features(["pair:visits"], {"driver_id": [1], "city_id": ["a", "b"]})
    assert caught.value.reason == "MALFORMED_COLUMN"
    with pytest.raises(PlumblineError, match="rows") as caught:
        server.client.get_online_features(
            ["scaled:scaled"], {"driver_id": [1, 2]}, request_data={"factor": [1.0]}
        )
    assert caught.value.reason == "MALFORMED_COLUMN"


def test_an_expected_digest_is_kept_to(server: Running) -> None:
    digest = server.client.get_feature_service("tiny").digest
    request = pb.GetOnlineFeaturesRequest(
        selection=pb.FeatureSelection(feature_service="route"), expected_definition_digest=digest
    )
    with pytest.raises(grpc.RpcError) as caught:
        server.stub.GetOnlineFeatures(request)
    error = wire.from_rpc_error(caught.value, CLASSES)
    assert isinstance(error, DefinitionChanged)
    assert error.metadata["expected"] == digest


def test_the_catalog_describes_what_there_is(server: Running) -> None:
    service = server.client.get_feature_service("tiny")
    assert [item.name for item in service.join_keys] == ["driver_id", "city_id"]
    assert [(item.name, item.type) for item in service.request_data] == [
        ("factor", column_pb2.VALUE_TYPE_DOUBLE)
    ]
    assert [item.view for item in service.projections] == ["trips", "weather", "scaled"]
    assert service.projections[0].view_digest == server.client.get_feature_view("trips").digest
    view = server.client.get_feature_view("trips")
    assert view.ttl.ToTimedelta() == timedelta(days=2)
    assert [(item.name, item.type) for item in view.features] == [
        ("n", column_pb2.VALUE_TYPE_INT64),
        ("rate", column_pb2.VALUE_TYPE_DOUBLE),
        ("tag", column_pb2.VALUE_TYPE_STRING),
    ]
    assert view.tags == {"team": "rides"}
    assert view.source == "trips_table"
    assert not server.client.get_feature_view("weather").HasField("ttl")
    names = [item.name for item in server.client.list_feature_views()]
    views = ["trips", "weather", "pair", "world", "kinds", "ratings", "scaled", "gap", "picky"]
    assert names == sorted(views)
    assert [item.name for item in server.client.list_feature_services()] == ["route", "tiny"]
    assert [(item.name, item.join_key) for item in server.client.list_entities()] == [
        ("city", "city_id"),
        ("driver", "driver_id"),
        ("small", "small_id"),
    ]


def test_what_is_not_there_is_not_found(server: Running) -> None:
    with pytest.raises(ViewNotFound):
        server.client.get_feature_view("nope")
    with pytest.raises(FeatureServiceNotFound):
        server.client.get_feature_service("nope")
    with pytest.raises(grpc.RpcError) as caught:
        server.stub.GetEntity(pb.GetEntityRequest(name="nope"))
    assert isinstance(wire.from_rpc_error(caught.value, CLASSES), EntityNotFound)
    assert server.stub.GetEntity(pb.GetEntityRequest(name="driver")).description == "Who drives"


def test_page_tokens_belong_to_their_list(server: Running) -> None:
    page = server.stub.ListFeatureViews(pb.ListFeatureViewsRequest(page_size=2))
    assert len(page.feature_views) == 2
    rest = server.stub.ListFeatureViews(pb.ListFeatureViewsRequest(page_token=page.next_page_token))
    assert len(rest.feature_views) == 7
    with pytest.raises(grpc.RpcError) as caught:
        server.stub.ListEntities(pb.ListEntitiesRequest(page_token=page.next_page_token))
    assert isinstance(wire.from_rpc_error(caught.value, CLASSES), InvalidPageToken)


UNKNOWN: Any = 9  # no enum has it


def wrong_header() -> Iterator[pb.GetHistoricalFeaturesRequest]:
    selection = pb.FeatureSelection(features=pb.FeatureReferences(references=["trips:n"]))
    yield pb.GetHistoricalFeaturesRequest(
        header=pb.HistoricalFeaturesHeader(selection=selection, known_at_policy=UNKNOWN)
    )


ONE = pb.FeatureSelection(features=pb.FeatureReferences(references=["world:fuel"]))
WRONG: list[tuple[str, Callable[[Any], Any]]] = [
    (
        "max_age",
        lambda stub: stub.GetOnlineFeatures(
            pb.GetOnlineFeaturesRequest(selection=ONE, max_age=duration_pb2.Duration(seconds=-1))
        ),
    ),
    ("page_size", lambda stub: stub.ListFeatureViews(pb.ListFeatureViewsRequest(page_size=5000))),
    ("page_size", lambda stub: stub.ListEntities(pb.ListEntitiesRequest(page_size=-1))),
    ("target", lambda stub: stub.PushFeatures(pb.PushFeaturesRequest(target="scaled"))),
    (
        "destination",
        lambda stub: stub.PushFeatures(pb.PushFeaturesRequest(target="trips", destination=UNKNOWN)),
    ),
    ("mode", lambda stub: stub.PushFeatures(pb.PushFeaturesRequest(target="trips", mode=UNKNOWN))),
    ("views", lambda stub: list(stub.Materialize(pb.MaterializeRequest(views=["scaled"])))),
    (
        "end_time",
        lambda stub: list(
            stub.Materialize(pb.MaterializeRequest(end_time=timestamp_pb2.Timestamp(seconds=2**60)))
        ),
    ),
    ("header.known_at_policy", lambda stub: list(stub.GetHistoricalFeatures(wrong_header()))),
]


@pytest.mark.parametrize(("field", "call"), WRONG)
def test_a_value_that_a_field_cannot_have_is_told_with_the_field(
    server: Running, field: str, call: Callable[[Any], Any]
) -> None:
    with pytest.raises(grpc.RpcError) as caught:
        call(server.stub)
    error = wire.from_rpc_error(caught.value, CLASSES)
    assert isinstance(error, InvalidField)
    assert error.metadata == {"field": field}
    assert [item.field for item in error.violations] == [field]


def test_a_store_that_is_away_is_unavailable(tmp_path: Any, free_port: int) -> None:
    from feature_service.app import build
    from feature_service.feast_adapters.apply import apply
    from plumbline.features.client import FeatureClient
    from tests.support import running_server

    repo = write_repo(tmp_path)
    apply(repo)
    away = f"  type: redis\n  connection_string: 127.0.0.1:{free_port}"
    yaml = repo / "feature_store.yaml"
    yaml.write_text(yaml.read_text().replace(SQLITE, away))
    with (
        running_server(settings_for(repo), build) as address,
        FeatureClient(address, timeout=5) as client,
    ):
        with pytest.raises(StoreUnavailable, match=f"127.0.0.1:{free_port} cannot be reached.*refused"):
            client.get_online_features(["trips:n"], {"driver_id": [1]})
        # What needs no store is answered still.
        assert client.get_feature_service("tiny").name == "tiny"
