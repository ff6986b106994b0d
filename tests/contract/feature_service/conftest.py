"""An online store of each kind, over an applied repository."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

from feature_service.domain import FeatureView
from feature_service.feast_adapters.apply import apply
from feature_service.feast_adapters.online import FeastOnlineStore
from feature_service.feast_adapters.online_stores import open_online_store
from feature_service.feast_adapters.repo import FeastRepo, load_config
from feature_service.packed.store import PackedOnlineStore
from tests.conftest import RedisCluster
from tests.integration.feature_service.repo import SQLITE, write_repo

#: As feature_store.yaml names them. "feast-…" are Feast's own, by the generic path.
PACKED = ["lmdb", "redis", "redis-cluster"]
FEAST = ["feast-sqlite", "feast-redis"]


@dataclass(frozen=True)
class Opened:
    """A store and the views it has room for."""

    kind: str
    store: PackedOnlineStore | FeastOnlineStore
    views: Mapping[str, FeatureView]
    folder: Path


def online_yaml(kind: str, request: pytest.FixtureRequest) -> str:
    """The online_store of a feature_store.yaml."""
    match kind:
        case "lmdb":
            return "  type: feature_service.stores.lmdb.LmdbOnlineStore\n  path: data/online.lmdb"
        case "feast-sqlite":
            return SQLITE
        case "feast-redis":
            return f"  type: redis\n  connection_string: {request.getfixturevalue('redis_address')}"
    packed = "  type: feature_service.stores.redis.RedisOnlineStore\n"
    if kind == "redis":
        return packed + f"  connection_string: {request.getfixturevalue('redis_address')}"
    cluster: RedisCluster = request.getfixturevalue("redis_cluster")
    # Two of its nodes are named; the third has to be found.
    nodes = ",".join(cluster.addresses[:2])
    return packed + f"  redis_type: redis_cluster\n  connection_string: {nodes}"


@pytest.fixture(scope="session", params=PACKED + FEAST)
def opened(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Opened]:
    """The store; tests share it, so each uses keys of its own."""
    folder: Path = tmp_path_factory.mktemp(f"repo-{request.param}")
    apply(write_repo(folder, online_yaml(request.param, request)))
    repo = FeastRepo(load_config(folder))
    store = open_online_store(repo.config, timeout=5)
    yield Opened(request.param, store, repo.load().views, folder)
    if isinstance(store, PackedOnlineStore):
        store.close()
