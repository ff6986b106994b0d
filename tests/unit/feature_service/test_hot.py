"""Replies made of packed rows are the messages that the Arrow path gives, byte by byte of what they say."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import timedelta
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from feature_service.arrow_types import arrow_type
from feature_service.digests import service_digest
from feature_service.domain import (
    FeatureView,
    Field,
    Projection,
    ValueType,
)
from feature_service.online_reads import Limits
from feature_service.packed.keys import EntityKeys, view_prefix
from feature_service.packed.layout import RowLayout
from feature_service.planning import matrix_names
from feature_service.ports import NOT_STORED
from plumbline import columns
from plumbline.features.errors import InvalidField, StoreUnavailable
from plumbline.features.v1 import feature_retrieval_service_pb2 as pb
from tests.unit.feature_service.hot_world import (
    DAY,
    NOW_MICROS,
    NUMBERS,
    TYPES,
    World,
    ask,
    requests,
    view,
    worlds,
)


@pytest.fixture(scope="module")
def pool() -> Any:
    with ThreadPoolExecutor(1) as found:
        yield found


def test_a_row_that_is_too_long_is_no_row_beside_a_view_of_the_same_width(pool: Any) -> None:
    """Rows with columns of varying width are cut where these begin; the others must end there."""
    fixed = view("fixed", [ValueType.DOUBLE, ValueType.DOUBLE], None)
    varying = view("varying", [ValueType.DOUBLE, ValueType.STRING], None)
    assert RowLayout(fixed.features).width == RowLayout(varying.features).width
    it = World([fixed, varying], [Projection(v.name, v.name, v.features[:1]) for v in (fixed, varying)], pool)
    for key in (1, 2):
        it.store(fixed, key, NOW_MICROS - 1, [1.5, 2.5])
        it.store(varying, key, NOW_MICROS - 1, [1.5, "text"])
    (prefix, (entity,)) = view_prefix("p", "fixed"), EntityKeys(fixed.join_keys).encode([[1]])
    it.rows.rows[prefix + entity] += b"\x01" * 8
    for ids, expected in (([1], [3]), ([1, 2, 3], [3, 1, 3])):
        hot, arrow = it.both(ask(ids, full_feature_names=True))
        assert hot == arrow
        assert list(hot.features[0].statuses) == expected


@given(world=worlds(list(TYPES)), data=st.data())
def test_packed_rows_give_the_message_that_arrow_gives(world: Any, data: st.DataObject, pool: Any) -> None:
    views, projections, rows = world
    it = World(views, projections, pool)
    for row in rows:
        it.store(*row)
    assert it.catalog._state[2], "the plan of the service was made before anybody asked"
    request = data.draw(requests(pb.GetOnlineFeaturesRequest))
    request.full_feature_names = True
    if data.draw(st.booleans()):
        item = projections[0].features[0]
        value = data.draw(TYPES[item.type])
        plain = (
            pa.array([value], (pa.list_(pa.int64()) if item.type.is_list else pa.int64()))
            if (item.type.element is ValueType.TIMESTAMP)
            else pa.array([value], arrow_type(item.type))
        )
        name = f"{projections[0].label}__{item.name}"
        request.defaults.append(columns.encode(name, plain.cast(arrow_type(item.type))))
    packed, arrow = it.both(request)
    assert packed == arrow
    assert packed.row_count == len(columns.decode(request.entities[0]))


def one_number(kind: ValueType, number: float) -> tuple[list[FeatureView], list[Projection], list[Any]]:
    found = view("v0", [kind], None)
    return [found], [Projection("v0", "v0", found.features)], [(found, 1, NOW_MICROS, [number])]


#: Half-way between two float32 and a little more; the little is lost on the way through float64.
TWICE_ROUNDED = 2**54 + 2**30 + 1


@given(
    world=worlds(NUMBERS),
    request=requests(pb.GetFeatureMatrixRequest),
    kind=st.sampled_from([0, 1, 2]),
    default=st.integers(-(2**63), 2**63 - 1),
)
@example(world=one_number(ValueType.INT64, TWICE_ROUNDED), request=ask([1, 2]), kind=2, default=TWICE_ROUNDED)
@example(world=one_number(ValueType.DOUBLE, 3.4028235677973366e38), request=ask([1, 2]), kind=2, default=0)
def test_a_matrix_of_packed_rows_is_the_one_of_arrow(
    world: Any, request: Any, kind: int, default: int, pool: Any
) -> None:
    views, projections, rows = world
    it = World(views, projections, pool)
    for row in rows:
        it.store(*row)
    wanted = pb.GetFeatureMatrixRequest(
        selection=request.selection, entities=request.entities, type=pb.MatrixType.Name(kind)
    )
    if request.HasField("max_age"):
        wanted.max_age.CopyFrom(request.max_age)
    item = projections[0].features[0]
    if item.type is ValueType.INT64:
        name = item.name if len(views) == 1 else f"{projections[0].label}__{item.name}"
        if name in matrix_names(it.plan()):
            wanted.defaults.append(columns.encode(name, pa.array([default], pa.int64())))
    packed, arrow = it.both(wanted)
    dtype = "<f4" if kind == 2 else "<f8"
    np.testing.assert_array_equal(np.frombuffer(packed.values, dtype), np.frombuffer(arrow.values, dtype))
    packed.values = arrow.values = b""
    assert packed == arrow


def doubles(ages: Mapping[int, int], pool: Any) -> World:
    own = view("v", [ValueType.DOUBLE, ValueType.INT64], timedelta(days=2))
    it = World([own], [Projection("v", "v", own.features)], pool)
    for key, age in ages.items():
        it.store(own, key, NOW_MICROS - age, [key + 0.5, key])
    return it


@pytest.mark.parametrize(
    ("age", "max_age", "status"),
    [
        (0, None, []),
        (2 * DAY, None, []),
        (2 * DAY + 1, None, [4]),
        (DAY, timedelta(days=1), []),
        (DAY + 1, timedelta(days=1), [4]),
        (-1, None, [3]),
    ],
)
def test_one_entity_is_answered_by_the_ttl_and_the_clock(
    age: int, max_age: timedelta | None, status: list[int], pool: Any
) -> None:
    """A single row of plain numbers has a way of its own, on which nothing may be left out."""
    it = doubles({1: age}, pool)
    request = ask([1])
    if max_age is not None:
        request.max_age.FromTimedelta(max_age)
    packed, arrow = it.both(request)
    assert packed == arrow
    assert [list(item.statuses) for item in packed.features] == [status, status]
    values = [columns.decode(item.column).to_pylist() for item in packed.features]
    assert values == ([[1.5], [1]] if not status else [[None], [None]])


def test_a_store_that_does_not_answer_leaves_cells_unavailable_where_that_is_allowed(pool: Any) -> None:
    it = doubles({1: 0}, pool)
    it.rows.away = True
    packed, arrow = it.both(ask([1, 2], allow_partial=True))
    assert packed == arrow
    assert list(packed.features[0].statuses) == [5, 5]
    assert packed.features[0].column.null_mask == b"\x03"
    assert list(packed.view_event_times[0].event_micros) == [NOT_STORED] * 2
    with pytest.raises(StoreUnavailable):
        it.both(ask([1]))


def test_a_store_that_hangs_is_given_up_before_the_callers_deadline(pool: Any) -> None:
    it = doubles({1: 0}, pool)
    it.rows.away, it.rows.local = True, False

    async def main() -> None:
        loop = asyncio.get_running_loop()
        start = loop.time()
        with pytest.raises(StoreUnavailable, match=r"did not answer within 0\.045 s"):
            await it.hot.features(ask([1]), 0.05)
        assert loop.time() - start < 0.2  # the store's own time
        reply = await it.hot.features(ask([1], allow_partial=True), 0.05)
        assert list(pb.GetOnlineFeaturesResponse.FromString(reply).features[0].statuses) == [5]

    asyncio.run(main())


def test_rows_of_another_schema_are_read_by_theirs(pool: Any) -> None:
    """v has lost f1 and got f2 since some of its rows were written."""
    old = view("v", [ValueType.DOUBLE, ValueType.INT64], None)
    new = replace(old, features=(Field("f0", ValueType.DOUBLE), Field("f2", ValueType.INT32)))
    written = RowLayout(old.features)
    for known in (False, True):
        it = World([new], [Projection("v", "v", new.features)], pool)
        it.store(old, 1, NOW_MICROS, [1.5, 1])
        it.store(new, 2, NOW_MICROS, [2.5, 2])
        if known:
            name = f"schema/{view_prefix('p', 'v').hex()}/{written.digest.hex()}"
            it.rows.notes[name] = written.describe()
        packed, arrow = it.both(ask([1, 2]))
        assert packed == arrow
        assert list(packed.features[0].statuses) == ([] if known else [3, 1])
        assert list(packed.features[1].statuses) == [2 if known else 3, 1]


@pytest.mark.parametrize("many", [3, 30])
def test_many_keys_are_read_in_slices_and_encoded_on_a_thread(many: int, pool: Any) -> None:
    it = doubles({1: 0, 2: DAY, 29: 0}, pool)
    it.hot._limits = Limits(50, slice=2, inline=1)
    packed, arrow = it.both(ask(list(range(many))))
    assert packed == arrow


def test_other_calls_get_their_turn_between_the_slices_of_a_large_read(pool: Any) -> None:
    it = doubles({1: 0}, pool)
    it.hot._limits = Limits(50, slice=2)
    turns: list[str] = []
    it.rows.on_get = lambda: turns.append("slice")

    async def other() -> None:
        for _ in range(3):
            turns.append("other")
            await asyncio.sleep(0)

    async def run() -> None:
        await asyncio.gather(it.hot.features(ask(list(range(6))), None), other())

    asyncio.run(run())
    assert turns == ["slice", "other"] * 3


def test_a_large_read_keeps_its_deadline(pool: Any) -> None:
    it = doubles({1: 0}, pool)
    it.hot._limits = Limits(50, slice=2)
    with pytest.raises(StoreUnavailable, match="did not answer"):
        asyncio.run(it.hot.features(ask(list(range(6))), 0.0))


def test_a_default_that_the_reply_has_no_column_for_is_refused(pool: Any) -> None:
    it = doubles({1: 0}, pool)
    for defaults in ({"nope": [1.0]}, {"f0": [1.0, 2.0]}):
        with pytest.raises(InvalidField, match="defaults"):
            it.both(ask([1], defaults=columns.encode_mapping(defaults)))


def test_a_change_of_definitions_leaves_plans_in_use_as_they_were(pool: Any) -> None:
    it = doubles({1: 0}, pool)
    _, before = it.catalog.hot(next(iter(it.catalog._state[2])))
    named = it.definitions
    other = replace(named.views["v"], ttl=None, digest="sha256:other")
    service = replace(named.services["s"], digest="")
    service = replace(service, digest=service_digest(service, {"v": other}))
    it.catalog.replace(replace(named, views={"v": other}, services={"s": service}))
    packed, _ = it.both(ask([1]))
    assert packed.definition_digest == service.digest
    assert before is not None
    assert before.plan.digest == named.services["s"].digest


def test_a_matrix_rounds_each_number_once(pool: Any) -> None:
    views, projections, rows = one_number(ValueType.INT64, TWICE_ROUNDED)
    it = World(views, projections, pool)
    it.store(*rows[0])
    asked = ask([1])
    request = pb.GetFeatureMatrixRequest(
        selection=asked.selection, entities=asked.entities, type=pb.MATRIX_TYPE_FLOAT32
    )
    for reply in it.both(request):
        assert np.frombuffer(reply.values, "<f4").tolist() == [2.0**54 + 2.0**31]
