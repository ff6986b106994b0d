"""Historical reads through a real server, and through Feast's own SDK."""

from __future__ import annotations

import io
import threading
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from feast import FeatureStore

from plumbline import wire
from plumbline.errors import PlumblineError
from plumbline.features.client import FeatureClient
from plumbline.features.errors import (
    CLASSES,
    AmbiguousFeatureName,
    FeatureServiceNotFound,
    JoinKeyMissing,
    MalformedEntityRows,
    RequestDataMissing,
    TypeMismatch,
)
from plumbline.features.v1 import feature_retrieval_service_pb2 as pb
from tests.integration.feature_service.conftest import Running
from tests.integration.feature_service.repo import ago
from tests.support import wait_until


def rows(**columns: Any) -> pa.Table:
    return pa.table(columns)


def test_values_are_those_known_at_each_rows_time(server: Running) -> None:
    entities = rows(
        driver_id=[1, 1, 1, 2, 3, 404, None],
        event_timestamp=[ago(6), ago(0.4), ago(0.05), ago(0.9), ago(1), ago(1), ago(1)],
    )
    known = server.client.get_historical_features(["trips:n", "trips:tag"], entities)
    # The row of half a day ago was written only a tenth of a day ago; driver 3's row is past its ttl.
    assert known.read_all()["n"].to_pylist() == [None, 2, 3, None, None, None, None]
    plain = server.client.get_historical_features(
        ["trips:n"], entities, known_at_policy=pb.KNOWN_AT_POLICY_IGNORE_CREATED
    )
    assert plain.read_all()["n"].to_pylist() == [None, 3, 3, None, None, None, None]


