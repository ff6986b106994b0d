"""Push and materialize through a real server."""

from __future__ import annotations

import itertools
import os
import time
from collections.abc import Callable, Iterator
from concurrent import futures
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import grpc
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from feature_service.app import build
from feature_service.feast_adapters.apply import apply
from feature_service.stores import parquet
from feature_service.writes.merging import AT_LEAST
from plumbline import wire
from plumbline.columns import encode_mapping
from plumbline.errors import MalformedColumn, PlumblineError
from plumbline.features.client import FeatureClient
from plumbline.features.errors import (
    CLASSES,
    EmptyRequest,
    FeatureNotFound,
    InvalidField,
    InvalidTimeRange,
    JoinKeyMissing,
    RequestIdReused,
    RowRefused,
    TooManyRows,
    TypeMismatch,
    ViewNotFound,
)
from plumbline.features.v1 import feature_retrieval_service_pb2 as pb
from tests.integration.feature_service.conftest import Running, settings_for
from tests.integration.feature_service.repo import ago, write_repo
from tests.support import running_server, wait_until

_fresh = itertools.count(5000, 10)
BEST_EFFORT = pb.PUSH_MODE_BEST_EFFORT


@pytest.fixture
def key() -> int:
    """A driver that no other test uses."""
    return next(_fresh)


def trip(key: Any, event: Any, n: Any = 1, **others: Any) -> dict[str, Any]:
    columns = {"driver_id": key, "event_timestamp": event, "n": n, "rate": 0.5, "tag": "p"} | others
    return {name: value if isinstance(value, list | pa.Array) else [value] for name, value in columns.items()}


def online(server: Running, key: int) -> int | None:
    value: int | None = (
        server.client.get_online_features(["trips:n"], {"driver_id": [key]}).values["n"][0].as_py()
    )
    return value


def offline(server: Running, key: int, at: datetime) -> int | None:
    rows = pa.table({"driver_id": [key], "event_timestamp": [at]})
    found = server.client.get_historical_features(["trips:n"], rows).read_all()
    value: int | None = found["n"][0].as_py()
    return value


@pytest.mark.parametrize("target", ["trips_push", "trips"])
def test_pushed_rows_are_read_and_joined(server: Running, key: int, target: str) -> None:
    at = datetime.now(UTC) - timedelta(minutes=5)
    reply = server.client.push(target, trip(key, at, 7, created=at))
    assert (reply.rows_written, list(reply.refused), list(reply.views)) == (1, [], ["trips"])
    assert online(server, key) == 7
    assert offline(server, key, at) == 7
    assert offline(server, key, at - timedelta(seconds=1)) is None


def test_rows_without_a_created_time_are_known_from_now_on(server: Running, key: int) -> None:
    at = datetime.now(UTC) - timedelta(minutes=5)
    server.client.push("trips_push", trip(key, at))
    assert offline(server, key, datetime.now(UTC) - timedelta(minutes=1)) is None
    assert offline(server, key, datetime.now(UTC) + timedelta(minutes=1)) == 1


def test_destinations(server: Running, key: int) -> None:
    at = ago(0.1)
    server.client.push("trips", trip(key, at, created=at), destination=pb.PUSH_DESTINATION_ONLINE)
    assert (online(server, key), offline(server, key, ago(0))) == (1, None)
    server.client.push("trips", trip(key + 500, at, created=at), destination=pb.PUSH_DESTINATION_OFFLINE)
    assert (online(server, key + 500), offline(server, key + 500, ago(0))) == (None, 1)


def test_an_older_row_stays_offline_only(server: Running, key: int) -> None:
    server.client.push("trips", trip(key, ago(0.1), 2, created=ago(0.1)))
    server.client.push("trips", trip(key, ago(0.2), 1, created=ago(0.2)))
    assert online(server, key) == 2
    assert offline(server, key, ago(0.15)) == 1


def test_a_retry_writes_nothing_twice(server: Running, key: int) -> None:
    parts = server.repo / "data" / "trips.parquet.d"
    before = set(parts.glob("*.parquet")) if parts.exists() else set()
    for _ in range(2):
        server.client.push("trips", trip(key, ago(0.1)), request_id=f"retry-{key}")
    assert len(set(parts.glob("*.parquet")) - before) == 1


def test_a_request_id_is_for_the_same_rows_only(server: Running, key: int) -> None:
    server.client.push("trips", trip(key, ago(0.1)), request_id=f"reused-{key}")
    with pytest.raises(RequestIdReused) as caught:
        server.client.push("trips", trip(key, ago(0.1), 2), request_id=f"reused-{key}")
    assert caught.value.metadata == {"request_id": f"reused-{key}"}
    assert online(server, key) == 1


