"""An online store of each kind, over an applied repository."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

# Before Feast, which would point it to files of its own.
import prometheus_client  # noqa: F401
import pytest

from feature_service.domain import FeatureView
from feature_service.feast_apply import apply
from feature_service.feast_online import FeastOnlineStore
from feature_service.feast_repo import FeastRepo, load_config
from tests.integration.feature_service.repo import SQLITE, write_repo


@dataclass(frozen=True)
class Opened:
    """A store and the views it has room for."""

    kind: str
    store: FeastOnlineStore
    views: Mapping[str, FeatureView]


@pytest.fixture(scope="session", params=["sqlite", "redis"])
def opened(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Opened:
    """The store; tests share it, so each uses keys of its own."""
    folder: Path = tmp_path_factory.mktemp(f"repo-{request.param}")
    online = SQLITE
    if request.param == "redis":
        online = f"  type: redis\n  connection_string: {request.getfixturevalue('redis_address')}"
    apply(write_repo(folder, online))
    repo = FeastRepo(load_config(folder))
    return Opened(request.param, FeastOnlineStore(repo.config, timeout=5), repo.load().views)
