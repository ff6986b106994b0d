"""Joins on Spark are exact: the same oracle, and the same answers as the joins on one machine."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from itertools import pairwise

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from feature_service.app import build
from feature_service.domain import KnownAt
from feature_service.feast_adapters.apply import apply
from plumbline.features.client import FeatureClient
from plumbline.features.v1 import feature_retrieval_service_pb2 as pb
from tests.integration.feature_service.conftest import settings_for
from tests.integration.feature_service.repo import ago
from tests.spark.conftest import OnSpark
from tests.spark.repo import LEGS, START, Case, drawn_cases, moments, undated_cases, write_local_repo
from tests.support import running_server
from tests.unit.feature_service.oracle import answer

#: The views of drawn data sets, and their ttl in seconds.
SEEDED = {"seeded_for_ever": None, "seeded_2_s": 2, "seeded_4_s": 4}


def asked_of(cases: list[Case]) -> list[tuple[str | None, int]]:
    """The entity rows of all cases."""
    return [pair for case in cases for pair in case.entities]


def oracle(cases: list[Case], ttl: int | None, known_at: KnownAt) -> list[int | None]:
    """What the oracle answers to them."""
    return [
        answer(case.rows, key, second, ttl, known_at)[1] for case in cases for key, second in case.entities
    ]


def asked(pairs: list[tuple[str | None, int]], **others: object) -> pa.Table:
    """Entity rows for drawn keys and moments."""
    keys = pa.array([key for key, _ in pairs], pa.string())
    return pa.table({"key": keys, "event_timestamp": moments([second for _, second in pairs]), **others})


def test_parts_of_wider_types_are_read_beside_their_file(on_spark: OnSpark) -> None:
    """A push that the file's types would change keeps its own; no join before the event knows of it."""
    at = [START + timedelta(seconds=5, microseconds=micros) for micros in (0, 499, 500)]
    rows = pa.table({"key": ["z"] * 3, "event_timestamp": pa.array(at, pa.timestamp("us", "UTC"))})
    found, _ = on_spark.join(["of_wider:value"], rows)
    assert found["value"].to_pylist() == [50, 50, 2**40]


def test_the_join_is_the_oracle_and_keeps_the_rows_of_files(on_spark: OnSpark) -> None:
    """210 drawn data sets at once, in four views, of Parquet, Spark's own path and query: ties, late rows,
    nulls, duplicates, the bound of the ttl.

    The entity rows come in files of unequal size, which Spark reads largest first.
    """
    undated = asked_of(undated_cases())
    pairs = asked_of(drawn_cases()) + undated
    count = len(pairs)
    assert count > 400
    rows = asked(
        pairs,
        note=pa.array([None if i % 3 == 0 else i for i in range(count)], pa.int32()),
        word=pa.array([f"w{i % 11}" for i in range(count)]).dictionary_encode(),
    )
    folder = on_spark.repo / "entities"
    folder.mkdir()
    bounds = [0, 10, 200, 220, count]
    for number, (start, stop) in enumerate(pairwise(bounds)):
        pq.write_table(rows.slice(start, stop - start), folder / f"part-{number}.parquet", row_group_size=90)
    found, summary = on_spark.join(
        [f"{view}:value" for view in (*SEEDED, "undated_3_s")], rows_uri=str(folder), full_names=True
    )
    assert summary.rows_in == summary.rows_out == found.num_rows == count
    kept = ["key", "event_timestamp", "note"]
    assert found.select(kept).equals(rows.select(kept))
    assert found["word"].to_pylist() == rows["word"].to_pylist()
    present = {item.view: item.rows_present for item in summary.features}
    for view, ttl in SEEDED.items():
        values = oracle(drawn_cases(), ttl, KnownAt.CREATED_BY_THEN) + [None] * len(undated)
        assert found[f"{view}__value"].to_pylist() == values
        assert present[view] == count - values.count(None)
    values = oracle(undated_cases(), 3, KnownAt.IGNORE_CREATED)
    assert found["undated_3_s__value"].to_pylist()[-len(undated) :] == values
    assert summary.as_of_start.ToDatetime(tzinfo=UTC) == START
    assert summary.as_of_end.ToDatetime(tzinfo=UTC) == START + timedelta(seconds=7)


def test_created_times_can_be_ignored(on_spark: OnSpark) -> None:
    """The rows come as a stream, their times naive and in nanoseconds."""
    rows = asked(asked_of(drawn_cases()))
    at = rows["event_timestamp"].cast(pa.timestamp("ns", tz="UTC")).cast(pa.timestamp("ns"))
    rows = rows.set_column(1, "at", at)
    found, _ = on_spark.join(
        [f"{view}:value" for view in SEEDED],
        rows,
        event="at",
        policy=pb.KNOWN_AT_POLICY_IGNORE_CREATED,
        full_names=True,
    )
    for view, ttl in SEEDED.items():
        values = oracle(drawn_cases(), ttl, KnownAt.IGNORE_CREATED)
        assert found[f"{view}__value"].to_pylist() == values
    assert found["at"].equals(at.cast(pa.timestamp("us")))


