"""What goes on beside the requests goes on after any fault."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from datetime import timedelta
from pathlib import Path

import pytest

from feature_service.background import sweeping
from feature_service.catalog import Catalog
from feature_service.domain import FeatureView, Field, ValueType, ViewKind
from feature_service.packed.lmdb_rows import LmdbRows
from feature_service.packed.store import PackedOnlineStore
from tests.unit.feature_service.definitions import definitions


class FaultyRows(LmdbRows):
    """A store whose first sweep meets a fault that nobody foresaw."""

    def __init__(self, path: Path) -> None:
        super().__init__(path, sync=False)
        self.swept = 0

    def sweep(self, view: bytes, before_micros: int) -> int:
        self.swept += 1
        if self.swept == 1:
            raise ZeroDivisionError("a fault")
        if self.swept == 3:
            raise asyncio.CancelledError
        return super().sweep(view, before_micros)


def test_sweeping_outlives_any_fault(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    keys = (Field("id", ValueType.INT64),)
    view = FeatureView("p", "v", ViewKind.BATCH, keys, (Field("n", ValueType.INT64),), timedelta(days=1))
    rows = FaultyRows(tmp_path / "rows")
    catalog = Catalog(definitions([view], []))

    async def main() -> None:
        with suppress(asyncio.CancelledError):
            await asyncio.wait_for(sweeping(PackedOnlineStore(rows), catalog, 0.001), 10)

    asyncio.run(main())
    assert rows.swept == 3
    assert "ZeroDivisionError: a fault" in caplog.text
    rows.close()
