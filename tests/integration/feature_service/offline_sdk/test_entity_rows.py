"""Entity rows as people have them: pandas, Arrow, SQL; keys, times and further columns."""

from __future__ import annotations

from datetime import UTC, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from feast import FeatureStore
from feast.errors import FeastEntityDFMissingColumnsError
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from feature_service.domain import KnownAt
from plumbline.features.errors import TypeMismatch
from tests.integration.feature_service.offline_sdk.reading import read, rows, write_random
from tests.integration.feature_service.offline_sdk.repo import at, times
from tests.unit.feature_service.oracle import Row, answer


@pytest.mark.parametrize(
    "keys",
    [
        pd.Series([1, None, 2], dtype=object),
        pd.Series([1, None, 2], dtype="Int64"),
        pd.Series([1, None, 2], dtype="float64"),
        pd.Series([1, None, 2]).astype("category"),
        pd.Series([1, None, 2], dtype="Int8"),
    ],
    ids=["object", "Int64", "float64", "category", "Int8"],
)
def test_keys_as_pandas_has_them(store: FeatureStore, keys: pd.Series) -> None:
    entities = rows([1.5] * 3, driver_id=keys)
    frame = store.get_historical_features(entities, ["stats:rate"]).to_df()
    assert frame["rate"].tolist()[::2] == [0.1, 0.9]
    assert np.isnan(frame["rate"][1])


@pytest.mark.parametrize("unit", ["s", "ms", "us", "ns"])
@pytest.mark.parametrize("zone", [None, "UTC", "Asia/Tokyo"])
def test_times_of_any_resolution_and_zone(store: FeatureStore, unit: str, zone: str | None) -> None:
    moments = pd.to_datetime([at(1), at(2), at(0.99)], utc=True)
    moments = moments.tz_localize(None) if zone is None else moments.tz_convert(zone)
    entities = pd.DataFrame({"driver_id": [1, 1, 1], "event_timestamp": moments.as_unit(unit)})
    assert read(store, entities, "stats:rate")["rate"] == [0.1, 0.2, None]


@pytest.mark.parametrize(
    "moments",
    [
        [at(1).isoformat(), at(2).isoformat()],
        [at(1), at(2).astimezone().replace(tzinfo=UTC)],
        [at(1).date(), at(2).date()],
    ],
    ids=["text", "datetimes", "dates"],
)
def test_times_that_are_objects(store: FeatureStore, moments: list[Any]) -> None:
    entities = pd.DataFrame({"driver_id": [1, 1], "event_timestamp": pd.Series(moments, dtype=object)})
    assert read(store, entities, "stats:rate")["rate"] == [0.1, 0.2]


def test_other_columns_keep_their_types(store: FeatureStore) -> None:
    """Integers with nulls stay integers, on both sides."""
    entities = rows([1.5, 2.5], driver_id=[1, 1])
    entities["label"] = pd.Series([1, None], dtype="Int64")
    entities["kind"] = pd.Series(["a", "b"], dtype="category")
    job = store.get_historical_features(entities, ["stats:trips"])
    table = job.to_arrow()
    assert table.column_names == ["driver_id", "event_timestamp", "label", "kind", "trips"]
    assert table["label"].to_pylist() == [1, None]
    assert table["trips"].to_pylist() == [10, None]
    assert table.schema.field("label").type == table.schema.field("trips").type == pa.int64()
    frame = job.to_df()
    assert str(frame["label"].dtype) == "Int64"
    assert str(frame["kind"].dtype) == "category"


def test_the_only_timestamp_is_the_time(store: FeatureStore) -> None:
    entities = rows([1.5], driver_id=[1]).rename(columns={"event_timestamp": "moment"})
    assert read(store, entities, "stats:rate")["rate"] == [0.1]
    entities["other"] = entities["moment"]
    with pytest.raises(ValueError, match="event_timestamp"):
        read(store, entities, "stats:rate")


def test_no_rows(store: FeatureStore) -> None:
    entities = pd.DataFrame({"driver_id": [], "event_timestamp": []})
    table = store.get_historical_features(entities, ["stats:rate"]).to_arrow()
    assert table.num_rows == 0
    assert table.schema.field("rate").type == pa.float64()


def test_a_query(store: FeatureStore) -> None:
    query = "SELECT n AS driver_id, TIMESTAMP '2024-01-02 12:00' AS event_timestamp FROM range(1, 4) t(n)"
    assert read(store, query, "stats:rate")["rate"] == [0.1, 0.9, None]


def test_an_arrow_table(store: FeatureStore) -> None:
    entities = pa.table({"driver_id": [1], "event_timestamp": times(1.5)})
    assert read(store, entities, "stats:rate")["rate"] == [0.1]


def test_what_cannot_be_joined_is_said(store: FeatureStore) -> None:
    with pytest.raises(FeastEntityDFMissingColumnsError, match="driver_id"):
        read(store, rows([1], other=[1]), "stats:rate")
    with pytest.raises(ValueError, match="null in row 1"):
        read(store, pd.DataFrame({"driver_id": [1, 1], "event_timestamp": [at(1), None]}), "stats:rate")
    with pytest.raises(ValueError, match="not a timestamp"):
        read(store, pd.DataFrame({"driver_id": [1], "event_timestamp": [5]}), "stats:rate")
    with pytest.raises(ValueError, match="'rate': ask for full_feature_names"):
        read(store, rows([1], driver_id=[1], rate=[0]), "stats:rate")
    with pytest.raises(TypeMismatch, match="INT64"):
        read(store, rows([1], driver_id=["one"]), "stats:rate")
    with pytest.raises(TypeMismatch, match="INT64"):
        read(store, rows([1], driver_id=[1.5]), "stats:rate")
    with pytest.raises(ValueError, match="is a list"):
        read(store, [{"driver_id": 1}], "stats:rate")


KEYS = st.sampled_from(["a", "b", None])
MOMENTS = st.integers(0, 6)
ROWS = st.builds(Row, KEYS, st.none() | MOMENTS, st.none() | MOMENTS, st.none() | st.integers(0, 3))


@settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    table=st.lists(ROWS, max_size=12),
    entities=st.lists(st.tuples(KEYS, st.integers(0, 7)), min_size=1, max_size=8),
    known_at=st.sampled_from(KnownAt),
)
def test_the_sdk_answers_as_the_oracle(
    store: FeatureStore, table: list[Row], entities: list[tuple[str | None, int]], known_at: KnownAt
) -> None:
    write_random(Path(store.repo_path) / "data" / "random.parquet", table)
    frame = pd.DataFrame(
        {
            "city_id": pd.Series([key for key, _ in entities], dtype=object),
            "event_timestamp": [at(0) + timedelta(seconds=moment) for _, moment in entities],
        }
    )
    store.config.offline_store.known_at = known_at is KnownAt.CREATED_BY_THEN
    try:
        found = read(store, frame, "random:value")
    finally:
        store.config.offline_store.known_at = True
    assert found["city_id"] == [key for key, _ in entities]
    assert found["value"] == [answer(table, key, moment, 3, known_at)[1] for key, moment in entities]