def test_other_keys_times_sources_and_types(on_spark: OnSpark) -> None:
    """Keys of like texts (Feast's own join puts them after one another: x1 and 23 are x and 123); sources
    of other zones and resolutions, partitioned trees, empty folders, integers stored as floats."""
    keys = [("x1", 23), ("x", 123), ("x12", 3), ("x1", None), (None, 23), ("x1", 3), ("z", 1), ("y", 1)]
    pairs = [(key, second) for second in (2, 3, 5, 7, 8) for key in keys]
    rows = asked([(name, second) for (name, _), second in pairs]).append_column(
        "number", pa.array([number for (_, number), _ in pairs], pa.int32())
    )
    at = rows["event_timestamp"].cast(pa.timestamp("s", tz="America/New_York"))
    rows = rows.set_column(1, "event_timestamp", at)
    zoned = [f"of_{kind}" for kind in ("ms", "naive", "new_york", "int96")]
    views = ["legs", *zoned, "of_nothing", "of_floats"]
    found, _ = on_spark.join([*(f"{view}:value" for view in views), "tree:*"], rows, full_names=True)
    legs = [
        answer(LEGS, f"{name}/{number}", second, None, KnownAt.CREATED_BY_THEN)[1]
        for (name, number), second in pairs
    ]
    assert found["legs__value"].to_pylist() == legs
    assert found["key"].equals(rows["key"])
    assert found["number"].equals(rows["number"])
    assert found["event_timestamp"].cast(at.type).equals(at)
    for view in zoned:
        within = {3: 30, 5: 50, 7: 50}
        assert found[f"{view}__value"].to_pylist() == [
            within.get(second) if name == "z" else None for (name, _), second in pairs
        ], view
    months = [{"z": 1, "y": 12}.get(name or "") for (name, _), _ in pairs]
    assert found["tree__value"].to_pylist() == found["tree__month"].to_pylist() == months
    assert found["tree__part"].to_pylist() == [name if name in ("z", "y") else None for (name, _), _ in pairs]
    assert found["of_nothing__value"].null_count == len(pairs)
    # The newest row of z is NaN from second 5 on: no integer.
    assert found["of_floats__value"].to_pylist() == [
        7 if name == "z" and second == 3 else None for (name, _), second in pairs
    ]


def test_no_rows_in_no_rows_out(on_spark: OnSpark) -> None:
    found, summary = on_spark.join(["seeded_4_s:value"], asked([]))
    assert found.num_rows == summary.rows_out == 0
    assert found.schema.field("value").type == pa.int64()
    assert not summary.HasField("as_of_start")


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FeatureClient]:
    """The same small repository, joined on this machine."""
    repo = write_local_repo(tmp_path_factory.mktemp("here"))
    apply(repo)
    with running_server(settings_for(repo), build) as address, FeatureClient(address) as client:
        yield client


def test_both_engines_give_the_same(on_spark: OnSpark, here: FeatureClient) -> None:
    """Every type, several keys, no keys, renamed keys, full names; of equals the row pushed last, and the
    one with the greatest list."""
    moment = ago(0.5)
    for client, n in ((client, n) for client in (here, on_spark.client) for n in (1, 2, 1)):
        row = {"driver_id": [2], "event_timestamp": [moment], "created": [moment], "n": [n]}
        client.push("trips", row | {"rate": [0.5], "tag": ["t"]}, destination=pb.PUSH_DESTINATION_OFFLINE)
    count = 300
    rows = pa.table(
        {
            "driver_id": pa.array([None if i % 17 == 0 else i % 4 for i in range(count)], pa.int32()),
            "city_id": pa.array([("LGA", "JFK", "EWR", None)[i % 4] for i in range(count)]),
            "from_city": pa.array([("LGA", "JFK", "EWR")[i % 3] for i in range(count)]),
            "to_city": pa.array([("JFK", "LGA")[i % 2] for i in range(count)]),
            "small_id": pa.array([i % 3 for i in range(count)], pa.int64()),
            "event_timestamp": pa.array([ago(10 - i % 11) for i in range(count)]),
            "when": pa.array([datetime(2024, 3, 10, 7, i % 60) for i in range(count)]),
        }
    )
    for features in (["trips:*", "pair:visits", "world:fuel", "kinds:*", "tied:list"], "route"):
        local = here.get_historical_features(features, rows, full_feature_names=True).read_all()
        found, summary = on_spark.join(features, rows, full_names=True)
        assert found.column_names == local.column_names
        for name in local.column_names:
            assert found[name].to_pylist() == local[name].to_pylist(), name
            if not pa.types.is_list(local[name].type):  # they name their elements differently
                assert found[name].type == local[name].type
        assert summary.definition_digest
