"""The online store: one of Feast's, with what it leaves out put right.

Feast's stores disagree about a missing row (None, or empty values of 1970), about a row older than the
stored one (SQLite lets it win, Redis does not), and about a row of the same time (Redis drops it, so a
correction would never arrive). Here they agree on what ports.OnlineStore says. SQLite keeps event times in
whole seconds, Redis in microseconds: within one second, SQLite lets the later write win.
"""

from __future__ import annotations

import fcntl
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any, cast

import numpy as np
import pyarrow as pa
from feast import FeatureView as FeastView
from feast.feature_view import DUMMY_ENTITY_ID, DUMMY_ENTITY_VAL
from feast.infra.online_stores.helpers import get_online_store_from_config
from feast.infra.online_stores.online_store import OnlineStore as FeastStore
from feast.protos.feast.types.EntityKey_pb2 import EntityKey
from feast.protos.feast.types.Value_pb2 import Value as FeastValue
from feast.repo_config import RepoConfig

from feature_service.domain import FeatureView, Field
from feature_service.feast_adapters.store_failures import failure
from feature_service.feast_adapters.store_options import prepare
from feature_service.feast_adapters.values import to_array, to_values
from feature_service.ports import NO_TIME, NOT_STORED, Micros, NewRows, StoredRows
from plumbline.features.errors import SourceUnreadable

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
#: Keys looked up at once: SQLite takes at most 32,766 parameters in a statement.
_READ_CHUNK = 10_000
_WRITE_CHUNK = 5_000


class FeastOnlineStore:
    """See ports.OnlineStore.

    That an older row does not replace a newer one holds among all writers of this class: of one process, and,
    where the store is SQLite, of all processes of one machine. It does not hold against other machines, other
    programs that write by Feast's SDK, or processes that share a store on the network; nor are created times
    compared with those of stored rows, which Feast's stores do not tell.

    timeout: seconds to wait for Redis; other stores on the network have settings of their own. Each thread
    has a connection of its own to read by, so that no reader sees what a writer has not committed.
    """

    def __init__(self, config: RepoConfig, *, timeout: float) -> None:
        self._config = config
        prepared = prepare(config, timeout)
        #: Where the store is, for messages to people; without passwords.
        self.address = prepared.address
        self._readers = threading.local()
        self._writer: FeastStore = get_online_store_from_config(config.online_store)
        self._write_lock = threading.Lock()
        file = prepared.file
        self._lock_file = None if file is None else file.with_name(f"{file.name}.lock")

    def read(self, view: FeatureView, features: Sequence[Field], keys: Sequence[pa.Array]) -> StoredRows:
        """See ports.OnlineStore."""
        return self._read(self._reader(), view, features, keys)

    def write(self, view: FeatureView, rows: NewRows) -> int:
        """See ports.OnlineStore."""
        with self._write_lock, self._alone(view):
            chosen = _newest_of_each_key(rows)
            stored = self._stored_times(view, [key.take(pa.array(chosen)) for key in rows.keys], len(chosen))
            chosen = chosen[rows.event_micros[chosen] >= stored]
            for start in range(0, len(chosen), _WRITE_CHUNK):
                part = chosen[start : start + _WRITE_CHUNK]
                data = _feast_rows(view, rows, part)
                with self._of_store(view):
                    self._writer.online_write_batch(self._config, _feast_view(view), data, None)
            return len(chosen)

    @contextmanager
    def _alone(self, view: FeatureView) -> Iterator[None]:
        """No other process of this machine compares and writes meanwhile."""
        if self._lock_file is None:
            yield
            return
        with self._of_store(view):
            lock = self._lock_file.open("a")
        with lock as file:
            fcntl.flock(file, fcntl.LOCK_EX)  # given back with the file
            yield

    def _stored_times(self, view: FeatureView, keys: Sequence[pa.Array], count: int) -> Micros:
        if not count:
            return np.empty(0, np.int64)
        return self._read(self._writer, view, view.features[:1], keys, count).event_micros

    def _reader(self) -> FeastStore:
        found = getattr(self._readers, "store", None)
        if found is None:
            found = self._readers.store = get_online_store_from_config(self._config.online_store)
        return cast("FeastStore", found)

    def _read(
        self,
        store: FeastStore,
        view: FeatureView,
        features: Sequence[Field],
        keys: Sequence[pa.Array],
        count: int | None = None,
    ) -> StoredRows:
        names = [item.name for item in features]
        entity_keys, slot = _entity_keys(view, keys, 1 if count is None and not keys else count)
        found: list[tuple[datetime | None, dict[str, FeastValue] | None]] = [(None, None)]
        for start in range(0, len(entity_keys), _READ_CHUNK):
            part = entity_keys[start : start + _READ_CHUNK]
            with self._of_store(view):
                # Redis adds a name of its own to the list it is given.
                found += store.online_read(self._config, _feast_view(view), part, list(names))
        times = np.fromiter((_event_micros(*row) for row in found), np.int64, len(found))
        rows = [row if times[i] != NOT_STORED else None for i, (_, row) in enumerate(found)]
        index = pa.array(slot)
        try:
            values = tuple(
                to_array([row.get(item.name) if row else None for row in rows], item.type).take(index)
                for item in features
            )
        except (pa.ArrowInvalid, pa.ArrowTypeError) as error:
            raise SourceUnreadable(
                f"view {view.name}: the online store holds values of another type than declared ({error}); "
                "materialize the view again",
                metadata={"view": view.name},
            ) from error
        return StoredRows(times[slot], values)

    @contextmanager
    def _of_store(self, view: FeatureView) -> Iterator[None]:
        """Around what the store itself does."""
        try:
            yield
        except Exception as error:
            found = failure(self.address, view.name, error)
            if found is None:
                raise
            raise found from error


