"""Rows written by Feast's clients, and materializations that they start."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Any

import grpc
import pandas as pd
import pytest
from feast.errors import FeastError, FeatureViewNotFoundException
from feast.protos.feast.serving import GrpcServer_pb2 as server_pb
from feast.protos.feast.serving.GrpcServer_pb2_grpc import GrpcFeatureServerStub
from feast.protos.feast.types.Value_pb2 import StringList as FeastStrings
from feast.protos.feast.types.Value_pb2 import Value

from tests.integration.feature_service.conftest import Running
from tests.integration.feature_service.doors import (
    DOORS,
    Question,
    post,
    remote_store,
)
from tests.integration.feature_service.repo import KINDS, ago, kinds_row


def trip(driver: int, **others: Any) -> dict[str, Any]:
    return {"driver_id": driver, "n": 7, "rate": 0.75, "tag": "p", "event_timestamp": ago(0.01)} | others


def read_back(server: Running, driver: int) -> tuple[list[Any], datetime | None]:
    columns = DOORS["native"](
        server, Question(("trips:n", "trips:rate", "trips:tag"), {"driver_id": [driver]})
    )
    times = columns["n"].times
    assert times is not None
    return [columns[name].values[0] for name in ("n", "rate", "tag")], times[0]


def push_text(server: Running, row: dict[str, Any]) -> None:
    request = server_pb.PushRequest(
        features={name: str(cell) for name, cell in row.items()},
        stream_feature_view="trips_push",
        to="online",
    )
    assert GrpcFeatureServerStub(server.channel).Push(request).status


def push_typed(server: Running, row: dict[str, Any]) -> None:
    typed = {
        "driver_id": Value(int64_val=row["driver_id"]),
        "n": Value(int64_val=row["n"]),
        "rate": Value(double_val=row["rate"]),
        "tag": Value(string_val=row["tag"]),
        "event_timestamp": Value(unix_timestamp_val=int(row["event_timestamp"].timestamp())),
    }
    request = server_pb.PushRequest(typed_features=typed, stream_feature_view="trips_push", to="online")
    assert GrpcFeatureServerStub(server.channel).Push(request).status


def write_text(server: Running, row: dict[str, Any]) -> None:
    request = server_pb.WriteToOnlineStoreRequest(
        features={name: str(cell) for name, cell in row.items()}, feature_view_name="trips"
    )
    assert GrpcFeatureServerStub(server.channel).WriteToOnlineStore(request).status


def push_http(server: Running, row: dict[str, Any]) -> None:
    df = {name: [cell] for name, cell in row.items()} | {"event_timestamp": [str(row["event_timestamp"])]}
    assert post(server.http + "/push", {"push_source_name": "trips_push", "df": df}) == (200, None)


def push_sdk(server: Running, row: dict[str, Any]) -> None:
    remote_store(server).push("trips_push", pd.DataFrame([row | {"created": row["event_timestamp"]}]))


def write_sdk(server: Running, row: dict[str, Any]) -> None:
    remote_store(server).write_to_online_store(
        "trips", pd.DataFrame([row | {"created": row["event_timestamp"]}])
    )


WRITERS = [push_text, push_typed, write_text, push_http, push_sdk, write_sdk]


@pytest.mark.parametrize("write", WRITERS)
def test_a_row_can_be_read_once_it_was_written(
    server: Running, write: Callable[[Running, dict[str, Any]], None]
) -> None:
    driver = 7000 + WRITERS.index(write)
    write(server, trip(driver))
    assert read_back(server, driver) == ([7, 0.75, "p"], ago(0.01))
    # An older row does not replace it, whichever client sends it.
    write(server, trip(driver, n=6, event_timestamp=ago(0.02)))
    assert read_back(server, driver) == ([7, 0.75, "p"], ago(0.01))


def test_columns_that_a_target_does_not_have_are_left_out(server: Running) -> None:
    push_text(server, trip(7100, colour="red"))
    assert read_back(server, 7100)[0] == [7, 0.75, "p"]


def test_a_push_may_go_offline_too(server: Running) -> None:
    files = len(list((server.repo / "data").rglob("*.parquet")))
    df = {name: [str(cell) if name == "event_timestamp" else cell] for name, cell in trip(7101).items()}
    body = {"push_source_name": "trips_push", "df": df, "to": "online_and_offline"}
    assert post(server.http + "/push", body)[0] == 200
    assert read_back(server, 7101)[0] == [7, 0.75, "p"]
    assert len(list((server.repo / "data").rglob("*.parquet"))) == files + 1


BAD_ROWS: dict[str, tuple[dict[str, Any], str]] = {
    "text that is no number": ({"n": "many"}, "column 'n' is declared INT64, but row 0 holds \"many\""),
    "a number with a rest": ({"n": "7.5"}, "column 'n' is declared INT64"),
    "no time": ({"event_timestamp": "yesterday"}, "column 'event_timestamp' is declared TIMESTAMP"),
    "the future": ({"event_timestamp": ago(-9)}, "lies in the future"),
}


@pytest.mark.parametrize("case", BAD_ROWS)
def test_a_row_that_does_not_fit_is_refused_and_said_why(server: Running, case: str) -> None:
    changes, message = BAD_ROWS[case]
    row = trip(7200, **changes)
    with pytest.raises(grpc.RpcError) as caught:
        push_text(server, row)
    error: Any = caught.value
    assert error.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert message in error.details()
    df = {name: [str(cell) if name == "event_timestamp" else cell] for name, cell in row.items()}
    status, reply = post(server.http + "/push", {"push_source_name": "trips_push", "df": df})
    assert status == 400
    assert message in str(FeastError.from_error_detail(reply)) or case == "a number with a rest"


def push_request(**changes: Any) -> server_pb.PushRequest:
    fields = {"features": {"driver_id": "1"}, "stream_feature_view": "trips_push", "to": "online"}
    return server_pb.PushRequest(**{**fields, **changes})


@pytest.mark.parametrize(
    ("request_", "code", "message"),
    [
        (push_request(stream_feature_view="nothing"), "NOT_FOUND", "'nothing'"),
        (push_request(stream_feature_view="scaled"), "INVALID_ARGUMENT", "is an on-demand view"),
        (push_request(to=""), "INVALID_ARGUMENT", "must be one of"),
        (push_request(), "INVALID_ARGUMENT", "lacks the column"),
        (push_request(features={"n": "1"}), "INVALID_ARGUMENT", "lacks the join key"),
        (push_request(features={}), "INVALID_ARGUMENT", "no rows"),
        (push_request(typed_features={"n": Value(int64_val=1)}), "INVALID_ARGUMENT", "not both"),
    ],
)
def test_a_push_that_cannot_be_done_is_said(
    server: Running, request_: server_pb.PushRequest, code: str, message: str
) -> None:
    with pytest.raises(grpc.RpcError) as caught:
        GrpcFeatureServerStub(server.channel).Push(request_)
    error: Any = caught.value
    assert error.code().name == code
    assert message in error.details()


def test_lists_and_bytes_come_as_text_or_typed(server: Running) -> None:
    row = kinds_row(50, ago(0.01))
    plain = ("small_id", "double", "float", "int64", "int32", "string", "bool")
    text = {name: str(row[name]) for name in plain} | {f"{name}_list": "[]" for name in KINDS}
    text |= {"bytes": "AP8=", "timestamp": "1700000000", "event_timestamp": ago(0.01).isoformat()}
    text |= {"string_list": '["a", "ü"]', "double_list": "[1, 2.5]"}
    stub = GrpcFeatureServerStub(server.channel)
    stub.WriteToOnlineStore(server_pb.WriteToOnlineStoreRequest(features=text, feature_view_name="kinds"))
    names = ("bytes", "string_list", "double_list", "bool", "timestamp")
    asked = Question(tuple(f"kinds:{name}" for name in names), {"small_id": [50]})
    found = DOORS["ServingService"](server, asked)
    assert [found[name].values[0] for name in names] == [
        b"\x00\xff",
        ["a", "ü"],
        [1.0, 2.5],
        True,
        1_700_000_000,
    ]
    wrong = {"small_id": Value(int32_val=51), "double_list": Value(string_list_val=FeastStrings(val=["a"]))}
    with pytest.raises(grpc.RpcError, match="INVALID_ARGUMENT"):
        stub.WriteToOnlineStore(
            server_pb.WriteToOnlineStoreRequest(typed_features=wrong, feature_view_name="kinds")
        )


def test_views_are_materialized_over_http(server: Running) -> None:
    url, views = server.http + "/materialize", {"feature_views": ["world"]}
    body = {"start_ts": ago(1000).isoformat(), "end_ts": ago(0.1).isoformat(), **views}
    assert post(url, body) == (200, None)
    assert post(url + "-incremental", {"end_ts": ago(0.05).isoformat(), "feature_views": ["world"]})[0] == 200
    accepted = post(
        url + "-incremental?async=true", {"end_ts": ago(0.04).isoformat(), "feature_views": ["world"]}
    )
    assert accepted == (202, {"status": "accepted", "feature_views": ["world"]})
    for wrong, message in (
        ({"end_ts": ago(1).isoformat()}, "start_ts is missing"),
        (body | {"end_ts": "soon"}, "no ISO 8601 time"),
        (body | {"end_ts": ago(-1).isoformat()}, "lies in the future"),
        (body | {"disable_event_timestamp": True}, "rows keep the event times"),
        (body | {"version": "v1"}, "only the current version"),
    ):
        status, reply = post(url, wrong)
        assert status == 400
        assert message in str(FeastError.from_error_detail(reply))
    status, reply = post(url, body | {"feature_views": ["nothing"]})
    assert (status, type(FeastError.from_error_detail(reply))) == (404, FeatureViewNotFoundException)
