"""Joins that are stopped, and joins beyond their memory."""

from __future__ import annotations

import threading
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from feature_service.domain import KnownAt, ValueType
from feature_service.stores.asof_join import AsofJoin, JoinLimits
from feature_service.stores.asof_sql import SourceColumn, SourceView
from plumbline.errors import Cancelled, ResourceExhausted
from tests.unit.feature_service.joining import micros, view, write
from tests.unit.feature_service.oracle import Row


def join_again_and_again(join: AsofJoin, plan: SourceView) -> None:
    for _ in range(100):
        join.join(plan, KnownAt.CREATED_BY_THEN)


def test_an_interrupted_join_is_cancelled_and_leaves_no_files(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    count = 1_000_000
    table = pa.table(
        {
            "key": pa.array(rng.integers(0, 1000, count)),
            "event": pa.array(rng.integers(0, 10**15, count)).cast(pa.timestamp("us")),
            "value": pa.array(rng.integers(0, 10, count)),
        }
    )
    pq.write_table(table, tmp_path / "big.parquet")
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    with AsofJoin(JoinLimits("1GB", 1, str(scratch))) as join:
        join.set_entities(pa.array(rng.integers(0, 10**15, count)), [pa.array(rng.integers(0, 1000, count))])
        keyed = view(
            tmp_path / "big.parquet", keys=[SourceColumn("e0", "key", ValueType.INT64)], created=None
        )
        timer = threading.Timer(0.05, join.interrupt)
        timer.start()
        with pytest.raises(Cancelled):
            join_again_and_again(join, keyed)
        timer.join()
    assert list(scratch.iterdir()) == []


def test_a_join_beyond_its_memory_says_so(tmp_path: Path) -> None:
    path = write(tmp_path / "t.parquet", [Row(f"k{i}", i, i, i) for i in range(50_000)])
    names = [pa.array([f"k{i}" for i in range(50_000)])]
    with AsofJoin(JoinLimits("1MB", 1, str(tmp_path))) as join:
        join.set_entities(micros([1]), [pa.array(["k1"])])
        with pytest.raises(ResourceExhausted, match="memory"):
            join.join(view(path), KnownAt.CREATED_BY_THEN)
    with AsofJoin(JoinLimits("1MB", 1, str(tmp_path))) as join, pytest.raises(ResourceExhausted):
        join.set_entities(micros(range(50_000)), names)