def _feast_view(view: FeatureView) -> FeastView:
    return cast("FeastView", view.handle)


def _entity_keys(
    view: FeatureView, keys: Sequence[pa.Array], count: int | None
) -> tuple[list[EntityKey], np.ndarray[Any, np.dtype[np.int64]]]:
    """The distinct keys without nulls, and for each row 1 + the position of its key, 0 for a null key."""
    if not view.join_keys:
        dummy = EntityKey(
            join_keys=[DUMMY_ENTITY_ID], entity_values=[FeastValue(string_val=DUMMY_ENTITY_VAL)]
        )
        return [dummy], np.ones(count or 0, np.int64)
    names = [key.name for key in view.join_keys]
    columns = [to_values(column, key.type) for column, key in zip(keys, view.join_keys, strict=True)]
    distinct: dict[tuple[Any, ...], int] = {}
    entity_keys: list[EntityKey] = []
    slot = np.zeros(len(columns[0]), np.int64)
    plain = zip(*(column.to_pylist() for column in keys), strict=True)
    for i, (key, values) in enumerate(zip(plain, zip(*columns, strict=True), strict=True)):
        if None in key:
            continue
        position = distinct.get(key)
        if position is None:
            position = distinct[key] = len(distinct) + 1
            entity_keys.append(EntityKey(join_keys=names, entity_values=values))
        slot[i] = position
    return entity_keys, slot


def _event_micros(moment: datetime | None, row: dict[str, FeastValue] | None) -> int:
    if moment is None or row is None:
        return NOT_STORED
    micros = (moment - _EPOCH) // _MICROSECOND
    # What Redis makes of a key it does not have.
    if micros == 0 and all(value.WhichOneof("val") is None for value in row.values()):
        return NOT_STORED
    return micros


def _newest_of_each_key(rows: NewRows) -> np.ndarray[Any, np.dtype[np.int64]]:
    """Positions of the rows to write: of each key the greatest (event, created), the last among equals."""
    if not rows.keys:
        order = np.lexsort((_created(rows), rows.event_micros))
        return order[-1:].astype(np.int64)
    columns = [key.dictionary_encode().indices.to_numpy(zero_copy_only=False) for key in rows.keys]
    order = np.lexsort((_created(rows), rows.event_micros, *columns))
    sorted_columns = [column[order] for column in columns]
    last = np.ones(len(order), bool)
    if len(order) > 1:
        last[:-1] = np.logical_or.reduce([column[1:] != column[:-1] for column in sorted_columns])
    return np.sort(order[last]).astype(np.int64)


def _created(rows: NewRows) -> Micros:
    return rows.event_micros if rows.created_micros is None else rows.created_micros


def _feast_rows(
    view: FeatureView, rows: NewRows, chosen: np.ndarray[Any, np.dtype[np.int64]]
) -> list[tuple[EntityKey, dict[str, FeastValue], datetime, datetime | None]]:
    index = pa.array(chosen)
    names = [item.name for item in view.features]
    columns = [
        to_values(array.take(index), item.type)
        for array, item in zip(rows.values, view.features, strict=True)
    ]
    entity_keys, slot = _entity_keys(view, [key.take(index) for key in rows.keys], len(chosen))
    created = [None] * len(chosen) if rows.created_micros is None else rows.created_micros[chosen].tolist()
    return [
        (
            entity_keys[position - 1],
            dict(zip(names, values, strict=True)),
            _EPOCH + timedelta(microseconds=event),
            None if known is None or known == NO_TIME else _EPOCH + timedelta(microseconds=known),
        )
        for position, values, event, known in zip(
            slot.tolist(),
            zip(*columns, strict=True),
            rows.event_micros[chosen].tolist(),
            created,
            strict=True,
        )
    ]
