"""Sources of every shape, and what is said of those that cannot be read."""

from __future__ import annotations

import logging
from pathlib import Path

import pyarrow as pa
import pytest
from feast import FeatureStore, FileSource
from feast.infra.offline_stores.bigquery_source import BigQuerySource

from feature_service.stores.asof import AsofOfflineStore
from plumbline.features.errors import SourceUnreadable
from tests.integration.feature_service.offline_sdk.reading import read, rows


def test_files_of_other_columns_resolutions_and_zones(store: FeatureStore) -> None:
    found = read(store, rows([1, 2, 3, 9], driver_id=[1] * 4), "mixed:x", "mixed:y")
    assert found["x"] == [1.0, None, 3.0, 3.0]
    assert found["y"] == [None, 2, 3, 3]


def test_partition_columns_are_keys_and_features_of_the_declared_types(store: FeatureStore) -> None:
    entities = rows([2, 4, 2, 2], region=["eu", "eu", "south sea", "moon"])
    table = store.get_historical_features(entities, ["tree:v", "tree:year", "tree:month"]).to_arrow()
    assert table["v"].to_pylist() == [1.0, 2.0, 3.0, None]
    assert table["year"].to_pylist() == [2024, 2024, 2023, None]
    assert table["month"].to_pylist() == ["01", "02", "12", None]
    assert table.schema.field("year").type == pa.int32()


def test_an_empty_folder(store: FeatureStore) -> None:
    found = read(store, rows([1, 2], driver_id=[1, 2]), "empty:nothing", "empty:shape")
    assert found["nothing"] == found["shape"] == [None, None]


def test_maps_structs_and_lists(store: FeatureStore) -> None:
    """The repository that `feast init` makes has them."""
    found = read(store, rows([2, 2], driver_id=[1, 2]), "shapes:labels", "shapes:profile", "shapes:tags")
    assert found["labels"] == [{"k": "v"}, None]
    assert found["profile"] == [{"name": "Ann"}, None]
    assert found["tags"] == [["a", "b"], None]


def test_object_storage(store: FeatureStore) -> None:
    assert read(store, rows([1, 5, 0], driver_id=[1] * 3), "cloud:score")["score"] == [0.5, 0.75, None]


def test_a_source_that_is_gone_is_said(store: FeatureStore) -> None:
    path = Path(store.repo_path) / "data" / "pair.parquet"
    moved = path.rename(path.with_suffix(".moved"))
    with pytest.raises(SourceUnreadable, match=r"data/pair\.parquet does not exist"):
        read(store, rows([1], driver_id=[1], city_id=["LGA"]), "pair:visits")
    moved.rename(path)


def test_sources_of_other_kinds_are_refused(store: FeatureStore) -> None:
    other = BigQuerySource(name="big", table="a.b", timestamp_field="t")
    with pytest.raises(ValueError, match="big is a BigQuerySource"):
        AsofOfflineStore.pull_all_from_table_or_query(store.config, other, [], [], "t")


def test_columns_and_types_are_those_of_all_files(store: FeatureStore) -> None:
    provider = store._get_provider()
    mixed, tree = store.get_data_source("data/mixed"), store.get_data_source("data/tree")
    found = dict(provider.get_table_column_names_and_types_from_data_source(store.config, mixed))
    assert found.keys() == {"driver_id", "event_timestamp", "x", "y"}
    found = dict(provider.get_table_column_names_and_types_from_data_source(store.config, tree))
    assert found.keys() == {"event_timestamp", "v", "region", "year", "month"}


def test_a_source_that_cannot_be_used_is_said_at_apply(
    store: FeatureStore, caplog: pytest.LogCaptureFixture
) -> None:
    provider = store._get_provider()
    with caplog.at_level(logging.WARNING, "plumbline.features"):
        provider.validate_data_source(
            store.config, FileSource(name="lost", path="data/lost.parquet", timestamp_field="t")
        )
        provider.validate_data_source(
            store.config, FileSource(name="odd", path="data/pair.parquet", timestamp_field="when")
        )
    assert "source lost cannot be read: no such file" in caplog.text
    assert "source odd has no column ['when']" in caplog.text
