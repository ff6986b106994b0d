"""Rows added to sources by the SDK, and what materialization pulls from them."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from feast import FeatureStore
from feast.data_source import PushMode
from feast.feature_logging import LoggingConfig
from feast.infra.offline_stores.file_source import FileLoggingDestination

from feature_service.stores import parquet
from feature_service.stores.asof import AsofOfflineStore
from tests.integration.feature_service.offline_sdk.reading import read, rows
from tests.integration.feature_service.offline_sdk.repo import MICROS, at


class TestWrites:
    def test_a_push_is_joined(self, store: FeatureStore) -> None:
        """The names are those of the source; Feast applies the view's field_mapping, which we undo."""
        pushed = pd.DataFrame(
            {"drv": [77], "event_timestamp": [at(5)], "created": [at(5)], "r": [0.77], "trips": [7]},
            index=[9],
        )
        store.push("stats_push", pushed, to=PushMode.OFFLINE)
        store.push("stats_push", pushed, to=PushMode.OFFLINE)
        found = read(store, rows([6], driver_id=[77]), "stats:rate", "stats:trips")
        assert (found["rate"], found["trips"]) == ([0.77], [7])
        assert len(list((Path(store.repo_path) / "data" / "stats.parquet.d").iterdir())) == 1

    def test_a_push_to_object_storage_is_joined(self, store: FeatureStore) -> None:
        for value in (0.1, 0.2):
            pushed = pd.DataFrame({"driver_id": [78], "event_timestamp": [at(5)], "score": [value]})
            store.push("cloud_push", pushed, to=PushMode.OFFLINE)
        assert read(store, rows([6], driver_id=[78]), "cloud:score")["score"] == [0.2]

    def test_rows_are_added_to_a_tree(self, store: FeatureStore) -> None:
        columns = {"event_timestamp": [at(1)], "v": [9.0], "region": ["new"], "year": [2030], "month": ["07"]}
        store.write_to_offline_store("tree", pd.DataFrame(columns))
        found = read(store, rows([2, 2], region=["new", "eu"]), "tree:v", "tree:year", "tree:month")
        assert (found["v"], found["year"], found["month"]) == ([9.0, 1.0], [2030, 2024], ["07", "01"])

    def test_columns_that_do_not_fit_are_said(self, store: FeatureStore) -> None:
        with pytest.raises(ValueError, match="missing_expected_columns"):
            store.write_to_offline_store("town", pd.DataFrame({"city_id": ["X"]}))

    def test_logged_features(self, store: FeatureStore) -> None:
        table = pa.table({"x": [1, 2], "day": ["mon", "tue"]})
        for partition_by, name in ((None, "plain"), (["day"], "days")):
            place = FileLoggingDestination(path=f"logs/{name}", partition_by=partition_by)
            AsofOfflineStore.write_logged_features(
                store.config, table, None, LoggingConfig(destination=place), store.registry
            )
            folder = str(Path(store.repo_path) / "logs" / name)
            files = parquet.files_of(folder)
            assert sum(pq.read_metadata(file).num_rows for file in files) == 2
            assert parquet.partition_columns(folder, files) == tuple(partition_by or ())


class TestMaterialize:
    def test_online_is_what_was_pulled(self, store: FeatureStore) -> None:
        """With Feast's own engine and online store: key columns, mapped columns, no entities, partitions."""
        store.materialize(at(0), at(4), feature_views=["world", "pair", "town", "tree", "shapes"])
        entities = {"driver_id": [1], "city_id": ["LGA"], "region": ["eu"]}
        features = ["shapes:labels", "world:fuel", "pair:visits", "town:size", "tree:v", "tree:month"]
        found = store.get_online_features(features, entities).to_dict()
        assert found["labels"] == [{"k": "v"}]
        assert found["fuel"] == [1.5]
        assert found["visits"] == [4]
        assert found["size"] == [5]
        assert found["v"] == [2.0]

    def test_pulls(self, store: FeatureStore) -> None:
        source = store.get_feature_view("stats").batch_source

        def pull(name: str, start: datetime, end: datetime) -> pa.Table:
            method = getattr(AsofOfflineStore, f"pull_{name}_from_table_or_query")
            job = method(
                store.config, source, ["drv"], ["r", "trips"], "event_timestamp", "created", start, end
            )
            return job.to_arrow().sort_by([("drv", "ascending"), ("event_timestamp", "ascending")])

        table = pull("all", at(1), at(2))
        assert table["r"].to_pylist() == [0.1, 0.2, 0.9]
        assert table["trips"].to_pylist() == [10, None, 90]
        assert table.schema.field("event_timestamp").type == MICROS
        assert pull("latest", at(0), at(4))["r"].to_pylist() == [0.3, 0.9]
        assert pull("latest", at(2.5), at(2.6)).num_rows == 0
