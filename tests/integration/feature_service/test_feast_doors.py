"""One data set, read through every door: our contract, Feast's gRPC services, its HTTP paths, its SDK."""

from __future__ import annotations

import urllib.request
from typing import Any

import pytest
from feast.protos.feast.serving import ServingService_pb2 as serving_pb
from feast.protos.feast.serving.GrpcServer_pb2_grpc import GrpcFeatureServerStub
from feast.protos.feast.serving.ServingService_pb2_grpc import ServingServiceStub
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase

from tests.integration.feature_service.conftest import Running
from tests.integration.feature_service.doors import (
    DOORS,
    Column,
    Question,
    grpc_request,
    post,
    remote_store,
    value,
)
from tests.integration.feature_service.repo import KINDS, ago, kinds_row

P, N, M, O = "PRESENT", "NULL_VALUE", "NOT_FOUND", "OUTSIDE_MAX_AGE"  # noqa: E741
TRIPS = [ago(0.5), ago(1), ago(9), None]


def kinds_expected() -> dict[str, Column]:
    row = kinds_row(1, ago(1))
    seconds = int(row["timestamp"].timestamp())
    row |= {"timestamp": seconds, "timestamp_list": [seconds, seconds]}
    names = [*KINDS, *(f"{name}_list" for name in KINDS)]
    return {name: Column([row[name], None], [P, M], [ago(1), None]) for name in names}


CASES: dict[str, tuple[Question, dict[str, Column]]] = {
    "statuses": (
        Question(("trips:n", "trips:tag", "trips:rate"), {"driver_id": [1, 2, 3, 404]}),
        {
            "n": Column([3, None, None, None], [P, N, O, M], TRIPS),
            "tag": Column(["c", None, None, None], [P, N, O, M], TRIPS),
            "rate": Column([0.3, 0.4, None, None], [P, P, O, M], TRIPS),
        },
    ),
    "a null key": (
        Question(("weather:temp",), {"city_id": ["LGA", None, "nowhere"]}),
        {"temp": Column([20.5, None, None], [P, M, M], [ago(400), None, None])},
    ),
    "repeated keys": (
        Question(("weather:temp",), {"city_id": ["JFK", "LGA", "JFK"]}),
        {"temp": Column([-3.0, 20.5, -3.0], [P] * 3, [ago(1), ago(400), ago(1)])},
    ),
    "several views, two keys": (
        Question(("pair:visits", "weather:temp"), {"driver_id": [1, 1, 2], "city_id": ["LGA", "JFK", "LGA"]}),
        {
            "visits": Column([4, 7, None], [P, P, M], [ago(2), ago(2), None]),
            "temp": Column([20.5, -3.0, 20.5], [P] * 3, [ago(400), ago(1), ago(400)]),
        },
    ),
    "full names": (
        Question(("trips:n", "ratings:n"), {"driver_id": [1], "city_id": ["LGA"]}, full_names=True),
        {
            "trips__n": Column([3], [P], [ago(0.5)]),
            "ratings__n": Column([1], [P], [ago(5)]),
        },
    ),
    "mapped keys, views by alias": (
        Question("route", {"from_city": ["LGA", "JFK"], "to_city": ["JFK", "nowhere"]}, full_names=True),
        {
            "origin__temp": Column([20.5, -3.0], [P, P], [ago(400), ago(1)]),
            "destination__temp": Column([-3.0, None], [P, M], [ago(1), None]),
        },
    ),
    "a service with an on-demand view": (
        Question(
            "tiny",
            {"driver_id": [1, 2], "city_id": ["LGA", "JFK"]},
            request_data={"factor": [10.0, 100.0]},
        ),
        {
            "n": Column([3, None], [P, N], TRIPS[:2]),
            "rate": Column([0.3, 0.4], [P, P], TRIPS[:2]),
            "temp": Column([20.5, -3.0], [P, P], [ago(400), ago(1)]),
            "scaled": Column([3.0, 40.0], [P, P], None),
        },
    ),
    "every type": (
        Question((*(f"kinds:{n}" for n in KINDS), *(f"kinds:{n}_list" for n in KINDS)), {"small_id": [1, 2]}),
        kinds_expected(),
    ),
}


