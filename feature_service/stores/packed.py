"""What Feast's SDK and command line need to read and write packed rows: an online store class of Feast's.

Beyond what Feast's own stores do: rows older than their view's ttl, or of the future, are not returned; an
older row never replaces a newer one, whoever writes; and what `get_online_features` answers has true statuses
(PRESENT, NULL_VALUE, NOT_FOUND, OUTSIDE_MAX_AGE), read in one round trip for all views. `online_read` alone
cannot say why a row is missing: outside its ttl it is (None, None), which Feast calls NOT_FOUND.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from abc import abstractmethod
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pyarrow as pa
from feast import Entity, utils
from feast import FeatureView as FeastView
from feast.infra.key_encoding_utils import serialize_entity_key
from feast.infra.online_stores.online_store import OnlineStore
from feast.infra.supported_async_methods import SupportedAsyncMethods
from feast.protos.feast.serving.ServingService_pb2 import GetOnlineFeaturesResponse
from feast.protos.feast.types.EntityKey_pb2 import EntityKey
from feast.protos.feast.types.Value_pb2 import Value as FeastValue
from feast.repo_config import RepoConfig

from feature_service.domain import Field
from feature_service.feast_adapters.definitions import value_type
from feature_service.feast_adapters.values import to_array
from feature_service.packed.keys import view_prefix
from feature_service.packed.layout import NO_TIME, RowLayout
from feature_service.packed.schemas import Schemas
from feature_service.ports import RowRead, RowStore
from feature_service.stores.packed_answers import (
    Asked,
    ReadRow,
    StoredTable,
    add_columns,
    add_version,
    micros,
    read_rows,
)
from feature_service.writes.checkpoints import Checkpoints
from plumbline.features.errors import StoreUnavailable

_log = logging.getLogger("plumbline.features")
_MICROSECOND = timedelta(microseconds=1)
#: How far after now the event time of a row may lie; the service's own setting has this default.
MAX_CLOCK_SKEW = timedelta(seconds=60)

FeastRow = tuple[EntityKey, dict[str, FeastValue], datetime, datetime | None]


class PackedStore(OnlineStore):
    """Base of the online stores that keep packed rows; each says how to open its RowStore."""

    def __init__(self) -> None:
        self._opening = threading.Lock()
        self._opened: tuple[RowStore, Schemas] | None = None
        self._tables: dict[tuple[str, str, tuple[Field, ...]], StoredTable] = {}

    @abstractmethod
    def open_rows(
        self, config: RepoConfig, *, timeout: float | None = None, keep_expired: bool = False
    ) -> RowStore:
        """The rows behind the configuration. timeout: seconds to wait for a store on the network, unless the
        configuration says. keep_expired: no row is dropped for its age, as a replay of the past needs."""

    @property
    def async_supported(self) -> SupportedAsyncMethods:
        """Both are."""
        return SupportedAsyncMethods(read=True, write=True)

    def online_write_batch(
        self,
        config: RepoConfig,
        table: FeastView,
        data: list[FeastRow],
        progress: Callable[[int], Any] | None,
    ) -> None:
        """See Feast's OnlineStore. A value that does not fit the declared type, a null in a key, and an event
        time in the future raise ValueError."""
        rows, schemas = self._rows(config)
        stored = self._table(config, table)
        schemas.keep(stored.prefix, stored.layout)
        if any(_is_null(value) for entity_key, _, _, _ in data for value in entity_key.entity_values):
            raise ValueError(
                f"view {table.name}: a join key is null; leave such rows out, they match nothing"
            )
        _refuse_future(table.name, [event for _, _, event, _ in data])
        keys = [_key(config, entity_key) for entity_key, _, _, _ in data]
        packed = stored.layout.pack(
            [
                _column([values.get(field.name) for _, values, _, _ in data], field, table.name)
                for field in stored.layout.fields
            ],
            np.array([micros(event) for _, _, event, _ in data], np.int64),
            np.array([_created_micros(known) for _, _, _, known in data], np.int64),
        )
        rows.put(stored.prefix, list(zip(keys, packed, strict=True)), stored.ttl_micros)
        if progress:
            progress(len(data))

    async def online_write_batch_async(
        self,
        config: RepoConfig,
        table: FeastView,
        data: list[FeastRow],
        progress: Callable[[int], Any] | None,
    ) -> None:
        """See Feast's OnlineStore."""
        await asyncio.to_thread(self.online_write_batch, config, table, data, progress)

    def online_read(
        self,
        config: RepoConfig,
        table: FeastView,
        entity_keys: list[EntityKey],
        requested_features: list[str] | None = None,
    ) -> list[ReadRow]:
        """See Feast's OnlineStore. (None, None) where nothing is stored, or only what may not be served."""
        rows, schemas = self._rows(config)
        stored = self._table(config, table)
        (found,) = rows.get([RowRead(stored.prefix, [_key(config, key) for key in entity_keys])])
        return read_rows(stored, schemas.normal(stored.prefix, stored.layout, found), requested_features)

    async def online_read_async(
        self,
        config: RepoConfig,
        table: FeastView,
        entity_keys: list[EntityKey],
        requested_features: list[str] | None = None,
    ) -> list[ReadRow]:
        """See Feast's OnlineStore, and online_read."""
        rows, schemas = self._rows(config)
        stored = self._table(config, table)
        (found,) = await rows.get_async([RowRead(stored.prefix, [_key(config, key) for key in entity_keys])])
        return read_rows(stored, schemas.normal(stored.prefix, stored.layout, found), requested_features)

    def _read_features_per_fv(
        self,
        config: RepoConfig,
        grouped_refs: list[Any],
        join_key_values: dict[str, Any],
        entity_name_to_join_key_map: dict[str, str],
        online_features_response: GetOnlineFeaturesResponse,
        full_feature_names: bool,
        include_feature_view_version_metadata: bool,
    ) -> None:
        rows, schemas = self._rows(config)
        asked = self._asked(config, grouped_refs, join_key_values, entity_name_to_join_key_map)
        found = rows.get([RowRead(item.stored.prefix, item.keys) for item in asked])
        for item, part in zip(asked, found, strict=True):
            decoded = schemas.normal(item.stored.prefix, item.stored.layout, part)
            add_columns(item, decoded, online_features_response, full_feature_names)
            if include_feature_view_version_metadata:
                add_version(item.table, online_features_response)

    async def _read_features_per_fv_async(
        self,
        config: RepoConfig,
        grouped_refs: list[Any],
        join_key_values: dict[str, Any],
        entity_name_to_join_key_map: dict[str, str],
        online_features_response: GetOnlineFeaturesResponse,
        full_feature_names: bool,
        include_feature_view_version_metadata: bool,
    ) -> None:
        rows, schemas = self._rows(config)
        asked = self._asked(config, grouped_refs, join_key_values, entity_name_to_join_key_map)
        found = await rows.get_async([RowRead(item.stored.prefix, item.keys) for item in asked])
        for item, part in zip(asked, found, strict=True):
            decoded = schemas.normal(item.stored.prefix, item.stored.layout, part)
            add_columns(item, decoded, online_features_response, full_feature_names)
            if include_feature_view_version_metadata:
                add_version(item.table, online_features_response)

    def update(
        self,
        config: RepoConfig,
        tables_to_delete: Sequence[FeastView],
        tables_to_keep: Sequence[FeastView],
        entities_to_delete: Sequence[Entity],
        entities_to_keep: Sequence[Entity],
        partial: bool,
    ) -> None:
        """Removes the rows of deleted views; those of the others stay for as long as their ttls say now."""
        rows, _ = self._rows(config)
        checkpoints = Checkpoints(config.project, rows)
        for table in tables_to_delete:
            prefix = view_prefix(config.project, table.name)
            # Before, as this may be cut short; and after, as what a run writes meanwhile is dropped too.
            checkpoints.dropped(table.name)
            rows.drop(prefix)
            checkpoints.dropped(table.name)
        try:
            rows.hold({view_prefix(config.project, item.name): _ttl_micros(item) for item in tables_to_keep})
        except StoreUnavailable as error:
            # The definitions are in force all the same; a server that reads them, or the next apply, does it.
            _log.warning("rows in the online store stay as the ttls before said: %s", error.message)

    def teardown(self, config: RepoConfig, tables: Sequence[FeastView], entities: Sequence[Entity]) -> None:
        """Removes the rows of the views; the store itself stays, others may be in it."""
        self.update(config, tables, [], entities, [], partial=False)

    async def initialize(self, config: RepoConfig) -> None:
        """Opens the store, so that a server's first request need not."""
        await asyncio.to_thread(self._rows, config)

    async def close(self) -> None:
        """Closes the store; the next call opens it again."""
        with self._opening:
            opened, self._opened = self._opened, None
        if opened is not None:
            opened[0].close()

    def _rows(self, config: RepoConfig) -> tuple[RowStore, Schemas]:
        opened = self._opened
        if opened is not None:
            return opened
        with self._opening:
            if self._opened is None:
                if config.entity_key_serialization_version != 3:
                    raise ValueError("packed rows need entity_key_serialization_version: 3")
                rows = self.open_rows(config)
                self._opened = (rows, Schemas(rows))
            return self._opened

    def _table(self, config: RepoConfig, table: FeastView) -> StoredTable:
        fields = tuple(Field(item.name, value_type(item.dtype)) for item in table.features)
        key = (config.project, table.name, fields)
        ttl = _ttl_micros(table)
        found = self._tables.get(key)
        if found is None or found.ttl_micros != ttl:
            found = self._tables[key] = StoredTable(
                view_prefix(config.project, table.name), RowLayout(fields), ttl
            )
        return found

    def _asked(
        self,
        config: RepoConfig,
        grouped_refs: list[Any],
        join_key_values: dict[str, Any],
        join_keys: dict[str, str],
    ) -> list[Asked]:
        asked = []
        for table, features in grouped_refs:
            entities, places, rows = _unique_entities(table, join_key_values, join_keys)
            keys = [_key(config, key) for key in utils._get_entity_key_protos(entities)]
            asked.append(Asked(table, self._table(config, table), features, keys, places, rows))
        return asked


