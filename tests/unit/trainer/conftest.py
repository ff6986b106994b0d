"""A small job: things scored daily in 2024, whose label is known two days later."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from opentelemetry.sdk.trace import TracerProvider

from tests.unit.trainer.fakes import FakeFeatures, FakeRegistry, RecordingReporter
from trainer.config import TrainingConfig
from trainer.domain import CodeRevision, Environment
from trainer.job import Job
from trainer.steps import Steps

ROWS = 3_000
START = datetime(2024, 1, 1, tzinfo=UTC)


def entity_table(rows: int = ROWS, seed: int = 0) -> pa.Table:
    """Entity rows five minutes apart; the label leans on `thing` and, as features do, on the row's number."""
    rng = np.random.default_rng(seed)
    shop = rng.choice(["Ålesund", "Bergen", "Oslo"], rows)
    moments = [START + timedelta(minutes=5 * i) for i in range(rows)]
    lean = 0.2 + 0.5 * feature_signal(rows) + 0.2 * (shop == "Oslo")
    return pa.table(
        {
            "row": np.arange(rows),
            "event_timestamp": pa.array(moments, pa.timestamp("us", tz="UTC")),
            "thing": pa.array(rng.integers(0, 50, rows)),
            "shop": pa.array(shop),
            "late": pa.array((rng.random(rows) < lean).astype(np.int64)),
            "known_at": pa.array([m + timedelta(hours=2) for m in moments], pa.timestamp("us", tz="UTC")),
        }
    )


def feature_signal(rows: int) -> np.ndarray[Any, Any]:
    return np.random.default_rng(7).random(rows)


def feature_table(rows: int = ROWS) -> pa.Table:
    """Features row by row: one that tells, one that does not, one text with nulls."""
    rng = np.random.default_rng(8)
    kinds = np.where(feature_signal(rows) > 0.5, "warm", "cold").astype(object)
    kinds[rng.random(rows) < 0.1] = None
    return pa.table(
        {
            "signal": pa.array(feature_signal(rows)),
            "noise": pa.array(rng.integers(0, 9, rows), pa.int64(), mask=rng.random(rows) < 0.2),
            "kind": pa.array(kinds, pa.string()),
        }
    )


def fake_features(values: pa.Table | None = None, **more: Any) -> FakeFeatures:
    """feature_service answering with feature_table()."""
    table = feature_table() if values is None else values
    return FakeFeatures(table, pa.schema([("thing", pa.int64()), ("shop", pa.string())]), **more)


def config_values(folder: Path, **changes: Any) -> dict[str, Any]:
    """A configuration for entity_table(); `changes` replace whole groups."""
    values: dict[str, Any] = {
        "model": "late_things",
        "entity_rows": {
            "path": str(folder / "entities.parquet"),
            "label": "late",
            "label_timestamp": "known_at",
            "row_id": ["row"],
        },
        "features": {"service": "service"},
        "inputs": {"entity_columns": ["shop"]},
        "split": {"valid_start": "2024-01-07T00:00:00Z", "test_start": "2024-01-09T00:00:00Z"},
        "training": {
            "num_boost_round": 20,
            "early_stopping_rounds": 5,
            "threads": 1,
            "parameters": {"num_leaves": 7, "min_data_in_leaf": 5},
        },
        "baselines": [{"name": "without_features", "inputs": ["shop"]}],
        "snapshot_dir": str(folder / "snapshots"),
    }
    return values | changes


@dataclass
class Bench:
    """All that a job needs, in memory."""

    folder: Path
    features: FakeFeatures
    registry: FakeRegistry
    reporter: RecordingReporter

    def job(self, *, dry_run: bool = False, lease: timedelta = timedelta(minutes=1), **changes: Any) -> Job:
        tracer = TracerProvider().get_tracer("test")
        return Job(
            TrainingConfig.model_validate(config_values(self.folder, **changes)),
            self.features,
            None if dry_run else self.registry,
            Steps(tracer, self.reporter),
            self.reporter,
            CodeRevision("shop", "0123abc", dirty=False),
            Environment(("numpy==2",), "sha256:" + "0" * 64, "3.11.7", "Linux-6"),
            lease,
        )

    def write_entities(self, table: pa.Table) -> None:
        pq.write_table(table, self.folder / "entities.parquet")


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    made = Bench(tmp_path, fake_features(), FakeRegistry(), RecordingReporter())
    made.write_entities(entity_table())
    return made