def test_corrections_count_online_as_they_do_offline(server: Running, key: int) -> None:
    """Of rows that agree in keys and times the one pushed last counts, not the one with greater values."""
    at = ago(0.1)
    for n in (5, 9, 2):
        server.client.push("trips", trip(key, at, n, created=at))
    assert (online(server, key), offline(server, key, at)) == (2, 2)
    list(server.client.materialize(["trips"], start=ago(1000)))
    assert online(server, key) == 2


def test_rows_of_one_push_that_nothing_tells_apart_are_refused(server: Running, key: int) -> None:
    at = ago(0.1)
    rows = trip([key, key, key, key + 1], [at, at, ago(0.2), at], [5, 2, 3, 4], rate=[1.0] * 4, tag=["a"] * 4)
    with pytest.raises(RowRefused, match="row 0 of this push has the same keys"):
        server.client.push("trips", rows)
    reply = server.client.push("trips", rows, mode=BEST_EFFORT)
    assert [(item.row, item.column) for item in reply.refused] == [(1, "event_timestamp")]
    assert (online(server, key), online(server, key + 1)) == (5, 4)
    # A correction that says when it was made is another row.
    rows |= {"created": [at, ago(0.05), at, at]}
    assert server.client.push("trips", rows).rows_written == 4
    assert (online(server, key), offline(server, key, ago(0.04))) == (2, 2)


def test_one_bad_row_refuses_all(server: Running, key: int) -> None:
    rows = trip([key, key + 600], [ago(0.1), None], [1, 2], rate=[1.0, 1.0], tag=["a", "b"])
    with pytest.raises(RowRefused, match="event_timestamp is null") as caught:
        server.client.push("trips", rows)
    assert caught.value.metadata == {"row": "1"}
    assert online(server, key) is None


def test_good_rows_are_written_beside_refused_ones(server: Running, key: int) -> None:
    keys = pa.array([key, None, key + 700], pa.int64())
    rows = trip(keys, [ago(0.1)] * 3, [1, 2, 3], rate=[1.0] * 3, tag=["a"] * 3)
    reply = server.client.push("trips", rows, mode=BEST_EFFORT)
    assert reply.rows_written == 2
    assert [(item.row, item.column) for item in reply.refused] == [(1, "driver_id")]
    assert (online(server, key), online(server, key + 700)) == (1, 3)


@pytest.mark.parametrize("column", ["event_timestamp", "created"])
def test_rows_of_the_future_are_refused(server: Running, key: int, column: str) -> None:
    """Once stored, such a row would keep every row of the present from its key."""
    now = datetime.now(UTC)
    times = [now + timedelta(minutes=5), now + timedelta(seconds=20), now]
    rows = {"event_timestamp": [now] * 3, "created": [now] * 3} | {column: times}
    pushed = trip([key, key + 1, key + 2], n=[1, 2, 3], rate=[1.0] * 3, tag=["a"] * 3, event=None) | rows
    reply = server.client.push("trips", pushed, mode=BEST_EFFORT)
    assert [(item.row, item.column) for item in reply.refused] == [(0, column)]
    assert "lies in the future" in reply.refused[0].reason
    assert [online(server, key), online(server, key + 2)] == [None, 3]


def test_an_integer_out_of_range_is_a_fault_of_its_row(server: Running) -> None:
    rows = {
        "driver_id": [1, 1], "city_id": ["X1", "X2"], "event_timestamp": [ago(0.1)] * 2, "visits": [2**40, 5],
    }  # fmt: skip
    reply = server.client.push("pair", rows, mode=BEST_EFFORT)
    assert [(item.row, item.column) for item in reply.refused] == [(0, "visits")]
    found = server.client.get_online_features(["pair:visits"], {"driver_id": [1, 1], "city_id": ["X1", "X2"]})
    assert found.values["visits"].to_pylist() == [None, 5]


