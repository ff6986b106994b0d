"""The digest tells contents apart, and only contents."""

from __future__ import annotations

import io
from datetime import UTC, datetime, timedelta
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trainer.digest import RowDigest

_TYPES: dict[str, tuple[pa.DataType, st.SearchStrategy[Any]]] = {
    "double": (pa.float64(), st.sampled_from([0.0, 1.5, -2.0, float("nan")])),
    "float": (pa.float32(), st.sampled_from([0.0, 0.5])),
    "int": (pa.int64(), st.integers(-2, 2)),
    "small": (pa.int32(), st.integers(-2, 2)),
    "flag": (pa.bool_(), st.booleans()),
    "text": (pa.string(), st.sampled_from(["", "a", "ab", "b", "å"])),
    "bytes": (pa.binary(), st.sampled_from([b"", b"a", b"\0"])),
    "time": (
        pa.timestamp("us", tz="UTC"),
        st.integers(0, 3).map(lambda n: datetime(2024, 1, 1, tzinfo=UTC) + timedelta(microseconds=n)),
    ),
    "list": (pa.list_(pa.int64()), st.lists(st.integers(0, 1) | st.none(), max_size=3)),
    "texts": (pa.list_(pa.string()), st.lists(st.sampled_from(["", "a"]), max_size=2)),
}
_SCHEMA = pa.schema([(name, data_type) for name, (data_type, _) in _TYPES.items()])
_ROW = st.fixed_dictionaries({name: values | st.none() for name, (_, values) in _TYPES.items()})
_ROWS = st.lists(_ROW, min_size=1, max_size=12)


def _table(rows: list[dict[str, Any]]) -> pa.Table:
    return pa.Table.from_pylist(rows, schema=_SCHEMA)


def _digest(table: pa.Table, rows_a_batch: int = 1_000) -> str:
    digest = RowDigest(table.schema)
    for batch in table.to_batches(max_chunksize=rows_a_batch):
        digest.update(batch)
    return digest.hexdigest()


@given(_ROWS, st.integers(1, 5), st.integers(1, 5))
@settings(max_examples=100, deadline=None)
def test_batches_row_groups_and_slices_do_not_matter(
    rows: list[dict[str, Any]], batch: int, group: int
) -> None:
    table = _table(rows)
    file = io.BytesIO()
    pq.write_table(table, file, row_group_size=group, compression="gzip")
    file.seek(0)
    padded = pa.concat_tables([table, table, table]).combine_chunks().slice(len(rows), len(rows))
    expected = _digest(table)
    assert _digest(table, batch) == expected
    assert _digest(pq.read_table(file)) == expected
    assert _digest(padded, batch) == expected


@given(_ROWS, st.data())
@settings(max_examples=150, deadline=None)
def test_any_changed_cell_changes_it(rows: list[dict[str, Any]], data: st.DataObject) -> None:
    place = data.draw(st.integers(0, len(rows) - 1))
    name = data.draw(st.sampled_from(sorted(_TYPES)))
    other = data.draw(_TYPES[name][1] | st.none())
    changed = [dict(row) for row in rows]
    changed[place][name] = other
    same = repr(other) == repr(rows[place][name])
    assert (_digest(_table(changed)) == _digest(_table(rows))) == same


@given(_ROWS, st.data())
@settings(max_examples=100, deadline=None)
def test_the_order_of_rows_matters(rows: list[dict[str, Any]], data: st.DataObject) -> None:
    shuffled = data.draw(st.permutations(rows))
    assert (_digest(_table(shuffled)) == _digest(_table(rows))) == (repr(shuffled) == repr(rows))


def test_names_types_and_order_of_columns_matter() -> None:
    table = pa.table({"a": pa.array([1, 2]), "b": pa.array([3, 4])})
    others = [
        table.rename_columns(["a", "c"]),
        table.select(["b", "a"]),
        table.set_column(0, "a", pa.array([1, 2], pa.int32())),
        table.set_column(0, "a", pa.array([1.0, 2.0])),
        table.slice(0, 1),
        table.select(["a"]),
    ]
    assert len({_digest(each) for each in [table, *others]}) == len(others) + 1


def test_text_boundaries_matter() -> None:
    first = pa.table({"t": ["ab", "c", None, ""]})
    assert _digest(first) != _digest(pa.table({"t": ["a", "bc", None, ""]}))
    assert _digest(first) != _digest(pa.table({"t": ["ab", "c", "", None]}))


def test_how_a_text_or_a_moment_is_stored_does_not_matter() -> None:
    texts = pa.array(["x", None, "y", "x"])
    moments = pa.array([0, 1_000_000, None, 5_000_000], pa.timestamp("us", tz="UTC"))
    plain = pa.table({"t": texts, "m": moments})
    same = [
        pa.table({"t": texts.dictionary_encode(), "m": moments}),
        pa.table(
            {"t": texts.cast(pa.large_string()), "m": moments.cast(pa.timestamp("ns", tz="Asia/Tokyo"))}
        ),
        pa.table({"t": texts, "m": moments.cast(pa.timestamp("s", tz="UTC"))}),
        pa.table({"t": texts, "m": moments.cast(pa.timestamp("us"))}),
    ]
    assert {_digest(each) for each in same} == {_digest(plain)}


def test_what_lies_behind_a_null_does_not_matter() -> None:
    values = pa.array([1, 99, 3])
    masked = pa.Array.from_buffers(pa.int64(), 3, [pa.py_buffer(b"\x05"), values.buffers()[1]])
    assert masked.to_pylist() == [1, None, 3]
    assert _digest(pa.table({"v": masked})) == _digest(pa.table({"v": pa.array([1, None, 3])}))


def test_some_columns_and_an_origin() -> None:
    table = pa.table({"a": [1], "b": ["x"]})
    whole = RowDigest(table.schema)
    whole.update(table.to_batches()[0])
    assert whole.hexdigest(["a"]) == _digest(table.select(["a"]))
    assert whole.hexdigest(origin="one") != whole.hexdigest(origin="two")


def test_the_form_is_fixed() -> None:
    """Recorded digests must stay true: a change of this value is a new form and needs a new form's name."""
    table = pa.table({"a": pa.array([1, None]), "t": pa.array(["x", None])})
    assert _digest(table) == "40bfae7478d49d14fd8195fb34848832760d7c6a159fe323afc50e2dfe11274c"


def test_a_type_no_column_can_carry_is_refused() -> None:
    with pytest.raises(TypeError, match="decimal"):
        RowDigest(pa.schema([("d", pa.decimal128(5, 2))]))
