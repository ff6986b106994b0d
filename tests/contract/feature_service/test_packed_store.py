"""What packed stores promise beyond ports.OnlineStore, and what Feast's own stores do instead."""

from __future__ import annotations

import itertools
from contextlib import ExitStack
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from signal import SIGKILL

import numpy as np
import pyarrow as pa
import pytest

from feature_service.domain import FeatureView, Field, ValueType, ViewKind
from feature_service.feast_adapters.online_stores import open_online_store
from feature_service.feast_adapters.repo import load_config
from feature_service.packed.keys import EntityKeys, view_prefix
from feature_service.packed.layout import RowLayout
from feature_service.packed.lmdb_rows import LmdbRows
from feature_service.packed.redis_options import RedisOptions
from feature_service.packed.redis_rows import RedisRows
from feature_service.packed.schemas import Schemas
from feature_service.packed.store import PackedOnlineStore
from feature_service.ports import NOT_STORED, NewRows
from tests.contract.feature_service.conftest import FEAST, PACKED, Opened
from tests.contract.feature_service.redis_servers import redis_server

_fresh = itertools.count(5000)
_DAY = 86_400_000_000

on_packed = pytest.mark.parametrize("opened", PACKED, indirect=True)


@pytest.fixture
def key() -> int:
    return next(_fresh)


@pytest.fixture
def packed(opened: Opened) -> PackedOnlineStore:
    assert isinstance(opened.store, PackedOnlineStore)
    return opened.store


def make_view(name: str, *features: tuple[str, ValueType], ttl: timedelta | None = None) -> FeatureView:
    return FeatureView(
        project="tiny",
        name=name,
        kind=ViewKind.BATCH,
        join_keys=(Field("driver_id", ValueType.INT64),),
        features=tuple(Field(*item) for item in features),
        ttl=ttl,
    )


def one(key: int, values: list[pa.Array], event: int, created: int | None = None) -> NewRows:
    known = None if created is None else np.array([created], np.int64)
    return NewRows((pa.array([key], pa.int64()),), tuple(values), np.array([event], np.int64), known)


def row_of(store: PackedOnlineStore, view: FeatureView, key: int) -> tuple[int, list[object]]:
    found = store.read(view, view.features, [pa.array([key], pa.int64())])
    return int(found.event_micros[0]), [array[0].as_py() for array in found.values]


@on_packed
def test_event_times_are_kept_and_compared_to_the_microsecond(packed: PackedOnlineStore, key: int) -> None:
    view = make_view("exact", ("n", ValueType.INT64))
    base = 1_700_000_000_123_456
    assert packed.write(view, one(key, [pa.array([1])], base)) == 1
    assert packed.write(view, one(key, [pa.array([2])], base - 1)) == 0
    assert row_of(packed, view, key) == (base, [1])
    assert packed.write(view, one(key, [pa.array([3])], base + 1)) == 1
    assert row_of(packed, view, key) == (base + 1, [3])


@on_packed
def test_of_equal_events_the_later_created_wins_and_none_is_the_least(
    packed: PackedOnlineStore, key: int
) -> None:
    view = make_view("created", ("n", ValueType.INT64))
    assert packed.write(view, one(key, [pa.array([1])], 10, created=20)) == 1
    assert packed.write(view, one(key, [pa.array([2])], 10, created=19)) == 0
    assert packed.write(view, one(key, [pa.array([3])], 10)) == 0
    assert row_of(packed, view, key)[1] == [1]
    assert packed.write(view, one(key, [pa.array([4])], 10, created=20)) == 1
    assert packed.write(view, one(key, [pa.array([5])], 11)) == 1
    assert row_of(packed, view, key) == (11, [5])


@on_packed
def test_a_row_of_an_older_schema_stays_readable(packed: PackedOnlineStore, key: int) -> None:
    """A feature was added, one removed, one widened, one changed its type."""
    name = f"evolved-{key}"
    old = make_view(
        name,
        ("kept", ValueType.STRING),
        ("gone", ValueType.DOUBLE),
        ("wider", ValueType.INT32),
        ("other", ValueType.DOUBLE),
        ("ratio", ValueType.FLOAT),
    )
    values = [
        pa.array(["a"]),
        pa.array([1.0]),
        pa.array([7], pa.int32()),
        pa.array([2.0]),
        pa.array([0.5], pa.float32()),
    ]
    packed.write(old, one(key, values, 10))
    new = make_view(
        name,
        ("added", ValueType.INT64_LIST),
        ("other", ValueType.INT64),
        ("wider", ValueType.INT64),
        ("ratio", ValueType.DOUBLE),
        ("kept", ValueType.STRING),
    )
    assert row_of(packed, new, key) == (10, [None, None, 7, 0.5, "a"])
    # Rows of both schemas side by side, and the older definition still serves rows of the newer one.
    newer = [pa.array([[1]]), pa.array([3]), pa.array([8]), pa.array([1.5]), pa.array(["b"])]
    packed.write(new, one(key + 10**6, newer, 11))
    both = packed.read(new, new.features, [pa.array([key, key + 10**6, -1])])
    assert both.event_micros.tolist() == [10, 11, NOT_STORED]
    assert both.values[4].to_pylist() == ["a", "b", None]
    assert row_of(packed, old, key + 10**6) == (11, ["b", None, None, None, None])
    # The guard knows rows of all schemas.
    assert packed.write(new, one(key, newer, 9)) == 0


