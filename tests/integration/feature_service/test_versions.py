"""Versions of feature views, as view@vN: answered as Feast's SDK answers them on the same repository."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from feast import FeatureStore
from feast.errors import VersionedOnlineReadNotSupported

from feature_service.app import build
from feature_service.feast_adapters.apply import apply
from plumbline.features.client import FeatureClient
from plumbline.features.errors import FeatureNotFound, SourceUnreadable, ViewNotFound
from tests.integration.feature_service.conftest import settings_for
from tests.integration.feature_service.repo import SQLITE, ago, write_repo
from tests.support import running_server

LMDB = "  type: feature_service.stores.lmdb.LmdbOnlineStore\n  path: data/online.lmdb"
VERSIONED = "  path: data/registry.db\n  enable_online_feature_view_versioning: true"
DEFINITIONS = """\
from datetime import timedelta

import pandas as pd
from feast import Entity, FeatureService, FeatureView, Field, FileSource, ValueType
from feast.on_demand_feature_view import on_demand_feature_view
from feast.types import Float64, Int64

driver = Entity(name="driver", join_keys=["driver_id"], value_type=ValueType.INT64)
trips = FeatureView(
    name="trips",
    entities=[driver],
    ttl=timedelta(days=30),
    schema=[{fields}],
    source=FileSource(name="trips_table", path="data/trips.parquet", timestamp_field="event_timestamp"),
)


@on_demand_feature_view(sources=[trips], schema=[Field(name="more", dtype=Int64)])
def grown(inputs: pd.DataFrame) -> pd.DataFrame:
    return pd.DataFrame({{"more": inputs["n"] + {more}}})


