"""Feast online stores as people plug them in, whose configurations look like those of MongoDB, Milvus, Qdrant
and PostgreSQL. What they are to raise is set by the test."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

import psycopg
from feast.infra.online_stores.online_store import OnlineStore
from feast.repo_config import FeastConfigBaseModel

_HERE = __name__


class _Store(OnlineStore):
    """Holds nothing."""

    #: Called by every read and write.
    fails: ClassVar[Callable[[], None] | None] = None

    def _asked(self) -> None:
        if type(self).fails is not None:
            type(self).fails()

    def online_read(self, config: Any, table: Any, entity_keys: Any, requested_features: Any = None) -> Any:
        self._asked()
        return [(None, None)] * len(entity_keys)

    def online_write_batch(self, config: Any, table: Any, data: Any, progress: Any) -> None:
        self._asked()

    def update(self, *_: Any, **__: Any) -> None:
        """Has no tables."""

    def teardown(self, *_: Any, **__: Any) -> None:
        """Has no tables."""


class DocumentOnlineStoreConfig(FeastConfigBaseModel):
    """As MongoDB's."""

    type: str = f"{_HERE}.DocumentOnlineStore"
    connection_string: str = "mongodb://user:secret@db:27017"


class DocumentOnlineStore(_Store):
    """As MongoDB's."""


class VectorOnlineStoreConfig(FeastConfigBaseModel):
    """As those of Milvus and Qdrant."""

    type: str = f"{_HERE}.VectorOnlineStore"
    path: str | None = ""
    host: str | None = "http://localhost"
    token: str | None = "secret"


class VectorOnlineStore(_Store):
    """As those of Milvus and Qdrant."""


class SqlOnlineStoreConfig(FeastConfigBaseModel):
    """As PostgreSQL's."""

    type: str = f"{_HERE}.SqlOnlineStore"
    host: str = "127.0.0.1"
    port: int = 5432
    password: str = "secret"


class SqlOnlineStore(_Store):
    """As PostgreSQL's: connects when it is asked."""

    def online_read(self, config: Any, table: Any, entity_keys: Any, requested_features: Any = None) -> Any:
        options = config.online_store
        words = f"host={options.host} port={options.port} user=u password={options.password} dbname=d"
        with psycopg.connect(words, connect_timeout=5) as connection:
            connection.execute("SELECT 1 FROM nothing")
        return super().online_read(config, table, entity_keys, requested_features)
