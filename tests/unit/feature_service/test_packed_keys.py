"""Entity keys against Feast's own serialization."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from feast.feature_view import DUMMY_ENTITY_ID, DUMMY_ENTITY_VAL
from feast.infra.key_encoding_utils import serialize_entity_key
from feast.protos.feast.types.EntityKey_pb2 import EntityKey
from feast.protos.feast.types.Value_pb2 import Value
from hypothesis import given
from hypothesis import strategies as st

from feature_service.arrow_types import arrow_type
from feature_service.domain import Field, ValueType
from feature_service.feast_adapters.values import to_values
from feature_service.packed.keys import NO_KEY, EntityKeys, view_prefix

VALUES: dict[ValueType, st.SearchStrategy[Any]] = {
    ValueType.INT64: st.integers(-(2**63), 2**63 - 1),
    ValueType.INT32: st.integers(-(2**31), 2**31 - 1),
    ValueType.STRING: st.text(max_size=12),
    ValueType.BYTES: st.binary(max_size=12),
    ValueType.TIMESTAMP: st.integers(-(2**50), 2**50) | st.integers(-(10**9), 10**9).map(lambda s: s * 10**6),
}


@st.composite
def key_tables(draw: st.DrawFn) -> tuple[list[Field], list[list[Any]]]:
    """Join keys of any types in any order, and rows of values, some null. Few rows and many."""
    names = draw(st.lists(st.text(min_size=1, max_size=6), min_size=1, max_size=4, unique=True))
    fields = [Field(name, draw(st.sampled_from(sorted(VALUES)))) for name in names]
    count = draw(st.sampled_from([0, 1, 3, 40]))
    columns = [
        draw(st.lists(st.none() | VALUES[field.type], min_size=count, max_size=count)) for field in fields
    ]
    return fields, columns


def array(values: Sequence[Any], kind: ValueType) -> pa.Array:
    if kind is ValueType.TIMESTAMP:
        return pa.array(values, pa.int64()).cast(arrow_type(kind))
    return pa.array(values, arrow_type(kind))


def by_feast(fields: Sequence[Field], columns: Sequence[Sequence[Any]]) -> list[bytes]:
    values = [
        to_values(array(column, field.type), field.type)
        for column, field in zip(columns, fields, strict=True)
    ]
    keys = []
    for i in range(len(columns[0])):
        if any(column[i] is None for column in columns):
            keys.append(NO_KEY)
            continue
        key = EntityKey(
            join_keys=[field.name for field in fields], entity_values=[column[i] for column in values]
        )
        keys.append(serialize_entity_key(key, entity_key_serialization_version=3))
    return keys


@given(key_tables())
def test_keys_are_those_of_feast(table: tuple[list[Field], list[list[Any]]]) -> None:
    fields, columns = table
    keys = EntityKeys(fields)
    wanted = by_feast(fields, columns)
    assert (
        keys.encode([array(column, field.type) for column, field in zip(columns, fields, strict=True)])
        == wanted
    )
    assert keys.encode(columns) == wanted


@given(st.lists(VALUES[ValueType.INT64], min_size=1, max_size=40))
def test_numpy_keys_and_slices_are_those_of_feast(values: list[int]) -> None:
    fields = [Field("driver_id", ValueType.INT64)]
    wanted = by_feast(fields, [values])
    assert EntityKeys(fields).encode([np.array(values, np.int64)]) == wanted
    assert EntityKeys(fields).encode([pa.array([None, *values], pa.int64())[1:]]) == wanted


@given(st.lists(st.none() | st.text(max_size=5), min_size=14, max_size=40))
def test_slices_of_string_arrays(values: list[str | None]) -> None:
    fields = [Field("city", ValueType.STRING)]
    assert EntityKeys(fields).encode([pa.array(["x", *values])[1:]]) == by_feast(fields, [values])


@given(key_tables(), st.lists(st.binary(min_size=8, max_size=8), min_size=1, max_size=3))
def test_whole_keys_are_prefixes_with_keys_behind(
    table: tuple[list[Field], list[list[Any]]], prefixes: list[bytes]
) -> None:
    fields, columns = table
    columns = [column * 13 for column in columns]
    keys = EntityKeys(fields)
    stacked = np.frombuffer(b"".join(prefixes), np.uint8).reshape(-1, 8)
    made = keys.encode_whole(columns, stacked)
    integers = all(field.type in (ValueType.INT32, ValueType.INT64) for field in fields)
    complete = all(value is not None for column in columns for value in column)
    assert (made is not None) == (integers and complete and len(columns[0]) > 12)
    if made is not None:
        wanted = keys.encode(columns)
        assert made == (wanted, [[prefix + key for key in wanted] for prefix in prefixes])


def test_int32_and_int64_are_different_keys() -> None:
    keys = [EntityKeys([Field("id", kind)]).encode([[7]]) for kind in (ValueType.INT32, ValueType.INT64)]
    assert keys[0] != keys[1]


def test_a_view_without_entities_has_the_one_key_of_feasts_stand_in() -> None:
    key = EntityKey(join_keys=[DUMMY_ENTITY_ID], entity_values=[Value(string_val=DUMMY_ENTITY_VAL)])
    wanted = serialize_entity_key(key, entity_key_serialization_version=3)
    assert EntityKeys([]).encode([]) == [wanted]
    assert EntityKeys([]).only == wanted


@pytest.mark.parametrize("kind", [ValueType.DOUBLE, ValueType.BOOL, ValueType.INT64_LIST])
def test_types_that_feast_takes_no_keys_of_are_refused(kind: ValueType) -> None:
    with pytest.raises(ValueError, match="cannot be a key"):
        EntityKeys([Field("id", kind)])


def test_prefixes_tell_views_and_projects_apart() -> None:
    pairs = [("a", "bc"), ("ab", "c"), ("a", "b"), ("1:a", "b"), ("", "11:ab")]
    prefixes = {view_prefix(*pair) for pair in pairs}
    assert len(prefixes) == len(pairs)
    assert {len(prefix) for prefix in prefixes} == {8}
    assert max(prefix[0] for prefix in prefixes) < 0x80