{service}
"""
FIRST = DEFINITIONS.format(fields='Field(name="n", dtype=Int64)', more=1, service="")
#: A service that goes on with the version it was made for.
KEPT = 'kept = FeatureService(name="kept", features=["trips@v0:n"])'
SECOND = DEFINITIONS.format(
    fields='Field(name="n", dtype=Int64), Field(name="rate", dtype=Float64)', more=100, service=KEPT
)


@contextmanager
def world(folder: Path, online: str) -> Iterator[tuple[FeatureClient, FeatureStore]]:
    """Version 0 of trips was materialized with n = 1; then came version 1, and n = 2."""
    repo = write_repo(folder, online, FIRST)
    settings = repo / "feature_store.yaml"
    settings.write_text(settings.read_text().replace("  path: data/registry.db", VERSIONED))
    for definitions, n in ((FIRST, 1), (SECOND, 2)):
        (repo / "definitions.py").write_text(definitions)
        event = pa.array([ago(5)] if n == 1 else [ago(5), ago(1)], pa.timestamp("us", tz="UTC"))
        rows = {"driver_id": [1] * n, "event_timestamp": event, "n": [1, 2][:n], "rate": [0.1, 0.2][:n]}
        pq.write_table(pa.table(rows), repo / "data" / "trips.parquet")
        apply(repo)
        # `feast apply` leaves out the table of a new version; the SDK's apply makes it.
        store = FeatureStore(str(repo))
        store.apply(store.list_feature_views())
        with running_server(settings_for(repo), build) as address, FeatureClient(address) as client:
            for _ in client.materialize(["trips"], start=ago(20), end=ago(0.1)):
                pass
            if definitions is SECOND:
                yield client, FeatureStore(str(repo))


@pytest.fixture(scope="module")
def sqlite(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[FeatureClient, FeatureStore]]:
    with world(tmp_path_factory.mktemp("sqlite"), SQLITE) as found:
        yield found


@pytest.fixture(scope="module")
def packed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[FeatureClient, FeatureStore]]:
    with world(tmp_path_factory.mktemp("packed"), LMDB) as found:
        yield found


REFERENCES = ["trips@v0:n", "trips@v1:n", "trips@v1:rate", "trips:rate", "grown@v0:more", "grown@v1:more"]


def test_a_join_reads_versions_as_the_sdk_does(sqlite: tuple[FeatureClient, FeatureStore]) -> None:
    client, store = sqlite
    rows = pa.table({"driver_id": [1, 1, 2], "event_timestamp": [ago(3), ago(0.5), ago(0.5)]})
    reader = client.get_historical_features(REFERENCES, rows, full_feature_names=True)
    found = reader.read_all().to_pydict()
    assert found["trips@v0__n"] == found["trips@v1__n"] == [1, 2, None]
    assert found["trips@v1__rate"] == found["trips__rate"] == [0.1, 0.2, None]
    assert found["grown@v0__more"] == [2, 3, None]
    assert found["grown@v1__more"] == [101, 102, None]
    told = store.get_historical_features(rows.to_pandas(), REFERENCES, full_feature_names=True).to_arrow()
    for name in (name for name in found if "__" in name):
        assert told[name].to_pylist() == found[name]


def test_a_store_of_feasts_answers_online_as_the_sdk_does(sqlite: tuple[FeatureClient, FeatureStore]) -> None:
    """Each version has a table of its own, with the rows that were materialized under it."""
    client, store = sqlite
    found = client.get_online_features(REFERENCES, {"driver_id": [1]}, full_feature_names=True).values
    told = store.get_online_features(REFERENCES[:4], [{"driver_id": 1}], full_feature_names=True).to_dict()
    assert told.pop("driver_id") == [1]
    assert {name: found[name].to_pylist() for name in told} == told
    assert told == {"trips@v0__n": [1], "trips@v1__n": [2], "trips@v1__rate": [0.2], "trips__rate": [0.2]}
    # Of what computes from trips, the SDK reads the table of version 0; here it is the present one.
    assert (found["grown@v0__more"].to_pylist(), found["grown@v1__more"].to_pylist()) == ([3], [102])


def test_a_packed_store_answers_the_present_version_and_refuses_others(
    packed: tuple[FeatureClient, FeatureStore],
) -> None:
    client, store = packed
    for references in (["trips@v1:n", "trips@V1:rate"], ["trips@latest:n", "trips:rate"]):
        found = client.get_online_features(references, {"driver_id": [1]})
        assert {name: found.values[name].to_pylist() for name in ("n", "rate")} == {"n": [2], "rate": [0.2]}
    for selection in (["trips@v0:n"], "kept"):
        with pytest.raises(SourceUnreadable, match="the present version of a view only; read 'trips'"):
            client.get_online_features(selection, {"driver_id": [1]})
    with pytest.raises(VersionedOnlineReadNotSupported):
        store.get_online_features(["trips@v1:n"], [{"driver_id": 1}])


def test_a_service_keeps_to_the_version_it_names(packed: tuple[FeatureClient, FeatureStore]) -> None:
    client, _ = packed
    rows = pa.table({"driver_id": [1], "event_timestamp": [ago(0.5)]})
    found = client.get_historical_features("kept", rows, full_feature_names=True).read_all()
    assert found["trips@v0__n"].to_pylist() == [2]
    assert [item.view for item in client.get_feature_service("kept").projections] == ["trips@v0"]


def test_versions_that_are_not_there_are_named(packed: tuple[FeatureClient, FeatureStore]) -> None:
    client, _ = packed
    for reference in ("trips@v7:n", "nobody@v0:n"):
        with pytest.raises(ViewNotFound) as caught:
            client.get_online_features([reference], {"driver_id": [1]})
        assert ("there is v0, v1" in caught.value.message) == (reference == "trips@v7:n")
    with pytest.raises(FeatureNotFound, match="'trips@v0' has no feature 'rate'"):
        client.get_online_features(["trips@v0:rate"], {"driver_id": [1]})
    with pytest.raises(ViewNotFound):
        client.push("trips@v0", {"driver_id": [1], "event_timestamp": [ago(0)], "n": [1]})
