"""Rows that no online store can hold: refused by a push before anything is written, told by a run."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from feature_service.app import build
from feature_service.feast_adapters.apply import apply
from plumbline.features.client import FeatureClient
from plumbline.features.errors import RowRefused, SourceUnreadable
from plumbline.features.v1 import feature_retrieval_service_pb2 as pb
from tests.integration.feature_service.conftest import settings_for
from tests.integration.feature_service.repo import SQLITE, ago, kinds_row, kinds_table, write_repo
from tests.support import running_server

LMDB = "  type: feature_service.stores.lmdb.LmdbOnlineStore\n  path: data/online.lmdb\n  sync: false"
MICROS = pa.timestamp("us", tz="UTC")
#: The last µs of the year 9999, and what lies beyond it on either side.
LAST = 253_402_300_799_999_999
BEYOND = [LAST + 1, 2**62, -(2**62)]


@pytest.fixture(params=[LMDB, SQLITE], ids=["lmdb", "sqlite"])
def repo(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    repo = write_repo(tmp_path, request.param)
    apply(repo)
    return repo


@pytest.fixture
def client(repo: Path) -> Iterator[FeatureClient]:
    with running_server(settings_for(repo), build) as address, FeatureClient(address) as client:
        yield client


def parts(repo: Path, name: str = "kinds") -> list[Path]:
    return sorted((repo / "data" / f"{name}.parquet.d").glob("*.parquet"))


def pushed(*rows: dict[str, Any], **columns: pa.Array) -> dict[str, Any]:
    table = kinds_table(rows)
    return {name: table[name].combine_chunks() for name in table.column_names} | columns


UNSTORABLE: dict[str, tuple[str, Any, str]] = {
    "a null in a list of numbers": ("int64_list", pa.array([[1], [1, None], [2]]), "a null inside"),
    "a null in a list of texts": ("string_list", pa.array([[], ["a", None], None]), "a null inside"),
    "a time in a list": (
        "timestamp_list",
        pa.array([[], [0, LAST + 1], [LAST]], pa.list_(MICROS)),
        "outside the years 1 to 9999",
    ),
    **{
        f"a time of {micros} µs": (
            "timestamp",
            pa.array([LAST, micros, None], MICROS),
            "timestamp lies outside the years 1 to 9999",
        )
        for micros in BEYOND
    },
    "an event before year 1": (
        "event_timestamp",
        pa.array([0, -(2**62), 1], MICROS),
        "event_timestamp lies outside the years 1 to 9999",
    ),
}


@pytest.mark.parametrize("case", UNSTORABLE)
def test_a_push_refuses_the_row_before_anything_is_written(
    client: FeatureClient, repo: Path, case: str
) -> None:
    column, values, reason = UNSTORABLE[case]
    rows = [kinds_row(key, ago(0.1)) for key in (31, 32, 33)]
    columns = pushed(*rows, **{column: values})
    with pytest.raises(RowRefused, match=reason) as caught:
        client.push("kinds", columns)
    assert caught.value.metadata == {"row": "1"}
    assert parts(repo) == []
    reply = client.push("kinds", columns, mode=pb.PUSH_MODE_BEST_EFFORT)
    assert [(item.row, item.column) for item in reply.refused] == [(1, column)]
    assert reason in reply.refused[0].reason
    assert reply.rows_written == 2
    # What was accepted can be read and joined, and brought online again.
    keys = pa.array([31, 32, 33], pa.int32())
    for _ in range(2):
        found = client.get_online_features(["kinds:double"], {"small_id": keys})
        assert found.values["double"].to_pylist() == [1.5, None, 1.5]
        list(client.materialize(["kinds"], start=ago(100_000)))
    rows_now = pa.table({"small_id": keys, "event_timestamp": [datetime.now(UTC)] * 3})
    joined = client.get_historical_features(["kinds:double"], rows_now).read_all()
    assert joined["double"].to_pylist() == [1.5, None, 1.5]


IN_A_FILE: dict[str, tuple[str, Any, str]] = {
    "numbers": ("double_list", [1.0, None], "double_list is a list with a null inside"),
    "texts": ("string_list", ["a", None], "string_list is a list with a null inside"),
}


@pytest.mark.parametrize("case", IN_A_FILE)
def test_a_run_tells_which_row_of_a_file_it_cannot_store(
    client: FeatureClient, repo: Path, case: str
) -> None:
    column, value, message = IN_A_FILE[case]
    row = kinds_row(21, ago(1)) | {column: value}
    pq.write_table(kinds_table([kinds_row(20, ago(1)), row]), repo / "data" / "kinds.parquet")
    for views in (["kinds"], []):
        with pytest.raises(SourceUnreadable, match=message) as caught:
            list(client.materialize(views, start=ago(1000)))
        assert caught.value.metadata == {"view": "kinds", "feature": column}
        assert "view kinds: in the row of small_id 21 of " in caught.value.message
        assert "mend the row there, or push a newer one" in caught.value.message
    # As it says: a newer row of the key is the cure.
    client.push("kinds", pushed(kinds_row(21, ago(0.5))), destination=pb.PUSH_DESTINATION_OFFLINE)
    list(client.materialize(["kinds"], start=ago(1000)))
    found = client.get_online_features([f"kinds:{column}"], {"small_id": [20, 21]})
    assert found.values[column].null_count == 0


def test_a_run_tells_of_an_event_that_nobody_could_read(client: FeatureClient, repo: Path) -> None:
    table = kinds_table([kinds_row(21, ago(1))])
    event = pa.array([-(2**62)], MICROS)
    pq.write_table(table.set_column(1, "event_timestamp", event), repo / "data" / "kinds.parquet")
    with pytest.raises(SourceUnreadable, match="the event time lies outside the years 1 to 9999"):
        list(client.materialize(["kinds"]))
