"""What a join gives of values, and which sources it refuses."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from feature_service.domain import KnownAt, ValueType
from feature_service.stores.asof_join import AsofJoin
from feature_service.stores.asof_sql import SourceColumn
from plumbline.features.errors import SourceUnreadable
from tests.unit.feature_service.joining import micros, times, view, write
from tests.unit.feature_service.oracle import Row

VALUES: list[tuple[ValueType, pa.DataType, Any]] = [
    (ValueType.DOUBLE, pa.float64(), 1.5),
    (ValueType.DOUBLE, pa.float32(), 1.5),
    (ValueType.DOUBLE, pa.int32(), 3),
    (ValueType.FLOAT, pa.float32(), 1.5),
    (ValueType.INT64, pa.int64(), 2**60),
    (ValueType.INT64, pa.int16(), 7),
    (ValueType.INT64, pa.float64(), 7.0),
    (ValueType.INT32, pa.int64(), -7),
    (ValueType.BOOL, pa.bool_(), True),
    (ValueType.STRING, pa.string(), "é"),
    (ValueType.STRING, pa.dictionary(pa.int8(), pa.string()), "x"),
    (ValueType.BYTES, pa.binary(), b"\x00\xff"),
    (ValueType.TIMESTAMP, pa.timestamp("us", tz="UTC"), datetime(2024, 3, 10, 7, 0, 0, 5, UTC)),
    (ValueType.DOUBLE_LIST, pa.list_(pa.float64()), [1.5, 2.5]),
    (ValueType.INT64_LIST, pa.list_(pa.int32()), [1, 2]),
    (ValueType.STRING_LIST, pa.list_(pa.string()), ["a", ""]),
    (ValueType.BOOL_LIST, pa.list_(pa.bool_()), [True, False]),
    (ValueType.TIMESTAMP_LIST, pa.list_(pa.timestamp("us", tz="UTC")), [datetime(2024, 1, 1, tzinfo=UTC)]),
]


@pytest.mark.usefixtures("way")
@pytest.mark.parametrize(("declared", "stored", "value"), VALUES)
def test_values_come_back_as_declared_and_nulls_stay_nulls(
    join: AsofJoin, tmp_path: Path, declared: ValueType, stored: pa.DataType, value: Any
) -> None:
    table = pa.table(
        {"key": ["a", "b"], "event": times([1, 1]), "value": pa.array([value, None]).cast(stored)}
    )
    pq.write_table(table, tmp_path / "t.parquet")
    join.set_entities(micros([2, 2, 2]), [pa.array(["a", "b", "c"])])
    typed = view(tmp_path / "t.parquet", features=[SourceColumn("value", "value", declared)], created=None)
    assert join.join(typed, KnownAt.CREATED_BY_THEN)["value"].to_pylist() == [value, None, None]


@pytest.mark.usefixtures("way")
@pytest.mark.parametrize(
    ("declared", "values", "said"),
    [
        (ValueType.INT64, pa.array([1.5]), "fractions"),
        (ValueType.INT32, pa.array([2**40]), "value"),
        (ValueType.STRING, pa.array([1]), "declared STRING"),
        (ValueType.DOUBLE, pa.array(["1"]), "declared DOUBLE"),
        (ValueType.DOUBLE_LIST, pa.array([1.0]), "declared DOUBLE_LIST"),
    ],
)
def test_values_that_do_not_fit_the_declared_type_are_an_error(
    join: AsofJoin, tmp_path: Path, declared: ValueType, values: pa.Array, said: str
) -> None:
    pq.write_table(pa.table({"key": ["a"], "event": times([1]), "value": values}), tmp_path / "t.parquet")
    join.set_entities(micros([2]), [pa.array(["a"])])
    typed = view(tmp_path / "t.parquet", features=[SourceColumn("value", "value", declared)], created=None)
    with pytest.raises(SourceUnreadable, match=said) as caught:
        join.join(typed, KnownAt.CREATED_BY_THEN)
    assert caught.value.metadata == {"view": "v"}


def test_a_column_of_nothing_but_nulls_fits_any_type(join: AsofJoin, tmp_path: Path) -> None:
    pq.write_table(
        pa.table({"key": ["a"], "event": times([1]), "value": pa.nulls(1)}), tmp_path / "t.parquet"
    )
    join.set_entities(micros([2]), [pa.array(["a"])])
    typed = view(
        tmp_path / "t.parquet", features=[SourceColumn("value", "value", ValueType.STRING)], created=None
    )
    assert join.join(typed, KnownAt.CREATED_BY_THEN)["value"].to_pylist() == [None]


def test_a_missing_column_is_named(join: AsofJoin, tmp_path: Path) -> None:
    path = write(tmp_path / "t.parquet", [Row("a", 1, 1, 1)])
    join.set_entities(micros([2]), [pa.array(["a"])])
    lost = view(path, features=[SourceColumn("value", "wind", ValueType.DOUBLE)])
    with pytest.raises(SourceUnreadable, match="no column wind"):
        join.join(lost, KnownAt.CREATED_BY_THEN)


def test_a_time_column_that_holds_no_times_is_refused(join: AsofJoin, tmp_path: Path) -> None:
    pq.write_table(pa.table({"key": ["a"], "event": ["monday"], "value": [1]}), tmp_path / "t.parquet")
    join.set_entities(micros([2]), [pa.array(["a"])])
    with pytest.raises(SourceUnreadable, match="not a timestamp"):
        join.join(view(tmp_path / "t.parquet", created=None), KnownAt.CREATED_BY_THEN)


def test_a_file_that_is_no_parquet_is_refused(join: AsofJoin, tmp_path: Path) -> None:
    (tmp_path / "t.parquet").write_text("hello")
    join.set_entities(micros([2]), [pa.array(["a"])])
    with pytest.raises(SourceUnreadable, match="cannot be read"):
        join.join(view(tmp_path / "t.parquet"), KnownAt.CREATED_BY_THEN)