def test_rows_columns_types_and_order_are_kept(server: Running) -> None:
    """In = out, duplicates too: Feast's default store drops rows that share key and time."""
    count = 50_000
    rng = np.random.default_rng(3)
    entities = rows(
        note=pa.array([f"row {i}" for i in range(count)]),
        driver_id=pa.array(rng.integers(1, 4, count), pa.int32()),
        event_timestamp=pa.array([ago(1) + timedelta(hours=int(h)) for h in rng.integers(0, 12, count)]),
        label=pa.array([None if i % 7 == 0 else i for i in range(count)], pa.int32()),
        group=pa.array(["a", "b"] * (count // 2)).dictionary_encode(),
    )
    steps: list[tuple[str, int, int]] = []
    found = server.client.get_historical_features(
        ["trips:*"], entities, on_progress=lambda p: steps.append((p.phase, p.rows_done, p.rows_total))
    )
    table = found.read_all()
    assert table.select(entities.column_names).cast(entities.schema).equals(entities)
    assert table.schema.field("group").type == entities.schema.field("group").type
    assert table.schema.field("n").type == pa.int64()
    driver_two = table.filter(pa.compute.equal(table["driver_id"], 2))
    assert set(driver_two["rate"].to_pylist()) == {0.4}
    assert found.summary.rows_in == found.summary.rows_out == count
    assert list(dict.fromkeys(phase for phase, *_ in steps)) == ["receiving", "joining", "sending"]
    assert [done for phase, done, _ in steps if phase == "joining"][-1] == count
    assert steps[-1] == ("sending", count, count)
    assert [(item.column, item.view) for item in found.summary.features] == [
        ("n", "trips"),
        ("rate", "trips"),
        ("tag", "trips"),
    ]
    assert found.summary.features[1].rows_present == count - table["rate"].null_count


def test_the_summary_names_the_definitions_and_the_range(server: Running) -> None:
    entities = rows(
        driver_id=[1, 2], city_id=["LGA", None], event_timestamp=[ago(4), ago(0.5)], factor=[2.0, 3.0]
    )
    found = server.client.get_historical_features("tiny", entities)
    table = found.read_all()
    assert table["scaled"].to_pylist() == pytest.approx([0.2, 1.2])
    assert table["temp"].to_pylist() == [20.5, None]
    summary = found.summary
    assert summary.definition_digest == server.client.get_feature_service("tiny").digest
    assert summary.feature_service == server.client.get_feature_service("tiny")
    assert summary.as_of_start.ToDatetime() == ago(4).replace(tzinfo=None)
    assert summary.as_of_end.ToDatetime() == ago(0.5).replace(tzinfo=None)


@pytest.mark.parametrize("unit", ["s", "ms", "us", "ns"])
@pytest.mark.parametrize("zone", [None, "UTC", "America/New_York"])
def test_event_times_of_any_zone_and_resolution(server: Running, unit: str, zone: str | None) -> None:
    moments = pa.array([ago(0.9)]).cast(pa.timestamp("us", tz="UTC"))
    column = moments.cast(pa.timestamp(unit, tz=zone)) if zone else moments.cast(pa.timestamp(unit))
    entities = rows(driver_id=[1], at=column)
    found = server.client.get_historical_features(
        ["trips:n"], entities, event_timestamp_column="at"
    ).read_all()
    assert found["n"].to_pylist() == [2]
    assert found.schema.field("at").type == column.type


def test_views_of_other_shapes(server: Running) -> None:
    entities = rows(
        driver_id=[1, 1],
        city_id=["LGA", "EWR"],
        from_city=["LGA", "JFK"],
        to_city=["JFK", "LGA"],
        small_id=pa.array([1, 2], pa.int64()),
        event_timestamp=[ago(0.2), ago(0.2)],
    )
    found = server.client.get_historical_features(["pair:visits", "world:fuel"], entities).read_all()
    assert found["visits"].to_pylist() == [4, None]
    assert found["fuel"].to_pylist() == [1.5, 1.5]
    route = server.client.get_historical_features("route", entities, full_feature_names=True).read_all()
    assert route["origin__temp"].to_pylist() == [20.5, -3.0]
    assert route["destination__temp"].to_pylist() == [-3.0, 20.5]
    kinds = server.client.get_historical_features(["kinds:*"], entities).read_all()
    online = server.client.get_online_features(["kinds:*"], {"small_id": [1]})
    assert kinds.select(online.values.column_names).to_pylist()[0] == online.values.to_pylist()[0]


def test_no_rows_in_no_rows_out(server: Running) -> None:
    entities = rows(driver_id=pa.array([], pa.int64()), event_timestamp=pa.array([], pa.timestamp("us")))
    found = server.client.get_historical_features(["trips:n"], entities)
    assert found.read_all().num_rows == 0
    assert found.summary.rows_out == 0
    assert not found.summary.HasField("as_of_start")


AT = [ago(1)]
BAD: list[tuple[Any, pa.Table, type[PlumblineError], str]] = [
    ("nope", rows(event_timestamp=AT), FeatureServiceNotFound, "nope"),
    (["trips:n"], rows(driver_id=[1]), MalformedEntityRows, "event_timestamp"),
    (["trips:n"], rows(driver_id=[1], event_timestamp=["monday"]), MalformedEntityRows, "not a timestamp"),
    (
        ["trips:n"],
        rows(driver_id=[1, 1], event_timestamp=pa.array([ago(1), None])),
        MalformedEntityRows,
        "null in row 1",
    ),
    (["trips:n"], rows(city_id=["LGA"], event_timestamp=AT), JoinKeyMissing, "driver_id"),
    (["trips:n"], rows(driver_id=["1"], event_timestamp=AT), TypeMismatch, "driver_id"),
    (["trips:n"], rows(driver_id=[1.0], event_timestamp=AT), TypeMismatch, "driver_id"),
    (["scaled:scaled"], rows(driver_id=[1], event_timestamp=AT), RequestDataMissing, "factor"),
    (["trips:n"], rows(driver_id=[1], n=[1], event_timestamp=AT), AmbiguousFeatureName, "'n'"),
    (
        ["trips:n"],
        pa.table([pa.array([1]), pa.array([2]), pa.array(AT)], ["driver_id", "driver_id", "event_timestamp"]),
        MalformedEntityRows,
        "more than once",
    ),
]


@pytest.mark.parametrize(("selection", "entities", "error", "said"), BAD)
def test_bad_entity_rows_are_told_what_is_wrong(
    server: Running, selection: Any, entities: pa.Table, error: type[PlumblineError], said: str
) -> None:
    with pytest.raises(error, match=said):
        server.client.get_historical_features(selection, entities)


def header() -> pb.GetHistoricalFeaturesRequest:
    references = pb.FeatureReferences(references=["trips:n"])
    return pb.GetHistoricalFeaturesRequest(
        header=pb.HistoricalFeaturesHeader(selection=pb.FeatureSelection(features=references))
    )


def arrow(table: pa.Table) -> bytes:
    sink = io.BytesIO()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    return sink.getvalue()


def chunks(data: bytes) -> pb.GetHistoricalFeaturesRequest:
    return pb.GetHistoricalFeaturesRequest(arrow_ipc=data)


GOOD = arrow(rows(driver_id=[1], event_timestamp=AT))


@pytest.mark.parametrize(
    ("messages", "said"),
    [
        ([], "first message must be a header"),
        ([chunks(GOOD)], "first message must be a header"),
        ([header(), header()], "second header"),
        ([header(), chunks(GOOD), header()], "second header"),
        ([header()], "no entity rows"),
        ([header(), chunks(b"hello")], "not an Arrow IPC stream"),
        ([header(), chunks(GOOD[: len(GOOD) // 2])], "Arrow IPC stream"),
        ([header(), chunks(GOOD[:-8])], "cut short"),
    ],
)
def test_streams_that_are_no_entity_rows(
    server: Running, messages: list[pb.GetHistoricalFeaturesRequest], said: str
) -> None:
    with pytest.raises(grpc.RpcError) as caught:
        list(server.stub.GetHistoricalFeatures(iter(messages)))
    error = wire.from_rpc_error(caught.value, CLASSES)
    assert isinstance(error, MalformedEntityRows)
    assert said in error.message


def lying(table: pa.Table, honest: bytes, lie: bytes) -> bytes:
    """The table's Arrow bytes with one buffer's content changed."""
    data = arrow(table)
    assert data.count(honest) == 1
    return data.replace(honest, lie)


def int32s(*values: int) -> bytes:
    return np.array(values, np.int32).tobytes()


LONG = rows(driver_id=[1, 1], event_timestamp=AT * 2, note=["a" * 77, "b" * 88])
CODED = rows(
    driver_id=[1] * 4,
    event_timestamp=AT * 4,
    note=pa.DictionaryArray.from_arrays(pa.array([0, 1, 1, 0], pa.int32()), ["a", "b"]),
)


@pytest.mark.parametrize(
    "data",
    [
        lying(LONG, int32s(0, 77, 165), int32s(0, 2**31 - 1, 165)),
        lying(LONG, int32s(0, 77, 165), int32s(0, 77, 2**31 - 1)),
        lying(LONG, int32s(0, 77, 165), int32s(0, -77, 165)),
        lying(CODED, int32s(0, 1, 1, 0), int32s(0, 2**30, 1, 0)),
        lying(LONG, b"a" * 77, b"\xff" * 77),
        lying(LONG.rename_columns(["driver_id", "event_timestamp", "remark"]), b"remark", b"\xffemark"),
    ],
)
def test_arrow_bytes_that_point_outside_of_themselves_are_refused(server: Running, data: bytes) -> None:
    """Used without a look, they end the process."""
    with pytest.raises(grpc.RpcError) as caught:
        list(server.stub.GetHistoricalFeatures(iter([header(), chunks(data)])))
    assert isinstance(wire.from_rpc_error(caught.value, CLASSES), MalformedEntityRows)


@pytest.mark.parametrize("column", ["event_timestamp", "later"])
def test_a_time_zone_that_is_no_text_is_refused_with_its_column(server: Running, column: str) -> None:
    zoned = pa.array([AT[0]], pa.timestamp("us", tz="Zone/Of_Nobody"))
    table = rows(driver_id=[1], event_timestamp=AT, later=AT)
    table = table.set_column(table.column_names.index(column), column, zoned)
    data = arrow(table)
    assert b"Zone/Of_Nobody" in data
    with pytest.raises(grpc.RpcError) as caught:
        list(
            server.stub.GetHistoricalFeatures(
                iter([header(), chunks(data.replace(b"Zone/Of_Nobody", b"Zone/Of_Nobod\xff"))])
            )
        )
    error = wire.from_rpc_error(caught.value, CLASSES)
    assert isinstance(error, MalformedEntityRows)
    assert error.metadata["column"] == column


@pytest.mark.parametrize(
    "times",
    [
        pa.array([-(2**63) + 5], pa.timestamp("us", tz="UTC")),
        pa.array([2**63 - 5], pa.timestamp("us", tz="UTC")),
        pa.array([-(2**63) + 5], pa.timestamp("s", tz="UTC")),
        pa.array([2**40], pa.timestamp("s")),
    ],
)
def test_event_times_before_and_after_all_calendars_are_refused(server: Running, times: pa.Array) -> None:
    with pytest.raises(MalformedEntityRows, match="years 1 to 9999"):
        server.client.get_historical_features(["trips:n"], rows(driver_id=[1], event_timestamp=times))


def test_where_messages_are_cut_means_nothing(server: Running) -> None:
    messages = [header(), *(chunks(GOOD[i : i + 7]) for i in range(0, len(GOOD), 7))]
    replies = list(server.stub.GetHistoricalFeatures(iter(messages)))
    whole = b"".join(reply.arrow_ipc for reply in replies)
    assert pa.ipc.open_stream(whole).read_all()["n"].to_pylist() == [2]
    assert replies[-1].WhichOneof("part") == "summary"
    assert all(len(reply.arrow_ipc) <= 1024 * 1024 for reply in replies)


def test_a_caller_that_goes_away_leaves_nothing_behind(server: Running) -> None:
    scratch = server.repo.parent
    folder = next(item for item in scratch.iterdir() if item.name.startswith("scratch"))
    reached, ended = False, threading.Event()

    def endless() -> Iterator[pb.GetHistoricalFeaturesRequest]:
        yield header()
        while not ended.is_set():
            yield chunks(b"\x00" * 10)

    call = server.stub.GetHistoricalFeatures(endless())
    wait_until(lambda: any(folder.iterdir()), what="entity rows are spooled")
    reached = True
    call.cancel()
    ended.set()
    wait_until(lambda: not any(folder.iterdir()), what="the spool is gone")
    assert reached


def test_readers_that_do_not_read_keep_nobody_else_waiting(server: Running) -> None:
    many = 60_000
    # More than the transport holds on its way, so that the server has to wait for its readers.
    large = rows(driver_id=[1] * many, event_timestamp=[ago(1)] * many, text=["x" * 100] * many)
    idle = [server.client.get_historical_features(["trips:n"], large) for _ in range(3)]
    small = rows(driver_id=[1], event_timestamp=[ago(0.05)])
    with FeatureClient(server.address, stream_timeout=20) as another:
        assert another.get_historical_features(["trips:n"], small).read_all()["n"].to_pylist() == [3]
    # What waited is still whole.
    assert [result.read_all().num_rows for result in idle] == [many] * 3


def sdk(server: Running) -> FeatureStore:
    return FeatureStore(str(server.repo))


def test_feasts_own_sdk_gives_the_same_rows(server: Running) -> None:
    entities = pd.DataFrame(
        {
            "driver_id": [2, 1, 1, 404, 1],
            "event_timestamp": [ago(0.9), ago(0.4), ago(0.05), ago(1), ago(0.4)],
            "factor": [1.0, 2.0, 3.0, 4.0, 5.0],
            "label": [1, 0, 1, 0, 1],
        }
    )
    names = ["trips:n", "trips:rate", "scaled:scaled"]
    ours = server.client.get_historical_features(names, pa.Table.from_pandas(entities)).read_all().to_pandas()
    theirs = sdk(server).get_historical_features(entity_df=entities, features=names).to_df()
    pd.testing.assert_frame_equal(theirs[list(ours.columns)], ours, check_dtype=False, check_index_type=False)


def test_features_of_one_name_reach_a_transformation_as_feasts_own_sdk_gives_them(server: Running) -> None:
    entities = pd.DataFrame(
        {"driver_id": [1, 2], "city_id": ["LGA", "JFK"], "event_timestamp": [ago(0.4), ago(0.4)]}
    )
    found = server.client.get_historical_features(["gap:gap"], pa.Table.from_pandas(entities)).read_all()
    theirs = (
        sdk(server)
        .get_historical_features(entity_df=entities, features=["gap:gap"], full_feature_names=True)
        .to_df()
    )
    assert found["gap"].to_pylist() == pytest.approx([0.2 - 8.0, 0.4 - 16.0])
    assert theirs["gap__gap"].tolist() == found["gap"].to_pylist()


def test_feasts_own_sdk_pulls_newest_and_all_rows(server: Running, tmp_path: Path) -> None:
    store = sdk(server)
    view = store.get_feature_view("trips")
    arguments: dict[str, Any] = {
        "config": store.config,
        "data_source": view.batch_source,
        "join_key_columns": ["driver_id"],
        "feature_name_columns": ["n", "rate"],
        "timestamp_field": "event_timestamp",
        "created_timestamp_column": "created",
        "start_date": ago(6),
        "end_date": ago(0),
    }
    offline = store._get_provider().offline_store
    # Other tests push rows of other drivers into the same source.
    first = pa.compute.field("driver_id") <= 3
    newest = offline.pull_latest_from_table_or_query(**arguments).to_arrow().filter(first)
    assert newest.sort_by("driver_id")["n"].to_pylist() == [3, None]
    everything = offline.pull_all_from_table_or_query(**arguments).to_arrow().filter(first)
    times: list[datetime] = everything["event_timestamp"].to_pylist()
    assert times == sorted(times)
    assert len(times) == 4


def test_feasts_own_sdk_writes_rows_that_joins_then_see(server: Running) -> None:
    frame = pd.DataFrame({"city_id": ["SDK"], "event_timestamp": [pd.Timestamp(ago(2))], "temp": [1.25]})
    sdk(server).write_to_offline_store("weather", frame)
    found = server.client.get_historical_features(
        ["weather:temp"], rows(city_id=["SDK"], event_timestamp=AT)
    ).read_all()
    assert found["temp"].to_pylist() == [1.25]
