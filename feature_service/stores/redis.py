"""The online store in Redis or Valkey, as a Feast user names it in feature_store.yaml:

online_store:
  type: feature_service.stores.redis.RedisOnlineStore
  connection_string: redis.internal:6379,password=…
"""

from __future__ import annotations

from datetime import timedelta
from typing import Literal

from feast.repo_config import FeastConfigBaseModel, RepoConfig
from pydantic import Field, model_validator

from feature_service.packed.redis_options import RedisOptions
from feature_service.packed.redis_rows import RedisRows
from feature_service.ports import RowStore
from feature_service.stores.packed import PackedStore

_TIMEOUT = 2.0


class RedisOnlineStoreConfig(FeastConfigBaseModel):
    """connection_string: as Feast's Redis store has it, host:port,parameter=value,…; of a cluster some of its
    nodes. retention_seconds: how long a row stays in memory after its view's ttl; null: for good."""

    type: Literal["feature_service.stores.redis.RedisOnlineStore"] = (
        "feature_service.stores.redis.RedisOnlineStore"
    )
    redis_type: Literal["redis", "redis_cluster"] = "redis"
    connection_string: str = "localhost:6379"
    retention_seconds: float | None = Field(86_400, ge=0)

    @model_validator(mode="after")
    def _parsed(self) -> RedisOnlineStoreConfig:
        self.options(_TIMEOUT)
        return self

    def options(self, timeout: float) -> RedisOptions:
        """How to reach the server. Raises ValueError."""
        return RedisOptions.parse(
            self.connection_string, cluster=self.redis_type == "redis_cluster", timeout=timeout
        )


class RedisOnlineStore(PackedStore):
    """Packed rows in Redis, for Feast's SDK, command line and servers."""

    def open_rows(
        self, config: RepoConfig, *, timeout: float | None = None, keep_expired: bool = False
    ) -> RowStore:
        """See PackedStore."""
        options: RedisOnlineStoreConfig = config.online_store
        seconds = options.retention_seconds
        retention = None if keep_expired or seconds is None else timedelta(seconds=seconds)
        return RedisRows(options.options(timeout or _TIMEOUT), retention=retention)
