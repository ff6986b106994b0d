"""What is asked for: several views, versions, names, on-demand views, ranges of dates."""

from __future__ import annotations

import pytest
from feast import FeatureStore
from feast.feature_view import FeatureViewState

from feature_service.feast_adapters.repo import FeastRepo
from tests.integration.feature_service.offline_sdk.reading import read, rows
from tests.integration.feature_service.offline_sdk.repo import at


def test_several_views_and_full_names(store: FeatureStore) -> None:
    entities = rows([3.5], driver_id=[1], city_id=["JFK"])
    found = read(
        store, entities, "stats:rate", "pair:visits", "world:fuel", "town:size", full_feature_names=True
    )
    assert {name: values[0] for name, values in found.items() if "__" in name} == {
        "stats__rate": 0.2,
        "pair__visits": 6,
        "world__fuel": 1.5,
        "town__size": 7,
    }


def test_one_view_joined_twice_by_other_keys(store: FeatureStore) -> None:
    entities = rows([2], from_city=["LGA"], to_city=["JFK"])
    job = store.get_historical_features(entities, store.get_feature_service("route"), True)
    assert job.to_df().iloc[0][["origin__size", "destination__size"]].tolist() == [5, 7]


def test_on_demand_views_with_request_data(store: FeatureStore) -> None:
    entities = rows([2.5, 100], driver_id=[1, 1], factor=[10.0, 10.0])
    found = read(store, entities, "scaled:scaled", "stats:trips")
    assert found["scaled"][0] == 2.0
    assert found["trips"] == [None, None]


def test_versions_of_a_view(store: FeatureStore) -> None:
    entities = rows([2], driver_id=[1])
    found = read(store, entities, "revised@v0:a", "revised@v1:a", "revised@v1:b", full_feature_names=True)
    assert found["revised@v0__a"] == found["revised@v1__a"] == [1]
    assert found["revised@v1__b"] == ["two"]
    assert read(store, entities, "revised@latest:b", "revised:a")["b"] == ["two"]
    assert store.get_feature_view("revised").current_version_number == 1


def test_a_range_of_dates_instead_of_entity_rows(store: FeatureStore) -> None:
    """As Feast's default store answers it: each entity as it is at the end."""
    found = read(store, None, "stats:rate", start_date=at(0), end_date=at(2.5))
    assert found == {"event_timestamp": [at(2.5)] * 2, "driver_id": [1, 2], "rate": [0.2, 0.9]}
    found = read(store, None, "stats:rate", start_date=at(1.5), end_date=at(2.5))
    assert found["driver_id"] == [1]
    found = read(store, None, "world:fuel", start_date=at(0), end_date=at(2))
    assert found == {"event_timestamp": [at(2)], "fuel": [1.25]}
    with pytest.raises(ValueError, match="same join keys"):
        read(store, None, "stats:rate", "town:size", start_date=at(0), end_date=at(2))


def test_metadata(store: FeatureStore) -> None:
    job = store.get_historical_features(rows([1, 4], driver_id=[1, 1], label=[0, 1]), ["stats:rate"])
    metadata = job.metadata
    assert metadata is not None
    assert metadata.features == ["stats:rate"]
    assert metadata.keys == ["driver_id", "label"]
    assert (metadata.min_event_timestamp, metadata.max_event_timestamp) == (at(1), at(4))


def test_a_view_that_is_materializing(store: FeatureStore) -> None:
    """Feast refuses before it asks any store; the registry's own switch lets it through."""
    entities = rows([2], city_id=["LGA"])
    before = store.registry.get_feature_view("town", store.project)
    materializing = store.registry.get_feature_view("town", store.project)
    materializing.state = FeatureViewState.MATERIALIZING
    store.registry.apply_feature_view(materializing, store.project)
    try:
        with pytest.raises(ValueError, match="MATERIALIZING"):
            read(store, entities, "town:size")
        store.registry.serve_features_while_materializing = True
        assert read(store, entities, "town:size")["size"] == [5]
        # And so does our own service, whatever the state.
        assert FeastRepo(store.config).load().views["town"].source is not None
    finally:
        store.registry.serve_features_while_materializing = False
        store.registry.apply_feature_view(before, store.project)
