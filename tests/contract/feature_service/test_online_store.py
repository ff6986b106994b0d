"""What ports.OnlineStore promises, on every store."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Sequence
from datetime import datetime, timedelta

import numpy as np
import pyarrow as pa
import pytest

from feature_service.domain import FeatureView
from feature_service.ports import NOT_STORED, NewRows, StoredRows
from tests.contract.feature_service.conftest import Opened
from tests.integration.feature_service.repo import ago, kinds_row, kinds_table

_fresh = itertools.count(1000)


@pytest.fixture
def key() -> int:
    """A key that no other test uses."""
    return next(_fresh)


def micros(moment: datetime) -> int:
    return round(moment.timestamp() * 1_000_000)


def trips(
    keys: Sequence[int],
    events: Sequence[datetime],
    n: Sequence[int | None],
    created: Sequence[datetime] | None = None,
) -> NewRows:
    return NewRows(
        keys=(pa.array(keys, pa.int64()),),
        values=(pa.array(n, pa.int64()), pa.array([0.5] * len(n)), pa.array(["t"] * len(n))),
        event_micros=np.array([micros(event) for event in events], np.int64),
        created_micros=None if created is None else np.array([micros(item) for item in created], np.int64),
    )


def read(opened: Opened, view: str, keys: pa.Array) -> StoredRows:
    found: FeatureView = opened.views[view]
    return opened.store.read(found, found.features, [keys])


def n_of(opened: Opened, key: int) -> int | None:
    value: int | None = read(opened, "trips", pa.array([key])).values[0][0].as_py()
    return value


def test_a_key_that_was_never_written_is_not_stored(opened: Opened, key: int) -> None:
    """A Redis miss comes back from Feast as a row of empty values at 1970."""
    found = read(opened, "trips", pa.array([key]))
    assert found.event_micros.tolist() == [NOT_STORED]
    assert [array.to_pylist() for array in found.values] == [[None], [None], [None]]


def test_a_row_is_read_with_its_event_time(opened: Opened, key: int) -> None:
    assert opened.store.write(opened.views["trips"], trips([key], [ago(1)], [7])) == 1
    found = read(opened, "trips", pa.array([key]))
    assert found.event_micros.tolist() == [micros(ago(1))]
    assert [array.to_pylist() for array in found.values] == [[7], [0.5], ["t"]]


def test_a_stored_null_is_a_row(opened: Opened, key: int) -> None:
    opened.store.write(opened.views["trips"], trips([key], [ago(1)], [None]))
    found = read(opened, "trips", pa.array([key]))
    assert found.event_micros.tolist() == [micros(ago(1))]
    assert found.values[0].to_pylist() == [None]


def test_rows_of_1970_are_rows(opened: Opened, key: int) -> None:
    opened.store.write(
        opened.views["trips"], trips([key], [datetime.fromisoformat("1970-01-01T00:00:00Z")], [7])
    )
    assert read(opened, "trips", pa.array([key])).event_micros.tolist() == [0]


def test_answers_are_in_the_order_of_the_keys_repeated_and_null_ones_too(opened: Opened, key: int) -> None:
    opened.store.write(opened.views["trips"], trips([key, key + 10**6], [ago(1)] * 2, [1, 2]))
    keys = pa.array([key + 10**6, key, None, key, -1], pa.int64())
    found = read(opened, "trips", keys)
    assert found.values[0].to_pylist() == [2, 1, None, 1, None]
    assert (found.event_micros == NOT_STORED).tolist() == [False, False, True, False, True]


def test_no_keys_are_answered_by_no_rows(opened: Opened) -> None:
    found = read(opened, "trips", pa.array([], pa.int64()))
    assert len(found.event_micros) == 0
    assert len(found.values[0]) == 0


def test_an_older_row_does_not_replace_a_newer_one(opened: Opened, key: int) -> None:
    """Feast's SQLite store lets the older write win."""
    view = opened.views["trips"]
    opened.store.write(view, trips([key], [ago(1)], [2]))
    assert opened.store.write(view, trips([key], [ago(2)], [1])) == 0
    assert n_of(opened, key) == 2