@on_packed
def test_other_processes_read_rows_of_an_older_schema_too(
    packed: PackedOnlineStore, opened: Opened, key: int
) -> None:
    """What the first to write them left in the store is enough."""
    name = f"elsewhere-{key}"
    packed.write(make_view(name, ("n", ValueType.INT64)), one(key, [pa.array([1])], 10))
    other = open_online_store(load_config(opened.folder), timeout=5)
    assert isinstance(other, PackedOnlineStore)
    try:
        view = make_view(name, ("n", ValueType.INT64), ("m", ValueType.DOUBLE))
        assert row_of(other, view, key) == (10, [1, None])
    finally:
        other.close()


@pytest.mark.parametrize("how", ["flushed", "started again"])
def test_rows_written_to_a_redis_that_was_emptied_outlive_the_next_schema(
    tmp_path: Path, how: str, key: int
) -> None:
    """The process that writes goes on meanwhile; another reads, once the view has one feature more."""
    name = f"emptied-{key}"
    with redis_server(tmp_path / "redis") as server, ExitStack() as stores:

        def opened() -> PackedOnlineStore:
            store = PackedOnlineStore(RedisRows(RedisOptions.parse(server.address, cluster=False, timeout=5)))
            stores.callback(store.close)
            return store

        writer, view = opened(), make_view(name, ("n", ValueType.INT64))
        writer.write(view, one(key, [pa.array([1])], 10))
        if how == "flushed":
            server.ask("FLUSHALL")
        else:
            server.send(SIGKILL)
            server.start()
        assert row_of(writer, view, key) == (NOT_STORED, [None])
        writer.write(view, one(key, [pa.array([2])], 11))
        more = make_view(name, ("n", ValueType.INT64), ("m", ValueType.DOUBLE))
        assert row_of(opened(), more, key) == (11, [2, None])


@on_packed
def test_rows_that_nothing_explains_count_as_not_stored_and_are_told_once(
    packed: PackedOnlineStore, key: int, caplog: pytest.LogCaptureFixture
) -> None:
    view = make_view(f"unknown-{key}", ("n", ValueType.INT64))
    layout = RowLayout([Field("secret", ValueType.INT64)])
    (alien,) = layout.pack([pa.array([7])], np.array([10], np.int64), None)
    (entity_key,) = EntityKeys(view.join_keys).encode([[key]])
    prefix = view_prefix(view.project, view.name)
    (good,) = RowLayout(view.features).pack([pa.array([7])], np.array([10], np.int64), None)
    before = packed.schemas.unreadable
    for row in (alien, alien, alien[:20], good[:-8], good + b"\0" * 8):
        packed.rows.drop(prefix)
        packed.rows.put(prefix, [(entity_key, row)], None)
        assert row_of(packed, view, key) == (NOT_STORED, [None])
    assert packed.schemas.unreadable == before + 5
    assert len([record for record in caplog.records if "cannot be read" in record.message]) == 1
    # The next write puts it right.
    assert packed.write(view, one(key, [pa.array([8])], 11)) == 1
    assert row_of(packed, view, key) == (11, [8])


def test_rows_of_a_thousand_unknown_schemas_fill_neither_memory_nor_log(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    rows = LmdbRows(tmp_path / "rows", sync=False)
    schemas, layout = Schemas(rows), RowLayout([Field("n", ValueType.INT64)])
    (good,) = layout.pack([pa.array([7])], np.array([10], np.int64), None)
    aliens = [good[:8] + i.to_bytes(8, "little") + good[16:] for i in range(2500)]
    assert (schemas.normal(b"prefix 1", layout, aliens).event_micros == NOT_STORED).all()
    assert schemas.unreadable == 2500
    assert len(schemas._missing) <= 1000
    assert len([record for record in caplog.records if "cannot be read" in record.message]) == 1
    rows.close()


@on_packed
def test_every_type_and_null_in_one_row(packed: PackedOnlineStore, opened: Opened) -> None:
    view = opened.views["kinds"]
    nulls = tuple(
        pa.nulls(1, array.type)
        for array in packed.read(view, view.features, [pa.array([77], pa.int32())]).values
    )
    packed.write(view, NewRows((pa.array([77], pa.int32()),), nulls, np.array([5], np.int64), None))
    found = packed.read(view, view.features, [pa.array([77], pa.int32())])
    assert found.event_micros.tolist() == [5]
    assert [array.null_count for array in found.values] == [1] * len(view.features)


@on_packed
def test_rows_past_their_ttl_are_swept_from_the_embedded_store(packed: PackedOnlineStore, key: int) -> None:
    """A day later than reads leave them out: a raised ttl finds them. Redis lets them expire by itself."""
    view = make_view(f"swept-{key}", ("n", ValueType.INT64), ttl=timedelta(days=1))
    for i in range(5):
        packed.write(view, one(key + i, [pa.array([i])], 1_000 * _DAY + i))
    assert packed.sweep(view, 1_002 * _DAY) == 0
    removed = packed.sweep(view, 1_002 * _DAY + 3)
    assert removed == (3 if packed.rows.local else 0)
    assert packed.sweep(replace(view, ttl=None), 10_000 * _DAY) == 0
    assert row_of(packed, view, key + 3)[0] == 1_000 * _DAY + 3


@pytest.mark.parametrize("opened", FEAST, indirect=True)
def test_feasts_own_stores_forget_the_created_time(opened: Opened, key: int) -> None:
    """The later write of one event wins, whenever its row was created; SQLite even within the same second."""
    view = opened.views["trips"]
    base = 1_700_000_000_500_000

    def trip(n: int) -> list[pa.Array]:
        return [pa.array([n]), pa.array([0.5]), pa.array(["t"])]

    opened.store.write(view, one(key, trip(1), base, created=base + 20))
    assert opened.store.write(view, one(key, trip(2), base, created=base + 10)) == 1
    written = opened.store.write(view, one(key, trip(3), base - 1))
    assert written == (1 if opened.kind == "feast-sqlite" else 0)