def test_a_client_faster_than_the_store_is_made_to_wait(server: Running, key: int) -> None:
    """Rows that are not written yet wait at the client, where they are not made before there is room."""
    wide = trip(
        [key] * 50,
        [ago(0.1 + n / 1000) for n in range(50)],
        [1] * 50,
        rate=[0.5] * 50,
        tag=["x" * 20_000] * 50,
    )
    messages, made = 60, []

    def requests() -> Iterator[pb.PushFeaturesStreamRequest]:
        for number in range(messages):
            made.append(number)
            columns = encode_mapping(wide | {"n": [number] * 50})
            push = pb.PushFeaturesRequest(
                target="trips", columns=columns, destination=pb.PUSH_DESTINATION_OFFLINE
            )
            yield pb.PushFeaturesStreamRequest(push=push)

    folder = parquet.appends_to(str(server.repo / "data" / "trips.parquet"))
    folder.mkdir(exist_ok=True)
    with futures.ThreadPoolExecutor(1) as pool:
        with parquet.locked(folder):  # as long as another writer holds the source, no push is written
            call = pool.submit(server.stub.PushFeaturesStream, requests())
            wait_until(settled(lambda: len(made)), what="the client waits")
            assert 1 <= len(made) < 30, "megabytes that the server has not written yet"
            assert not call.done()
            # Nobody else waits for it.
            assert online(server, key) is None
        assert call.result(60).messages == messages


def settled(count: Callable[[], int]) -> Callable[[], bool]:
    """Whether something was counted, and nothing more for a second."""
    seen, since = 0, time.monotonic()

    def still() -> bool:
        nonlocal seen, since
        if count() != seen:
            seen, since = count(), time.monotonic()
        return bool(seen) and time.monotonic() - since > 1

    return still


def test_many_small_pushes_are_merged_by_the_server(tmp_path: Path) -> None:
    repo = write_repo(tmp_path)
    apply(repo)
    folder = parquet.appends_to(str(repo / "data" / "trips.parquet"))
    with (
        running_server(settings_for(repo, merge_seconds=0.1), build) as address,
        FeatureClient(address) as client,
    ):
        moments = [ago(0.2 - n / 1000) for n in range(AT_LEAST)]
        for n, moment in enumerate(moments):
            client.push("trips", trip(77, moment, n, created=moment))
        rows = pa.table({"driver_id": [77] * AT_LEAST, "event_timestamp": moments})
        before = client.get_historical_features(["trips:n"], rows).read_all()
        assert before["n"].to_pylist() == list(range(AT_LEAST))
        assert len(list(folder.glob("merged-*"))) == 0  # none is old enough
        for part in folder.glob("pushed-*"):
            os.utime(part, (1, 1))
        wait_until(lambda: bool(list(folder.glob("merged-*"))), what="the merged part")
        assert client.get_historical_features(["trips:n"], rows).read_all().equals(before)
        assert parquet.files_of(str(repo / "data" / "trips.parquet"))[1:] == tuple(
            str(part) for part in folder.glob("merged-*")
        )


BAD: list[tuple[str, dict[str, Any], type[PlumblineError]]] = [
    ("nope", trip(1, ago(1)), ViewNotFound),
    ("scaled", trip(1, ago(1)), InvalidField),
    ("trips", {}, EmptyRequest),
    ("trips", {"event_timestamp": [ago(1)], "n": [1], "rate": [1.0], "tag": ["a"]}, JoinKeyMissing),
    ("trips", {"driver_id": [1], "event_timestamp": [ago(1)], "n": [1]}, MalformedColumn),
    ("trips", {"driver_id": [1], "n": [1], "rate": [1.0], "tag": ["a"]}, MalformedColumn),
    ("trips", trip(1, ago(1), colour="red"), FeatureNotFound),
    ("trips", trip(1, ago(1), "seven"), TypeMismatch),
    ("trips", trip(1, "monday"), TypeMismatch),
    ("trips", trip([1] * 51, [ago(1)] * 51, [1] * 51, rate=[1.0] * 51, tag=["a"] * 51), TooManyRows),
]


@pytest.mark.parametrize(("target", "columns", "error"), BAD)
def test_bad_pushes_are_told_what_is_wrong(
    server: Running, target: str, columns: dict[str, Any], error: type[PlumblineError]
) -> None:
    with pytest.raises(error):
        server.client.push(target, columns)


def test_parts_keep_the_types_of_the_file_they_add_to(tmp_path: Path) -> None:
    """A source with naive nanosecond times, as older pandas writes, goes on to be read as one."""
    repo = write_repo(tmp_path)
    path = repo / "data" / "weather.parquet"
    table = pq.read_table(path)
    naive = table["event_timestamp"].cast(pa.timestamp("us")).cast(pa.timestamp("ns"))
    pq.write_table(table.set_column(1, "event_timestamp", naive), path)
    apply(repo)
    with running_server(settings_for(repo), build) as address, FeatureClient(address) as client:
        client.push("weather", {"city_id": ["LGA"], "event_timestamp": [ago(2)], "temp": [30.0]})
        rows = pa.table({"city_id": ["LGA", "LGA"], "event_timestamp": [ago(3), ago(1)]})
        found = client.get_historical_features(["weather:temp"], rows).read_all()
    assert found["temp"].to_pylist() == [20.5, 30.0]


