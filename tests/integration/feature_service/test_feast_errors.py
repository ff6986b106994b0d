"""What Feast answers INTERNAL or 500 to: here it is said, through every door, what is wrong."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import grpc
import pytest
from feast.errors import FeastError, FeatureServiceNotFoundException, FeatureViewNotFoundException
from feast.protos.feast.serving import ServingService_pb2 as serving_pb
from feast.protos.feast.serving.GrpcServer_pb2_grpc import GrpcFeatureServerStub
from feast.protos.feast.serving.ServingService_pb2_grpc import ServingServiceStub
from feast.protos.feast.types.Value_pb2 import RepeatedValue, Value

from tests.integration.feature_service.conftest import Running
from tests.integration.feature_service.doors import (
    Question,
    grpc_request,
    http_request,
    post,
    remote_store,
)

WRONG: dict[str, tuple[Question, grpc.StatusCode, str, type[FeastError]]] = {
    "no such service": (
        Question("nobody", {"driver_id": [1]}),
        grpc.StatusCode.NOT_FOUND,
        "there is no feature service 'nobody'",
        FeatureServiceNotFoundException,
    ),
    "no such view": (
        Question(("nothing:n",), {"driver_id": [1]}),
        grpc.StatusCode.NOT_FOUND,
        "there is no feature view 'nothing'",
        FeatureViewNotFoundException,
    ),
    "no such feature": (
        Question(("trips:speed",), {"driver_id": [1]}),
        grpc.StatusCode.NOT_FOUND,
        "has no feature 'speed'",
        FeastError,
    ),
    "a reference that is none": (
        Question(("trips",), {"driver_id": [1]}),
        grpc.StatusCode.NOT_FOUND,
        "write view:feature",
        FeastError,
    ),
    "a join key is missing": (
        Question(("trips:n",), {"city_id": ["LGA"]}),
        grpc.StatusCode.INVALID_ARGUMENT,
        "needs the join key 'driver_id'",
        FeastError,
    ),
    "a key of another type": (
        Question(("trips:n",), {"driver_id": ["one"]}),
        grpc.StatusCode.INVALID_ARGUMENT,
        "column 'driver_id' is declared INT64",
        FeastError,
    ),
    "request data is missing": (
        Question("tiny", {"driver_id": [1], "city_id": ["LGA"]}),
        grpc.StatusCode.INVALID_ARGUMENT,
        "needs the request data 'factor'",
        FeastError,
    ),
    "two features of one name": (
        Question(("trips:n", "ratings:n"), {"driver_id": [1], "city_id": ["LGA"]}),
        grpc.StatusCode.INVALID_ARGUMENT,
        "would be named 'n'",
        FeastError,
    ),
    "no entity": (
        Question(("trips:n",), {"driver_id": []}),
        grpc.StatusCode.INVALID_ARGUMENT,
        "names no entity",
        FeastError,
    ),
    "columns of unequal length": (
        Question(("pair:visits",), {"driver_id": [1, 2], "city_id": ["LGA"]}),
        grpc.StatusCode.INVALID_ARGUMENT,
        "differ in length",
        FeastError,
    ),
    "too many entities": (
        Question(("trips:n",), {"driver_id": list(range(101))}),
        grpc.StatusCode.INVALID_ARGUMENT,
        "at most 100 are allowed",
        FeastError,
    ),
    "nothing selected": (
        Question((), {"driver_id": [1]}),
        grpc.StatusCode.INVALID_ARGUMENT,
        "selects no features",
        FeastError,
    ),
}


@pytest.mark.parametrize("stub", [GrpcFeatureServerStub, ServingServiceStub])
@pytest.mark.parametrize("case", WRONG)
def test_what_is_wrong_is_said_over_grpc(
    server: Running, stub: Callable[[grpc.Channel], Any], case: str
) -> None:
    asked, code, message, _ = WRONG[case]
    with pytest.raises(grpc.RpcError) as caught:
        stub(server.channel).GetOnlineFeatures(grpc_request(asked))
    error: Any = caught.value
    assert error.code() is code
    assert message in error.details()


@pytest.mark.parametrize("case", WRONG)
def test_what_is_wrong_is_said_over_http_in_feasts_shape(server: Running, case: str) -> None:
    asked, code, message, cls = WRONG[case]
    status, reply = post(server.http + "/get-online-features", http_request(asked))
    assert status == (404 if code is grpc.StatusCode.NOT_FOUND else 400)
    raised = FeastError.from_error_detail(reply)
    assert isinstance(raised, cls)
    assert message in str(raised)


def test_the_sdk_raises_what_the_server_says(server: Running) -> None:
    with pytest.raises(FeatureViewNotFoundException, match="no feature view 'nothing'"):
        remote_store(server).get_online_features(["nothing:n"], {"driver_id": [1]})
    with pytest.raises(FeastError, match="column 'driver_id' is declared INT64"):
        remote_store(server).get_online_features(["trips:n"], {"driver_id": ["one"]})


@pytest.mark.parametrize(
    ("body", "where"),
    [
        (b"{", ["body"]),
        (b"[" * 100_000, ["body"]),
        (b"null", ["body"]),
        ({"features": ["trips:n"]}, ["body", "entities"]),
        ({"features": "trips:n", "entities": {}}, ["body", "features"]),
        ({"features": ["trips:n"], "entities": {"driver_id": 1}}, ["body", "entities", "driver_id"]),
    ],
)
def test_a_body_that_is_none_is_refused_as_feasts_server_does(
    server: Running, body: Any, where: list[str]
) -> None:
    status, reply = post(server.http + "/get-online-features", body)
    assert status == 422
    assert reply["detail"][0]["loc"] == where


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (
            {"features": ["weather:temp"], "entities": {"city_id": ["LGA", "\ud800"]}},
            "column 'city_id' is declared STRING, but row 1 holds",
        ),
        ({"features": ["trips:n"], "entities": {"\ud800": [1]}}, r"column '\ud800' has half of a character"),
        ({"features": ["\ud800:n"], "entities": {"driver_id": [1]}}, "no feature view"),
        ({"feature_service": "\ud800", "entities": {"driver_id": [1]}}, "no feature service"),
    ],
)
def test_half_of_a_character_is_the_callers_fault(server: Running, body: Any, said: str) -> None:
    status, reply = post(server.http + "/get-online-features", body)
    assert status in (400, 404), reply
    assert said in str(FeastError.from_error_detail(reply))


def test_half_of_a_character_is_not_written(server: Running) -> None:
    df = {"city_id": ["\ud800"], "event_timestamp": ["2024-03-10T07:30:00Z"], "temp": [1.0]}
    status, reply = post(server.http + "/write-to-online-store", {"feature_view_name": "weather", "df": df})
    assert status == 400, reply
    assert "row 0 holds" in str(FeastError.from_error_detail(reply))
    status, reply = post(
        server.http + "/write-to-online-store",
        {"feature_view_name": "weather", "df": df | {"city_id": ["LGA"], "\ud800": [1]}},
    )
    assert status == 400, reply
    assert "half of a character" in str(FeastError.from_error_detail(reply))


def test_a_body_larger_than_a_message_may_be_is_refused(server: Running) -> None:
    status, reply = post(server.http + "/push", b'{"df": "' + b"x" * (1 << 22) + b'"}')
    assert status == 413
    assert "4194304 bytes" in str(FeastError.from_error_detail(reply))


def test_a_form_of_a_web_page_is_no_request(server: Running) -> None:
    status, reply = post(server.http + "/push", b"{}", **{"Content-Type": "text/plain"})
    assert status == 415
    assert "application/json" in reply["detail"]


def test_what_is_not_served_is_said(server: Running) -> None:
    assert post(server.http + "/nowhere", {}) == (404, {"detail": "Not Found"})
    status, reply = post(server.http + "/retrieve-online-documents", {"features": ["trips:n"], "top_k": 3})
    assert status == 501
    assert "no vector search" in str(FeastError.from_error_detail(reply))
    with pytest.raises(FeastError, match="no vector search"):
        remote_store(server).retrieve_online_documents_v2(features=["trips:n"], top_k=1, query=[0.5])


def test_values_of_one_column_must_agree_in_type(server: Running) -> None:
    request = serving_pb.GetOnlineFeaturesRequest()
    request.features.val.append("trips:n")
    request.entities["driver_id"].CopyFrom(RepeatedValue(val=[Value(int64_val=1), Value(string_val="1")]))
    with pytest.raises(grpc.RpcError, match="holds int64_val and string_val"):
        ServingServiceStub(server.channel).GetOnlineFeatures(request)
