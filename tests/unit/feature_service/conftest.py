"""Fixtures of these tests."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from feature_service.stores import array_join
from feature_service.stores.answer import Answer
from feature_service.stores.asof_join import AsofJoin
from feature_service.stores.frontier_join import FrontierJoin
from tests.unit.feature_service.joining import LIMITS


@pytest.fixture
def join() -> Iterator[AsofJoin]:
    with AsofJoin(LIMITS) as opened:
        yield opened


@pytest.fixture(params=["in memory", "in DuckDB"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Joins of rows that fit in memory, or of those that do not, and of none the other way."""
    found: str = request.param
    if found == "in DuckDB":
        monkeypatch.setattr(array_join, "SHARE", 0)
        return found

    def refuse(*_: Any) -> Answer:
        raise AssertionError("these rows fit in memory")

    monkeypatch.setattr(FrontierJoin, "answer", refuse)
    return found
