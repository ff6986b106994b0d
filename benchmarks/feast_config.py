"""feature_store.yaml of the benchmarks' repositories, and the stores that contend in it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

#: A store or an engine, as feature_store.yaml has it: its type and options.
Options = Mapping[str, object]

LMDB: Options = {"type": "feature_service.stores.lmdb.LmdbOnlineStore", "path": "data/online.lmdb"}
SQLITE: Options = {"type": "sqlite", "path": "data/online.db"}
ASOF: Options = {"type": "feature_service.stores.asof.AsofOfflineStore"}
DUCKDB: Options = {"type": "duckdb"}
FILE: Options = {"type": "file"}
PACKED_ENGINE: Options = {"type": "feature_service.stores.engine.PackedComputeEngine"}
LOCAL_ENGINE: Options = {"type": "local"}


def packed_redis(address: str) -> Options:
    """Packed rows in Redis. address: host:port."""
    return {"type": "feature_service.stores.redis.RedisOnlineStore", "connection_string": address}


def feast_redis(address: str) -> Options:
    """Feast's own rows in Redis. address: host:port."""
    return {"type": "redis", "connection_string": address}


def write_config(folder: Path, online: Options, offline: Options, engine: Options | None = None) -> None:
    """Writes feature_store.yaml. engine: Feast's default unless given."""
    config: dict[str, object] = {
        "project": "bench",
        "provider": "local",
        "registry": {"path": "data/registry.db"},
        "online_store": online,
        "offline_store": offline,
        "entity_key_serialization_version": 3,
    }
    if engine is not None:
        config["batch_engine"] = engine
    # JSON is YAML.
    (folder / "feature_store.yaml").write_text(json.dumps(config, indent=2))