def test_a_newer_row_replaces_an_older_one(opened: Opened, key: int) -> None:
    view = opened.views["trips"]
    opened.store.write(view, trips([key], [ago(2)], [1]))
    assert opened.store.write(view, trips([key], [ago(1)], [2])) == 1
    assert n_of(opened, key) == 2


def test_a_correction_of_the_same_event_arrives(opened: Opened, key: int) -> None:
    """Feast's Redis store drops a row as old as the stored one."""
    view = opened.views["trips"]
    opened.store.write(view, trips([key], [ago(1)], [1]))
    opened.store.write(view, trips([key], [ago(1)], [2]))
    assert n_of(opened, key) == 2


def test_of_one_key_in_one_write_the_greatest_event_then_created_wins(opened: Opened, key: int) -> None:
    events, created = [ago(1), ago(1), ago(3)], [ago(0.1), ago(0.5), ago(0.01)]
    opened.store.write(opened.views["trips"], trips([key] * 3, events, [1, 2, 3], created))
    assert n_of(opened, key) == 1


def test_every_value_type_comes_back_as_it_was(opened: Opened, key: int) -> None:
    view = opened.views["kinds"]
    table = kinds_table([kinds_row(key, ago(1))])
    opened.store.write(
        view,
        NewRows(
            keys=(table["small_id"].combine_chunks(),),
            values=tuple(table[item.name].combine_chunks() for item in view.features),
            event_micros=np.array([micros(ago(1))]),
            created_micros=None,
        ),
    )
    found = opened.store.read(view, view.features, [pa.array([key], pa.int32())])
    for item, array in zip(view.features, found.values, strict=True):
        assert array.type == table.schema.field(item.name).type, item.name
        assert array.to_pylist() == table[item.name].to_pylist(), item.name


def test_several_join_keys_name_one_row(opened: Opened, key: int) -> None:
    view = opened.views["pair"]
    rows = NewRows(
        keys=(pa.array([key, key]), pa.array(["LGA", "JFK"])),
        values=(pa.array([1, 2], pa.int32()),),
        event_micros=np.array([micros(ago(1))] * 2),
        created_micros=None,
    )
    opened.store.write(view, rows)
    found = opened.store.read(view, view.features, [pa.array([key] * 3), pa.array(["JFK", "LGA", "EWR"])])
    assert found.values[0].to_pylist() == [2, 1, None]


def test_a_view_without_entities_has_one_row(opened: Opened) -> None:
    view = opened.views["world"]
    for days, fuel in ((3, 1.0), (2, 2.0)):
        rows = NewRows((), (pa.array([fuel]),), np.array([micros(ago(days))]), None)
        opened.store.write(view, rows)
    found = opened.store.read(view, view.features, [])
    assert found.values[0].to_pylist() == [2.0]
    assert found.event_micros.tolist() == [micros(ago(2))]


def test_more_keys_than_fit_one_statement(opened: Opened) -> None:
    keys = list(range(10**9, 10**9 + 12_000))
    view = opened.views["weather"]
    names = pa.array([str(item) for item in keys])
    rows = NewRows((names,), (pa.array(keys, pa.float64()),), np.full(len(keys), micros(ago(1))), None)
    assert opened.store.write(view, rows) == len(keys)
    found = opened.store.read(view, view.features, [names])
    assert found.values[0].to_pylist() == [float(item) for item in keys]


def test_readers_see_whole_rows_while_a_writer_writes(opened: Opened, key: int) -> None:
    """`n` and `rate` of every version agree; a reader that saw both halves of two versions would not."""
    view = opened.views["trips"]
    stop = threading.Event()
    torn: list[tuple[int, float]] = []
    reads = itertools.count()

    def look() -> None:
        while not stop.is_set():
            n, rate, _ = (array[0].as_py() for array in read(opened, "trips", pa.array([key])).values)
            next(reads)
            if n is not None and rate != float(n):
                torn.append((n, rate))

    reader = threading.Thread(target=look)
    reader.start()
    for version in range(60):
        event = np.array([micros(ago(1) + timedelta(seconds=version))])
        values = (pa.array([version]), pa.array([float(version)]), pa.array(["t"]))
        opened.store.write(view, NewRows((pa.array([key]),), values, event, None))
    stop.set()
    reader.join()
    assert torn == []
    assert next(reads) > 1
