"""What the tests of joins share: views over small files, and how files and entity rows are made."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from feature_service.domain import ValueType
from feature_service.stores.asof_join import JoinLimits
from feature_service.stores.asof_sql import ParquetRows, SourceColumn, SourceView
from tests.unit.feature_service.oracle import Row

SECOND = 1_000_000
LIMITS = JoinLimits(memory="500MB", threads=1)


def view(
    *files: Path,
    keys: Sequence[SourceColumn] = (SourceColumn("e0", "key", ValueType.STRING),),
    features: Sequence[SourceColumn] = (SourceColumn("value", "value", ValueType.INT64),),
    created: str | None = "created",
    ttl: int | None = None,
) -> SourceView:
    rows = ParquetRows(tuple(map(str, files)), "event", created)
    return SourceView("v", rows, tuple(keys), tuple(features), tuple(features), ttl)


def times(values: Sequence[int | None]) -> pa.Array:
    naive = pa.array([None if v is None else v * SECOND for v in values], pa.timestamp("us"))
    return naive.cast(pa.timestamp("us", tz="UTC"))


def write(path: Path, rows: Sequence[Row]) -> Path:
    pq.write_table(
        pa.table(
            {
                "key": pa.array([r.key for r in rows], pa.string()),
                "event": times([r.event for r in rows]),
                "created": times([r.created for r in rows]),
                "value": pa.array([r.value for r in rows], pa.int64()),
            }
        ),
        path,
    )
    return path


def micros(moments: Sequence[int]) -> pa.Array:
    return pa.array([m * SECOND for m in moments], pa.int64())