def _refuse_future(view: str, events: Sequence[datetime]) -> None:
    now = datetime.now(UTC)
    latest = micros(now + MAX_CLOCK_SKEW)
    for row, event in enumerate(events):
        if micros(event) > latest:
            raise ValueError(
                f"view {view}: the event time of row {row}, {event.isoformat()}, lies in the future (now "
                f"{now.isoformat()}): it would keep the rows of the present from its key. Leave it out, or "
                "end the materialization now; times without a zone count as UTC"
            )


def _ttl_micros(table: Any) -> int | None:
    """A view's ttl; Feast has 0 for none."""
    ttl = getattr(table, "ttl", None)
    return ttl // _MICROSECOND if ttl and ttl > timedelta(0) else None


def _unique_entities(
    table: Any, join_key_values: dict[str, Any], join_keys: dict[str, str]
) -> tuple[Sequence[Any], Sequence[Sequence[int]], int]:
    """The distinct keys of a view, the rows each is at, and the number of rows.

    Feast's own function does not bear a null in a key; nothing is stored under one.
    """
    columns = utils._get_table_entity_values(table, join_keys, join_key_values).values()
    nulls = {i for column in columns for i, value in enumerate(column) if _is_null(value)}
    if not nulls:
        found: tuple[Sequence[Any], Sequence[Sequence[int]], int] = utils._get_unique_entities(
            table, join_key_values, join_keys
        )
        return found
    rows = max(len(column) for column in columns)
    kept = [i for i in range(rows) if i not in nulls]
    if not kept:
        return (), (), rows
    whole = {name: [values[i] for i in kept] for name, values in join_key_values.items()}
    entities, places, _ = utils._get_unique_entities(table, whole, join_keys)
    return entities, [[kept[place] for place in group] for group in places], rows


def _is_null(value: FeastValue) -> bool:
    return value.WhichOneof("val") in (None, "null_val")


def _key(config: RepoConfig, entity_key: EntityKey) -> bytes:
    key: bytes = serialize_entity_key(entity_key, entity_key_serialization_version=3)
    return key


def _created_micros(moment: datetime | None) -> int:
    """Feast's engines give pandas' NaT, which equals nothing, for a null."""
    return NO_TIME if moment is None or moment != moment else micros(moment)


def _column(values: Sequence[FeastValue | None], field: Field, view: str) -> pa.Array:
    """A column of Feast values as the layout has it."""
    try:
        return to_array(values, field.type)
    except (pa.ArrowInvalid, pa.ArrowTypeError) as error:
        raise ValueError(f"view {view}: a value of {field.name} is no {field.type}: {error}") from error
