"""Entity rows, what the SDK makes of them, and a table of any rows."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from feast import FeatureStore

from tests.integration.feature_service.offline_sdk.repo import MICROS, at
from tests.unit.feature_service.oracle import Row

SECOND = 1_000_000


def rows(days: list[float], **columns: Any) -> pd.DataFrame:
    return pd.DataFrame({**columns, "event_timestamp": [at(day) for day in days]})


def read(store: FeatureStore, entities: Any, *features: str, **others: Any) -> dict[str, list[Any]]:
    table = store.get_historical_features(entities, list(features), **others).to_arrow()
    found: dict[str, list[Any]] = table.to_pydict()
    return found


def write_random(path: Path, table: list[Row]) -> None:
    def moments(values: list[int | None]) -> pa.Array:
        base = int(at(0).timestamp()) * SECOND
        return pa.array([None if v is None else base + v * SECOND for v in values], pa.int64()).cast(MICROS)

    pq.write_table(
        pa.table(
            {
                "city_id": pa.array([row.key for row in table], pa.string()),
                "event_timestamp": moments([row.event for row in table]),
                "created": moments([row.created for row in table]),
                "value": pa.array([row.value for row in table], pa.int64()),
            }
        ),
        path,
    )
