"""How long rows stay in Redis: as the ttl of their view says now, not as it said when they were written."""

from __future__ import annotations

import itertools
import time
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import redis

from feature_service.feast_adapters.apply import apply
from feature_service.feast_adapters.online_stores import open_online_store
from feature_service.feast_adapters.repo import FeastRepo, load_config
from feature_service.packed.keys import EntityKeys
from feature_service.packed.layout import LATEST
from feature_service.packed.redis_options import RedisOptions
from feature_service.packed.redis_rows import RedisRows, row_keys
from feature_service.packed.redis_sync import slot_of
from feature_service.packed.store import PackedOnlineStore
from feature_service.ports import NewRows, RowRead
from tests.conftest import RedisCluster
from tests.integration.feature_service.repo import write_repo
from tests.support_rows import rows_of

_views = itertools.count(1)
HOUR = 3_600_000_000
DAY = 24 * HOUR
FOR_GOOD = -1.0


@pytest.fixture(scope="module", params=["redis", "redis_cluster"])
def options(request: pytest.FixtureRequest) -> RedisOptions:
    if request.param == "redis":
        return RedisOptions.parse(request.getfixturevalue("redis_address"), timeout=10)
    cluster: RedisCluster = request.getfixturevalue("redis_cluster")
    return RedisOptions.parse(",".join(cluster.addresses), cluster=True, timeout=10)


@pytest.fixture
def view() -> bytes:
    return b"expiry" + next(_views).to_bytes(2, "big")


def micros() -> int:
    return int(time.time() * 1_000_000)


def days_left(options: RedisOptions, view: bytes, keys: Sequence[bytes]) -> list[float]:
    """How long each row stays, in days to one decimal; FOR_GOOD without an expiry."""
    clients = [redis.Redis(host=host, port=port) for host, port in options.nodes]
    try:
        found = []
        for key in row_keys([RowRead(view, keys)]):
            node = slot_of(key) % 3 if options.cluster else 0
            left = clients[node].pttl(key)
            found.append(FOR_GOOD if left == -1 else round(left / 86_400_000, 1))
        return found
    finally:
        for client in clients:
            client.close()


def test_rows_stay_as_long_as_the_ttl_of_now_says(options: RedisOptions, view: bytes) -> None:
    """Rows of 12 hours ago: with a ttl of 1 hour for the retention of 1 day; with one of 10 days for 9.5 days
    and the retention."""
    other = b"other" + view[5:]
    keys = [b"%d" % i for i in range(1500)]
    store = RedisRows(options)
    for name in (view, other):
        store.put(name, list(zip(keys, rows_of([micros() - DAY // 2] * 1500), strict=True)), HOUR)
    store.hold({view: HOUR, other: HOUR})
    assert set(days_left(options, view, keys)) == {1.0}
    store.close()
    # What applies the definitions is another process than what wrote.
    applier = RedisRows(options)
    applier.hold({view: 10 * DAY, other: HOUR})
    assert set(days_left(options, view, keys)) == {10.5}
    applier.hold({view: None, other: HOUR})
    assert set(days_left(options, view, keys)) == {FOR_GOOD}
    assert set(days_left(options, other, keys)) == {1.0}
    applier.hold({view: HOUR})
    assert set(days_left(options, view, keys)) == {1.0}
    applier.close()
    for_good = RedisRows(options, retention=None)
    for_good.hold({view: HOUR})
    assert set(days_left(options, view, keys[:50])) == {FOR_GOOD}
    for_good.drop(view)
    assert for_good.get([RowRead(view, keys)]) == [[None] * 1500]
    assert None not in for_good.get([RowRead(other, keys)])[0]
    for_good.close()


def test_what_this_process_wrote_by_the_ttl_before_is_found_again(options: RedisOptions, view: bytes) -> None:
    """Another was first to see the change; rows written meanwhile by the ttl before are not forgotten."""
    writer, other = RedisRows(options), RedisRows(options)
    other.hold({view: 10 * DAY})
    writer.put(view, [(b"a", rows_of([micros()])[0])], HOUR)
    assert days_left(options, view, [b"a"]) == [1.0]
    writer.hold({view: 10 * DAY})
    assert days_left(options, view, [b"a"]) == [11.0]
    for store in (writer, other):
        store.close()


def test_a_row_far_from_now_and_foreign_values_are_borne(options: RedisOptions, view: bytes) -> None:
    store = RedisRows(options)
    store.put(view, [(b"a", rows_of([LATEST])[0]), (b"b", b"foreign")], None)
    store.hold({view: DAY})
    # 100 years at the most; what has no event time stays.
    assert days_left(options, view, [b"a", b"b"]) == [36_500.0, FOR_GOOD]
    store.close()


def test_apply_raises_the_expiry_with_the_ttl(redis_address: str, tmp_path: Path) -> None:
    online = (
        "  type: feature_service.stores.redis.RedisOnlineStore\n"
        f"  connection_string: {redis_address}\n  retention_seconds: 3600"
    )
    folder = write_repo(tmp_path, online)
    apply(folder)
    repo = FeastRepo(load_config(folder))
    store = open_online_store(repo.config, timeout=5)
    assert isinstance(store, PackedOnlineStore)
    view = repo.load().views["trips"]
    assert view.ttl == timedelta(days=2)
    key = pa.array([987_654], pa.int64())
    values = (pa.array([1]), pa.array([0.5]), pa.array(["t"]))
    store.write(view, NewRows((key,), values, np.array([micros()], np.int64), None))
    options = RedisOptions.parse(redis_address)
    stored = store._stored(view).prefix
    encoded = EntityKeys(view.join_keys).encode([key])
    assert days_left(options, stored, encoded) == [2.0]
    definitions = next(folder.glob("*.py"))
    definitions.write_text(definitions.read_text().replace("timedelta(days=2)", "timedelta(days=9)"))
    apply(folder)
    assert days_left(options, stored, encoded) == [9.0]
    store.close()
