"""`feast materialize` and the SDK with our compute engine, on our stores and on Feast's own."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from feast import FeatureStore
from feast.feature_view import FeatureViewState

from feature_service.app import build
from feature_service.feast_adapters.apply import apply
from plumbline.features.client import FeatureClient
from tests.integration.feature_service.conftest import settings_for
from tests.integration.feature_service.repo import ago, write_repo
from tests.support import running_server

LMDB = "  type: feature_service.stores.lmdb.LmdbOnlineStore\n  path: data/online.lmdb\n  sync: false"
SQLITE = "  type: sqlite\n  path: data/online.db"
ENGINE = "\nbatch_engine:\n  type: feature_service.stores.engine.PackedComputeEngine"
FILES = "offline_store:\n  type: file"

Make = Callable[..., FeatureStore]


@pytest.fixture
def make(tmp_path: Path) -> Make:
    """A repository with the engine, applied."""

    def made(online: str = LMDB, offline: str = "") -> FeatureStore:
        repo = write_repo(tmp_path, online + ENGINE)
        if offline:
            file = repo / "feature_store.yaml"
            head, _, tail = file.read_text().partition("offline_store:")
            rest = tail[tail.index("entity_key_serialization_version") :]
            file.write_text(f"{head}{offline}\n{rest}")
        apply(repo)
        return FeatureStore(str(repo))

    return made


def online(store: FeatureStore, feature: str, **keys: list[Any]) -> list[Any]:
    rows = [dict(zip(keys, values, strict=True)) for values in zip(*keys.values(), strict=True)]
    found = store.get_online_features(features=[feature], entity_rows=rows).to_dict()
    values: list[Any] = found[feature.partition(":")[2]]
    return values


def add(store: FeatureStore, name: str, table: dict[str, Any], file: str = "late") -> None:
    folder = Path(str(store.repo_path)) / "data" / f"{name}.parquet.d"
    folder.mkdir(exist_ok=True)
    pq.write_table(pa.table(table), folder / f"{file}.parquet")


def trip(key: int, event: datetime, created: datetime, n: int) -> dict[str, Any]:
    return {
        "driver_id": [key],
        "event_timestamp": [event],
        "created": [created],
        "n": [n],
        "rate": [0.5],
        "tag": ["x"],
    }


@pytest.mark.parametrize("store_kind", [LMDB, SQLITE])
def test_the_sdk_materializes_every_view(make: Make, store_kind: str) -> None:
    store = make(store_kind)
    store.materialize(ago(1000), ago(0))
    assert online(store, "trips:n", driver_id=[1, 2]) == [3, None]
    assert online(store, "trips:tag", driver_id=[1, 77]) == ["c", None]
    assert online(store, "weather:temp", city_id=["JFK", "LGA"]) == [-3.0, 20.5]
    assert online(store, "pair:visits", driver_id=[1, 1], city_id=["LGA", "JFK"]) == [4, 7]
    assert online(store, "kinds:string_list", small_id=[1]) == [["grüße", "grüße"]]
    assert online(store, "kinds:bytes", small_id=[1]) == [b"\x00\xff"]
    assert store.get_feature_view("trips").most_recent_end_time == ago(0)


def test_both_ends_of_the_range_are_in_it_as_feast_has_it(make: Make) -> None:
    store = make()
    store.materialize(ago(1), ago(1), ["trips"])
    assert online(store, "trips:n", driver_id=[1]) == [2]


@pytest.mark.parametrize("store_kind", [LMDB, SQLITE])
def test_an_older_range_does_not_undo_a_newer_one(make: Make, store_kind: str) -> None:
    """Feast's SQLite store lets the older row win."""
    store = make(store_kind)
    store.materialize(ago(3), ago(0), ["trips"])
    store.materialize(ago(10), ago(0.8), ["trips"])
    assert online(store, "trips:n", driver_id=[1]) == [3]