def test_materialize_tells_progress_view_by_view(server: Running) -> None:
    steps = list(server.client.materialize(["weather", "trips"], start=ago(1000), end=ago(0.1)))
    assert [step.view for step in steps if step.view_finished] == ["weather", "trips"]
    assert [step.views_done for step in steps if step.view_finished] == [1, 2]
    assert steps[-1].views_total == 2
    assert steps[-1].end_time.ToDatetime() == ago(0.1).replace(tzinfo=None)


@pytest.mark.parametrize(
    ("start", "end", "field"),
    [
        (None, datetime.now(UTC) + timedelta(days=1), "end_time"),
        (ago(1), ago(2), "start_time"),
        (ago(1), ago(1), "start_time"),
    ],
)
def test_ranges_that_cannot_be(server: Running, start: datetime | None, end: datetime, field: str) -> None:
    """An end in the future would make every later incremental run skip what comes before it."""
    with pytest.raises(InvalidTimeRange) as caught:
        list(server.client.materialize(["trips"], start=start, end=end))
    assert caught.value.metadata == {"field": field}


@pytest.mark.parametrize("views", [["nope"], ["trips", "nope"]])
def test_unknown_views_are_refused_before_anything_is_written(server: Running, views: list[str]) -> None:
    with pytest.raises(ViewNotFound):
        list(server.client.materialize(views, start=ago(1000)))


def test_incremental_runs_go_on_where_the_last_ended_and_bring_late_rows(tmp_path: Path) -> None:
    """Feast's incremental materialization misses rows that arrive after their event's range was done."""
    repo = write_repo(tmp_path)
    apply(repo)
    with running_server(settings_for(repo), build) as address, FeatureClient(address) as client:
        first = list(client.materialize(["trips"], end=ago(0.3)))
        # Nothing was materialized before: the ttl of two days says how far back to go.
        before = ago(2.3) - timedelta(microseconds=1)
        assert first[-1].start_time.ToDatetime() == before.replace(tzinfo=None)
        assert first[-1].start_time.nanos == 999_999_000
        read = {"driver_id": [1, 2, 8]}
        found = client.get_online_features(["trips:n", "trips:rate"], read)
        # The row of half a day ago was created only a tenth of a day ago.
        assert found.values["rate"].to_pylist() == [0.2, 0.4, None]
        late = pa.table(
            {
                "driver_id": [8, 2],
                "event_timestamp": [ago(1), ago(1.5)],
                "created": [ago(0.2), ago(0.2)],
                "n": [8, 22],
                "rate": [0.8, 0.22],
                "tag": ["late", "older than what is stored"],
            }
        )
        (repo / "data" / "trips.parquet.d").mkdir()
        pq.write_table(late, repo / "data" / "trips.parquet.d" / "late.parquet")
        second = list(client.materialize(["trips"]))
        assert second[-1].start_time.ToDatetime() == ago(0.3).replace(tzinfo=None)
        found = client.get_online_features(["trips:rate"], read)
        assert found.values["rate"].to_pylist() == [0.3, 0.4, 0.8]


def test_reads_go_on_during_and_after_a_broken_materialization(tmp_path: Path) -> None:
    """Feast refuses to serve a view from the start of a materialization until it has succeeded."""
    repo = write_repo(tmp_path)
    apply(repo)
    with running_server(settings_for(repo), build) as address, FeatureClient(address) as client:
        list(client.materialize(["trips"], start=ago(1000), end=ago(0.1)))
        (repo / "data" / "trips.parquet").write_bytes(b"broken")
        with pytest.raises(PlumblineError) as caught:
            list(client.materialize(["trips"], start=ago(1000)))
        assert caught.value.reason == "SOURCE_UNREADABLE"
        found = client.get_online_features(["trips:rate"], {"driver_id": [1]})
        assert found.values["rate"].to_pylist() == [0.3]


def test_a_cancelled_materialization_does_not_block_the_next(server: Running) -> None:
    call = server.stub.Materialize(pb.MaterializeRequest())
    call.cancel()
    with pytest.raises(grpc.RpcError) as caught:
        list(call)
    assert wire.from_rpc_error(caught.value, CLASSES).__class__.__name__ == "Cancelled"
    assert list(server.client.materialize(["weather"], start=ago(1000)))[-1].view_finished
