"""Sources in object storage: a real S3 server over HTTP."""

from __future__ import annotations

from collections.abc import Iterator
from uuid import uuid4

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from feature_service.domain import KnownAt, ValueType
from feature_service.stores import parquet, remote
from feature_service.stores.asof_join import AsofJoin, JoinLimits
from feature_service.stores.asof_sql import ParquetRows, SourceColumn, SourceView
from feature_service.stores.parts import OtherRowsError
from plumbline.features.errors import SourceUnreadable

SECOND = 1_000_000
ONE, TWO, DIGEST = "1" * 32, "2" * 32, "d" * 32


@pytest.fixture
def folder(s3_endpoint: str) -> str:
    """An empty place in the bucket."""
    return remote.at_endpoint(f"s3://plumbline/{uuid4().hex}", s3_endpoint)


@pytest.fixture
def join() -> Iterator[AsofJoin]:
    with AsofJoin(JoinLimits(memory="500MB", threads=2)) as opened:
        yield opened


def rows(keys: list[str], seconds: list[int], values: list[float]) -> pa.Table:
    event = pa.array([second * SECOND for second in seconds]).cast(pa.timestamp("us", tz="UTC"))
    return pa.table({"key": keys, "event": event, "value": values})


def put(uri: str, table: pa.Table) -> None:
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink, row_group_size=4)
    remote.write_whole(uri, sink.getvalue())


def view(path: str, partitions: tuple[tuple[str, str], ...] = ()) -> SourceView:
    value = SourceColumn("value", "value", ValueType.DOUBLE)
    files = ParquetRows(parquet.files_of(path), "event", None, partitions)
    return SourceView("v", files, (SourceColumn("e0", "key", ValueType.STRING),), (value,), (value,))


def values(join: AsofJoin, source: SourceView, keys: list[str], seconds: list[int]) -> list[float | None]:
    join.set_entities(pa.array([second * SECOND for second in seconds]), [pa.array(keys)])
    found: list[float | None] = join.join(source, KnownAt.CREATED_BY_THEN)["value"].to_pylist()
    return found


def test_a_file_is_joined(join: AsofJoin, folder: str) -> None:
    put(f"{folder}/x.parquet", rows(["a"] * 9, list(range(9)), [float(n) for n in range(9)]))
    assert values(join, view(f"{folder}/x.parquet"), ["a", "a", "b"], [3, 100, 3]) == [3.0, 8.0, None]


def test_a_tree_is_joined_with_its_partition_columns(join: AsofJoin, folder: str) -> None:
    put(f"{folder}/key=a/1.parquet", rows(["a"], [1], [1.0]).drop_columns("key"))
    put(f"{folder}/key=b%20c/1.parquet", rows(["a"], [2], [2.0]).drop_columns("key"))
    put(f"{folder}/_temporary/key=a/1.parquet", rows(["a"], [9], [9.0]))
    assert parquet.partition_columns(folder, parquet.files_of(folder)) == ("key",)
    tree = view(folder, (("key", "VARCHAR"),))
    assert values(join, tree, ["a", "b c", "d"], [10, 10, 10]) == [1.0, 2.0, None]


def test_rows_are_added_to_a_file_and_to_a_folder(join: AsofJoin, folder: str) -> None:
    """Whatever their identities are, of rows that agree in everything else those added last win."""
    put(f"{folder}/x.parquet", rows(["a"], [1], [1.0]))
    for place in (f"{folder}/x.parquet", f"{folder}/new"):
        assert parquet.append(place, rows(["a"], [5], [5.0]), TWO, DIGEST).added
        assert not parquet.append(place, rows(["a"], [5], [5.0]), TWO, DIGEST).added
        assert parquet.append(place, rows(["a"], [5], [2.0]), ONE, DIGEST).added
        with pytest.raises(OtherRowsError):
            parquet.append(place, rows(["a"], [5], [7.0]), ONE, "e" * 32)
        assert values(join, view(place), ["a"], [6]) == [2.0]
        parts = [name for name in parquet.files_of(place) if "pushed-" in name]
        assert [name.rpartition("/")[2].split("-")[2] for name in parts] == [TWO, ONE]
    assert parquet.schema_of(parquet.files_of(f"{folder}/x.parquet")[0]).names == ["key", "event", "value"]


def test_what_is_not_there_is_said(join: AsofJoin, folder: str, free_port: int) -> None:
    with pytest.raises(FileNotFoundError, match=r"x\.parquet"):
        parquet.files_of(f"{folder}/x.parquet")
    with pytest.raises(FileNotFoundError, match="no such file or folder"):
        parquet.files_of(folder)
    with pytest.raises(OSError, match="NETWORK_CONNECTION"):
        parquet.files_of(f"s3+http://127.0.0.1:{free_port}/plumbline/x")


def test_a_file_that_goes_away_meanwhile_is_said(join: AsofJoin, folder: str) -> None:
    put(f"{folder}/x.parquet", rows(["a"], [1], [1.0]))
    source = view(f"{folder}/x.parquet")
    filesystem, path = remote.open_filesystem(f"{folder}/x.parquet")
    filesystem.delete_file(path)
    with pytest.raises(SourceUnreadable, match="does not exist"):
        values(join, source, ["a"], [1])


def test_only_the_columns_and_row_groups_asked_for_are_fetched(folder: str) -> None:
    """A hundred columns of 80 kB in ten row groups: two of them in one group, and the footer."""
    count = 10_000
    wide = pa.table({f"c{index}": pa.array(range(count)) for index in range(100)})
    sink = pa.BufferOutputStream()
    pq.write_table(wide, sink, row_group_size=1000, use_dictionary=False, compression="none")
    data = sink.getvalue()
    remote.write_whole(f"{folder}/x.parquet", data)
    with duckdb.connect(config={"threads": 2}) as connection:
        files = remote.register(connection)
        query = f"SELECT sum(c7) FROM read_parquet('{folder}/x.parquet') WHERE c3 >= 9000"
        assert connection.execute(query).fetchall() == [(sum(range(9000, count)),)]
        assert files.bytes_read < len(data) / 20