@pytest.mark.parametrize("store_kind", [LMDB, SQLITE])
def test_the_next_incremental_run_brings_late_rows(make: Make, store_kind: str) -> None:
    """Feast's own misses them for good (#4133), whether they say when they were created or not."""
    store = make(store_kind)
    store.materialize(ago(1000), ago(0.2), ["trips", "weather"])
    add(store, "trips", trip(8, ago(1.5), ago(0.1), 8))
    add(store, "weather", {"city_id": ["EWR"], "event_timestamp": [ago(3)], "temp": [7.5]})
    store.materialize_incremental(ago(0), ["trips", "weather"])
    assert online(store, "trips:n", driver_id=[8]) == [8]
    assert online(store, "weather:temp", city_id=["EWR"]) == [7.5]


@pytest.mark.parametrize("store_kind", [LMDB, SQLITE])
def test_an_end_in_the_future_poisons_no_later_run(make: Make, store_kind: str) -> None:
    """Feast records the end as given and starts the next incremental run there (#4222)."""
    store = make(store_kind)
    store.materialize(ago(1000), ago(-30), ["trips"])
    add(store, "trips", trip(9, ago(0.01), ago(0.01), 9))
    store.materialize_incremental(ago(0), ["trips"])
    assert online(store, "trips:n", driver_id=[1, 9]) == [3, 9]
    # The service reads the same registry.
    add(store, "trips", trip(10, ago(0.01), ago(0.01), 10), "more")
    with (
        running_server(settings_for(Path(str(store.repo_path))), build) as address,
        FeatureClient(address) as client,
    ):
        list(client.materialize(["trips"]))
        found = client.get_online_features(["trips:n"], {"driver_id": [1, 9, 10]})
        assert found.values["n"].to_pylist() == [3, 9, 10]


def test_another_offline_store_is_asked_for_its_rows(make: Make) -> None:
    store = make(LMDB, FILES)
    store.materialize(ago(1000), ago(0.2), ["trips", "weather", "pair"])
    assert online(store, "trips:n", driver_id=[1, 2]) == [3, None]
    assert online(store, "pair:visits", driver_id=[1, 1], city_id=["LGA", "JFK"]) == [4, 7]
    pq.write_table(
        pa.concat_tables(
            [
                pq.read_table(Path(str(store.repo_path)) / "data" / "weather.parquet"),
                pa.table({"city_id": ["EWR"], "event_timestamp": [ago(0.9)], "temp": [7.5]}),
            ],
            promote_options="permissive",
        ),
        Path(str(store.repo_path)) / "data" / "weather.parquet",
    )
    store.materialize_incremental(ago(0), ["weather"])
    assert online(store, "weather:temp", city_id=["EWR", "JFK"]) == [7.5, -3.0]


def test_a_view_is_served_while_it_is_materialized(make: Make) -> None:
    """Feast refuses: its state in the registry says MATERIALIZING until the run has succeeded."""
    store = make()
    store.materialize(ago(1000), ago(0), ["trips"])
    view = store.get_feature_view("trips")
    view.state = FeatureViewState.MATERIALIZING
    store.registry.apply_feature_view(view, store.project)
    with (
        running_server(settings_for(Path(str(store.repo_path))), build) as address,
        FeatureClient(address) as client,
    ):
        found = client.get_online_features(["trips:n"], {"driver_id": [1]})
        assert found.values["n"].to_pylist() == [3]
        rows = pa.table({"driver_id": [1], "event_timestamp": [ago(0)]})
        assert client.get_historical_features(["trips:n"], rows).read_all()["n"].to_pylist() == [3]
        assert list(client.materialize(["trips"]))[-1].view_finished


def test_a_run_over_everything_ignores_times(make: Make) -> None:
    store = make()
    store.materialize(ago(0.001), ago(0), ["weather"], disable_event_timestamp=True)
    assert online(store, "weather:temp", city_id=["LGA"]) == [20.5]
    assert store.get_feature_view("weather").materialization_intervals[-1][1] - ago(0) < timedelta(days=1)
