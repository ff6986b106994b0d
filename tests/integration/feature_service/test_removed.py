"""A view that is removed while it is served: its rows go, those of others stay; and it may come again."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
import redis

from feature_service.app import build
from feature_service.domain import FeatureView
from feature_service.feast_adapters.apply import Change, apply
from feature_service.feast_adapters.online_stores import open_online_store
from feature_service.feast_adapters.repo import FeastRepo, load_config
from feature_service.packed.store import PackedOnlineStore
from feature_service.ports import NOT_STORED
from plumbline.features.client import FeatureClient
from plumbline.features.errors import FeatureServiceNotFound, ViewNotFound
from tests.integration.feature_service.conftest import settings_for
from tests.integration.feature_service.repo import DEFINITIONS, ago, write_repo
from tests.integration.feature_service.test_feast_sdk import feast
from tests.support import running_server, wait_until

ONLINE = {
    "lmdb": "  type: feature_service.stores.lmdb.LmdbOnlineStore\n  path: data/online.lmdb",
    # A database of its own: other tests keep views of these names on the server.
    "redis": "  type: feature_service.stores.redis.RedisOnlineStore\n  connection_string: {},db=3",
}
_START, _END = DEFINITIONS.index("pair = FeatureView("), DEFINITIONS.index("world = FeatureView(")
WITHOUT = DEFINITIONS[:_START] + DEFINITIONS[_END:]
WITH = DEFINITIONS + '\nvisits = FeatureService(name="visits", features=[pair])\n'

KEYS: Mapping[str, dict[str, list[Any]]] = {
    "pair": {"driver_id": [1, 1], "city_id": ["LGA", "JFK"]},
    "trips": {"driver_id": [1, 2]},
    "weather": {"city_id": ["LGA", "JFK"]},
    "world": {},
}
PAIR, GONE = ["pair:visits"], [None, None]


@dataclass(frozen=True)
class Served:
    """A repository, a server of it, and what lies in its store of the views that there were."""

    repo: Path
    client: FeatureClient
    store: PackedOnlineStore
    views: Mapping[str, FeatureView]

    def stored(self, name: str) -> list[bool]:
        """Which rows of a view are stored."""
        view = self.views[name]
        keys = [pa.array(KEYS[name][key.name]) for key in view.join_keys]
        return [time != NOT_STORED for time in self.store.read(view, view.features, keys).event_micros]

    def visits(self) -> list[Any]:
        """What is answered of the view that is removed."""
        values: list[Any] = self.client.get_online_features(PAIR, KEYS["pair"]).values["visits"].to_pylist()
        return values

    def define(self, definitions: str) -> list[Change]:
        """Changes the definitions, and applies them."""
        (self.repo / "definitions.py").write_text(definitions)
        return apply(self.repo)

    def is_served(self) -> bool:
        """Whether the view that is removed is."""
        try:
            self.visits()
        except ViewNotFound:
            return False
        return True


@pytest.fixture(params=ONLINE)
def served(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Served]:
    """All views are online, the one that is removed is in a feature service too."""
    online = ONLINE[request.param]
    if request.param == "redis":
        address: str = request.getfixturevalue("redis_address")
        host, _, port = address.partition(":")
        with redis.Redis(host=host, port=int(port), db=3) as client:
            client.flushdb()
        online = online.format(address)
    repo = write_repo(tmp_path, online, WITH)
    apply(repo)
    opened = FeastRepo(load_config(repo))
    store = open_online_store(opened.config, timeout=5)
    assert isinstance(store, PackedOnlineStore)
    with running_server(settings_for(repo), build) as address, FeatureClient(address) as features:
        assert list(features.materialize(end=ago(0)))[-1].view_finished
        yield Served(repo, features, store, opened.load().views)
    store.close()


def check_the_others(served: Served) -> None:
    assert served.stored("trips") == served.stored("weather") == [True, True]
    assert served.stored("world") == [True]
    found = served.client.get_online_features(["trips:n", "weather:temp"], KEYS["trips"] | KEYS["weather"])
    assert found.values["n"].to_pylist() == [3, None]
    assert found.values["temp"].to_pylist() == [20.5, -3.0]


def check_that_it_is_gone(served: Served) -> None:
    assert served.stored("pair") == [False, False]
    wait_until(lambda: not served.is_served(), what="the server knows of the new definitions")
    with pytest.raises(ViewNotFound, match="there is no feature view 'pair' in project 'tiny'"):
        served.visits()
    with pytest.raises(ViewNotFound, match="there is no feature view 'pair'"):
        list(served.client.materialize(["pair"]))


def check_that_it_comes_again(served: Served) -> None:
    """A run without a start begins with the oldest row that may be served, not where the last one ended."""
    run = list(served.client.materialize(["pair"], end=ago(0)))[-1]
    assert run.rows_written == 2
    assert run.start_time.ToDatetime(UTC) == ago(30) - timedelta(microseconds=1)
    assert served.visits() == [4, 7]


def test_a_view_that_left_the_definitions_is_gone_and_may_come_again(served: Served) -> None:
    assert (served.visits(), served.stored("pair")) == ([4, 7], [True, True])
    gone = served.define(WITHOUT)
    assert {(item.what, item.name) for item in gone} == {("removed", "pair"), ("removed", "visits")}
    check_that_it_is_gone(served)
    check_the_others(served)
    with pytest.raises(FeatureServiceNotFound, match="there is no feature service 'visits'"):
        served.client.get_online_features("visits", KEYS["pair"])

    assert Change("added", "feature view", "pair") in served.define(WITH)
    wait_until(served.is_served, what="the server knows of the new definitions")
    assert served.visits() == GONE
    check_that_it_comes_again(served)
    check_the_others(served)


def test_feasts_delete_removes_one_view(served: Served) -> None:
    """The feature service that reads it stays in Feast's registry; the server says what is wrong with it."""
    assert "Deleted" in feast(served.repo, "delete", "pair")
    check_that_it_is_gone(served)
    check_the_others(served)
    with pytest.raises(FeatureServiceNotFound, match="visits"):
        served.client.get_online_features("visits", KEYS["pair"])
    # The next apply defines it again.
    assert Change("added", "feature view", "pair") in apply(served.repo)
    wait_until(served.is_served, what="the server knows of the new definitions")
    assert served.visits() == GONE
    check_that_it_comes_again(served)
    found = served.client.get_online_features("visits", KEYS["pair"])
    assert found.values["visits"].to_pylist() == [4, 7]
