"""What Feast 0.67 gets wrong in historical reads is right here: named for the errors, and the cutoff."""

from __future__ import annotations

import logging
from datetime import timedelta
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from feast import FeatureStore

from tests.integration.feature_service.offline_sdk.reading import read, rows, write_random
from tests.integration.feature_service.offline_sdk.repo import at
from tests.unit.feature_service.oracle import Row


class TestFeastsErrors:
    """Named for the errors in Feast 0.67 that they guard against."""

    def test_dropped_duplicate_entity_rows(self, store: FeatureStore) -> None:
        """Feast's default store drops entity rows that share key and time (feast#6787)."""
        entities = rows([3.5] * 3 + [0.5, 100], driver_id=[1, 1, 1, 1, 1])
        found = read(store, entities, "stats:rate")
        assert found["driver_id"] == [1] * 5
        # Nor does it keep those without a row, or with one that is too old.
        assert found["rate"] == [0.2, 0.2, 0.2, None, None]

    def test_nanosecond_zone_aware_parquet(self, store: FeatureStore) -> None:
        """Feast's DuckDB store raises a ConversionException for what pandas writes."""
        assert read(store, rows([1, 2.5], driver_id=[1, 2]), "stats:rate")["rate"] == [0.1, 0.9]

    def test_late_data_leaks_into_the_past(self, store: FeatureStore) -> None:
        """For Feast the created column only breaks ties, unless a call asks otherwise (feast#6615)."""
        entities = rows([3.5, 4, 9], driver_id=[1, 1, 1])
        assert read(store, entities, "stats:rate")["rate"] == [0.2, 0.2, None]

    def test_reordered_rows(self, store: FeatureStore) -> None:
        rng = np.random.default_rng(7)
        days = rng.uniform(1, 2, 500).round(3).tolist()
        entities = rows(days, driver_id=rng.integers(1, 3, 500), n=range(500))
        entities.index = pd.Index(rng.permutation(500))
        frame = store.get_historical_features(entities, ["stats:rate"]).to_df()
        assert frame["n"].tolist() == list(range(500))
        assert frame.index.tolist() == list(range(500))
        assert frame["rate"].tolist() == [0.1 if key == 1 else 0.9 for key in entities["driver_id"]]


class TestKnownAt:
    def test_it_can_be_switched_off(self, feasts_own: FeatureStore) -> None:
        entities = rows([3.5], driver_id=[1])
        assert read(feasts_own, entities, "stats:rate")["rate"] == [0.3]

    def test_each_call_may_ask_for_it_as_in_feast(self, feasts_own: FeatureStore) -> None:
        entities = rows([3.5], driver_id=[1])
        found = read(feasts_own, entities, "stats:rate", filter_by_created_timestamp=True)
        assert found["rate"] == [0.2]

    def test_a_cutoff_that_leaves_nothing_is_said(
        self, store: FeatureStore, caplog: pytest.LogCaptureFixture
    ) -> None:
        """The data of `feast init` are all created after their events."""
        path = Path(store.repo_path) / "data" / "random.parquet"
        write_random(path, [Row("a", 1, 50, 7)])
        entities = pd.DataFrame({"city_id": ["a"], "event_timestamp": [at(0) + timedelta(seconds=2)]})
        with caplog.at_level(logging.WARNING, "plumbline.features"):
            assert read(store, entities, "random:value")["value"] == [None]
        assert "1 rows would have values" in caplog.text
        assert "known_at: false" in caplog.text
