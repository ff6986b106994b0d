"""The embedded online store, as a Feast user names it in feature_store.yaml:

online_store:
  type: feature_service.stores.lmdb.LmdbOnlineStore
  path: data/online.lmdb
"""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Literal

from feast.repo_config import FeastConfigBaseModel, RepoConfig
from pydantic import ByteSize, Field

from feature_service.packed.lmdb_rows import DEFAULT_CACHE, DEFAULT_MAP_SIZE, LmdbRows
from feature_service.ports import RowStore
from feature_service.stores.packed import PackedStore


class LmdbOnlineStoreConfig(FeastConfigBaseModel):
    """path: a folder, from the repository's on; where a file is in its place, as the one that Feast's SQLite
    store left, ".lmdb" is added to the name. map_size: the most it may grow to, as "64GiB"; address space,
    not disk. sync: whether a write waits for the disk. retention_seconds: how long a row stays after its
    view's ttl; null: for good. row_cache: the most that each process keeps of the rows it has read in its own
    memory, always as the store's last commit has them; 0: nothing."""

    type: Literal["feature_service.stores.lmdb.LmdbOnlineStore"] = (
        "feature_service.stores.lmdb.LmdbOnlineStore"
    )
    path: str = "data/online.lmdb"
    map_size: ByteSize = ByteSize(DEFAULT_MAP_SIZE)
    sync: bool = True
    retention_seconds: float | None = Field(86_400, ge=0)
    row_cache: ByteSize = ByteSize(DEFAULT_CACHE)


class LmdbOnlineStore(PackedStore):
    """Packed rows in LMDB, for Feast's SDK, command line and servers."""

    def open_rows(
        self, config: RepoConfig, *, timeout: float | None = None, keep_expired: bool = False
    ) -> RowStore:
        """See PackedStore."""
        options: LmdbOnlineStoreConfig = config.online_store
        path = Path(config.repo_path or ".") / options.path
        if path.is_file():
            path = path.with_name(f"{path.name}.lmdb")
        seconds = options.retention_seconds
        retention = None if keep_expired or seconds is None else timedelta(seconds=seconds)
        return LmdbRows(
            path,
            map_size=int(options.map_size),
            sync=options.sync,
            retention=retention,
            cache=int(options.row_cache),
        )