@pytest.mark.parametrize("door", DOORS)
@pytest.mark.parametrize("case", CASES)
def test_every_door_gives_the_same_answer(server: Running, door: str, case: str) -> None:
    """Feast 0.67 applies no ttl online, calls a miss PRESENT on Redis and never says NULL_VALUE."""
    asked, expected = CASES[case]
    found = DOORS[door](server, asked)
    assert set(found) == set(expected)
    for name, column in expected.items():
        assert found[name].values == column.values, name
        assert found[name].statuses == column.statuses, name
        if found[name].times is not None and column.times is not None:
            assert found[name].times == column.times, name
    if door != "native":
        assert list(found) == list(expected)


def test_a_view_without_keys_is_answered_for_as_many_rows_as_are_asked_for(server: Running) -> None:
    # What Feast's client sends for it.
    status, reply = post(
        server.http + "/get-online-features",
        {"features": ["world:fuel"], "entities": {"__dummy_id": ["", ""]}},
    )
    assert (status, reply["metadata"]["feature_names"]) == (200, ["fuel"])
    assert reply["results"][0]["values"] == [1.5, 1.5]
    assert remote_store(server).get_online_features(["world:fuel"], {"driver_id": [1, 2, 3]}).to_dict() == {
        "fuel": [1.5, 1.5, 1.5]
    }


def test_an_entity_may_be_called_by_its_own_name(server: Running) -> None:
    """Feast still allows the entity's name in place of its join key."""
    asked = Question(("trips:n",), {"driver": [1]})
    reply = ServingServiceStub(server.channel).GetOnlineFeatures(grpc_request(asked))
    assert list(reply.metadata.feature_names.val) == ["driver_id", "n"]
    assert value(reply.results[1].values[0]) == 3


def test_columns_that_nothing_needs_are_not_looked_at(server: Running) -> None:
    body = {"features": ["trips:n"], "entities": {"driver_id": [1], "other": [{"a": "mapping"}]}}
    status, reply = post(server.http + "/get-online-features", body)
    assert (status, reply["metadata"]["feature_names"]) == (200, ["driver_id", "n"])


def test_the_versions_of_views_are_told_when_asked_for(server: Running) -> None:
    request = grpc_request(Question(("trips:n", "weather:temp"), {"driver_id": [1], "city_id": ["LGA"]}))
    request.include_feature_view_version_metadata = True
    reply = GrpcFeatureServerStub(server.channel).GetOnlineFeatures(request)
    assert [view.name for view in reply.metadata.feature_view_metadata] == ["trips", "weather"]
    found = remote_store(server).get_online_features(
        ["trips:n"], {"driver_id": [1]}, include_feature_view_version_metadata=True
    )
    assert [view.name for view in found.proto.metadata.feature_view_metadata] == ["trips"]


def test_serving_info_names_the_version_of_feast(server: Running) -> None:
    info = ServingServiceStub(server.channel).GetFeastServingInfo(serving_pb.GetFeastServingInfoRequest())
    assert info.version.startswith("0.67")


@pytest.mark.parametrize("name", ["GrpcFeatureServer", "feast.serving.ServingService"])
def test_feasts_services_are_found_by_health_and_reflection(server: Running, name: str) -> None:
    health: Any = health_pb2_grpc.HealthStub(server.channel)
    reply = health.Check(health_pb2.HealthCheckRequest(service=name), timeout=5)
    assert reply.status == health_pb2.HealthCheckResponse.SERVING
    found = ProtoReflectionDescriptorDatabase(server.channel)
    assert name in found.get_services()
    assert found.FindFileContainingSymbol(name).service[-1].name == name.rpartition(".")[2]


def test_health_is_told_over_http(server: Running) -> None:
    with urllib.request.urlopen(server.http + "/health", timeout=5) as reply:
        assert (reply.status, reply.read()) == (200, b"")
