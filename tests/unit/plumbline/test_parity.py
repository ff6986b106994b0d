"""Two tables compared, feature by feature."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pyarrow as pa
import pytest

from plumbline.features.parity import NotComparable, Parity

NAN, INF = float("nan"), float("inf")
MICROS = pa.timestamp("us", tz="UTC")
NOON = datetime(2024, 3, 1, 12, tzinfo=UTC)


def compared(online: pa.Array, offline: pa.Array, **options: Any) -> Parity:
    parity = Parity(**options)
    entities = pa.table({"id": list(range(len(online)))})
    parity.add(entities, pa.table({"x": online}), pa.table({"x": offline}))
    return parity


def counts(parity: Parity) -> tuple[int, int, int, int, int]:
    x = parity.features["x"]
    return (x.compared, x.equal, x.mismatch, x.missing, x.extra)


@pytest.mark.parametrize(
    ("kind", "one", "two"),
    [
        (pa.float64(), 1.5, 1.5000000000000002),
        (pa.float64(), NAN, 0.0),
        (pa.float64(), INF, -INF),
        (pa.float32(), 0.25, 0.5),
        (pa.int64(), 2**60 + 1, 2**60),
        (pa.int32(), -5, 5),
        (pa.bool_(), True, False),
        (pa.string(), "grüße", "grusse"),
        (pa.binary(), b"\x00\xff", b"\x00"),
        (MICROS, NOON, NOON.replace(microsecond=1)),
        (pa.list_(pa.float64()), [1.0, NAN], [1.0, 2.0]),
        (pa.list_(pa.string()), ["a", "b"], ["a"]),
        (pa.list_(pa.int64()), [], [1]),
        (pa.list_(pa.string()), ["a", None], ["a", "b"]),
        (pa.list_(MICROS), [NOON], [NOON, NOON]),
        (pa.struct([("a", pa.int64())]), {"a": 1}, {"a": 2}),
    ],
)
def test_every_kind_of_value_and_null(kind: pa.DataType, one: Any, two: Any) -> None:
    online = pa.array([one, one, None, None, two, one], kind)
    offline = pa.array([one, two, None, one, None, one], kind)
    parity = compared(online, offline)
    assert counts(parity) == (6, 3, 1, 1, 1)
    assert parity.features["x"].neither == 1
    assert not parity.equal
    assert [(e.kind, e.entity["id"]) for e in parity.features["x"].examples] == [
        ("mismatch", 1),
        ("missing", 3),
        ("extra", 4),
    ]
    assert Parity().differing_rows(pa.table({"x": online}), pa.table({"x": offline})).tolist() == [
        False, True, False, True, True, False,
    ]  # fmt: skip


def test_lists_after_nulls_and_empty_lists_keep_their_place() -> None:
    kind = pa.list_(pa.int64())
    online = pa.array([None, [], [1, 2], None, [3], [4, 5]], kind)
    offline = pa.array([[9], [], [1, 2], None, [8], [4, 5]], kind)
    assert counts(compared(online, offline)) == (6, 4, 1, 1, 0)
    assert counts(compared(online.slice(2), offline.slice(2))) == (4, 3, 1, 0, 0)


def test_tolerance_is_relative_and_absolute_below_one() -> None:
    online, offline = pa.array([1e-4, 1000.0, 1000.0, INF]), pa.array([2e-4, 1000.9, 1002.0, 1.0])
    assert counts(compared(online, offline)) == (4, 0, 4, 0, 0)
    assert counts(compared(online, offline, tolerance=1e-3)) == (4, 2, 2, 0, 0)


def test_a_list_of_floats_takes_the_tolerance() -> None:
    online, offline = pa.array([[1.0, 2.0]]), pa.array([[1.0, 2.0000001]])
    assert not compared(online, offline).equal
    assert compared(online, offline, tolerance=1e-6).equal


@pytest.mark.parametrize(
    ("logged", "joined"),
    [
        (pa.array([0.1, None]), pa.array([0.1, None], pa.float32())),
        (pa.array([3.0, None]), pa.array([3, None], pa.int64())),
        (pa.array([3, None], pa.int64()), pa.array([3.0, None], pa.float64())),
        (pa.array(["2024-03-01T12:00:00Z", None]), pa.array([NOON, None], MICROS)),
        (pa.array(["2024-03-01T12:00:00", None]), pa.array([NOON, None], MICROS)),
        (pa.array(["2024-03-01T13:00:00+01:00", None]), pa.array([NOON, None], MICROS)),
        (pa.array([NOON.replace(tzinfo=None), None], pa.timestamp("ns")), pa.array([NOON, None], MICROS)),
        (pa.array([NOON, None], pa.timestamp("ms", tz="Europe/Berlin")), pa.array([NOON, None], MICROS)),
        (pa.array(["a", None]).dictionary_encode(), pa.array(["a", None])),
        (pa.array(["a", None], pa.large_string()), pa.array(["a", None])),
        (pa.array([[1], None]), pa.array([[1.0], None], pa.list_(pa.float32()))),
        (pa.nulls(2), pa.nulls(2, pa.string())),
    ],
)
def test_a_log_is_compared_in_the_types_of_the_join(logged: pa.Array, joined: pa.Array) -> None:
    assert counts(compared(logged, joined)) == (2, 2, 0, 0, 0)


def test_what_does_not_fit_the_joins_type_is_a_mismatch_not_an_accident() -> None:
    assert counts(compared(pa.array([3.5, 3.0]), pa.array([3, 3], pa.int64()))) == (2, 1, 1, 0, 0)


def test_types_that_have_nothing_in_common_are_said() -> None:
    with pytest.raises(NotComparable, match="x is list"):
        compared(pa.array([[1]]), pa.array([1]))


def test_parts_add_up_and_examples_are_few() -> None:
    parity = Parity(most_examples=2)
    for start in (0, 3):
        entities = pa.table({"id": [start, start + 1, start + 2]})
        parity.add(entities, pa.table({"x": [1, 1, 1]}), pa.table({"x": [1, 2, 2], "y": [0, 0, 0]}))
    assert (parity.rows, counts(parity)) == (6, (6, 2, 4, 0, 0))
    assert [e.entity for e in parity.features["x"].examples] == [{"id": 1}, {"id": 2}]


def test_nothing_is_equal_to_nothing() -> None:
    assert compared(pa.array([], pa.string()), pa.array([], pa.string())).equal
