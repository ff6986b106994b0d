"""Where a historical read's result goes: saved datasets, folders, object storage."""

from __future__ import annotations

from pathlib import Path

import pyarrow.parquet as pq
import pytest
from feast import FeatureStore
from feast.errors import SavedDatasetLocationAlreadyExists
from feast.infra.offline_stores.file_source import SavedDatasetFileStorage

from feature_service.stores import parquet, remote
from feature_service.stores.asof import AsofOfflineStore
from tests.integration.feature_service.offline_sdk.reading import rows
from tests.integration.feature_service.offline_sdk.repo import at


def test_a_saved_dataset(store: FeatureStore) -> None:
    job = store.get_historical_features(rows([1.5, 2.5], driver_id=[1, 2]), ["stats:rate"])
    place = SavedDatasetFileStorage("saved/set.parquet")
    with pytest.warns(RuntimeWarning, match="experimental"):
        saved = store.create_saved_dataset(job, "set", place)
    assert saved.min_event_timestamp == at(1.5)
    with pytest.warns(RuntimeWarning, match="experimental"):
        frame = store.get_saved_dataset("set").to_df()
    assert sorted(frame["rate"]) == [0.1, 0.9]
    with pytest.raises(SavedDatasetLocationAlreadyExists):
        job.persist(place)
    job.persist(place, allow_overwrite=True)


def test_results_in_folders_and_in_object_storage(store: FeatureStore, s3_endpoint: str) -> None:
    job = store.get_historical_features(rows([1.5], driver_id=[1]), ["stats:rate"])
    job.persist(SavedDatasetFileStorage("saved/folder"))
    job.persist(SavedDatasetFileStorage("saved/folder"), allow_overwrite=True)
    written = pq.read_table(Path(store.repo_path) / "saved" / "folder")
    assert written["rate"].to_pylist() == [0.1]
    with pytest.raises(ValueError, match="holds other files"):
        job.persist(SavedDatasetFileStorage("data/mixed"), allow_overwrite=True)
    uri = "s3://plumbline/saved/set.parquet"
    place = SavedDatasetFileStorage(uri, s3_endpoint_override=s3_endpoint)
    job.persist(place)
    assert parquet.schema_of(remote.at_endpoint(uri, s3_endpoint)).names[-1] == "rate"
    with pytest.raises(SavedDatasetLocationAlreadyExists):
        job.persist(place)


def test_an_export(store: FeatureStore) -> None:
    job = store.get_historical_features(rows([1.5], driver_id=[1]), ["stats:rate"])
    assert job.supports_remote_storage_export()
    (part,) = job.to_remote_storage()
    assert pq.read_table(part)["rate"].to_pylist() == [0.1]


def test_there_is_no_sql(store: FeatureStore) -> None:
    job = store.get_historical_features(rows([1.5], driver_id=[1]), ["stats:rate"])
    with pytest.raises(ValueError, match="no SQL text"):
        job.to_sql()


def test_metrics_of_monitoring_are_refused(store: FeatureStore) -> None:
    with pytest.raises(ValueError, match="keeps no metrics"):
        AsofOfflineStore.ensure_monitoring_tables(store.config)
