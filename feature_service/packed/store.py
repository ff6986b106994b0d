"""The packed online store: columns in, packed rows kept, columns out."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import timedelta

import numpy as np
import pyarrow as pa

from feature_service.domain import FeatureView, Field
from feature_service.packed.keys import NO_KEY, EntityKeys, view_prefix
from feature_service.packed.layout import RowLayout
from feature_service.packed.schemas import Schemas
from feature_service.ports import NewRows, RowRead, RowStore, StoredRows
from plumbline.features.errors import SourceUnreadable

_MICROSECOND = timedelta(microseconds=1)
#: Rows in one step of a write: others write between two of them.
_WRITE = 50_000


@dataclass(frozen=True)
class StoredView:
    """What the store needs of a view: where its rows are, how they lie, and how they are named."""

    prefix: bytes
    layout: RowLayout
    keys: EntityKeys
    ttl_micros: int | None


def stored_view(
    project: str, name: str, join_keys: Sequence[Field], features: Sequence[Field], ttl: timedelta | None
) -> StoredView:
    """Raises SourceUnreadable for join keys that nothing can be stored under."""
    try:
        keys = EntityKeys(join_keys)
    except ValueError as error:
        raise SourceUnreadable(f"view {name}: {error}", metadata={"view": name}) from error
    return StoredView(
        view_prefix(project, name), RowLayout(features), keys, None if ttl is None else ttl // _MICROSECOND
    )


class PackedOnlineStore:
    """See ports.OnlineStore. Its write promises more than the port:

    the comparison of times and the write are one step among all processes and machines that share the store;
    times are exact to the microsecond; created times are kept. Of two rows of one key the greater by
    (event time, created time) stays, where a row without a created time counts as created before all
    others; of rows equal in both, the one written later.
    """

    def __init__(self, rows: RowStore) -> None:
        self.rows, self.schemas = rows, Schemas(rows)
        self._views: dict[int, tuple[FeatureView, StoredView]] = {}
        self._lock = threading.Lock()

    @property
    def address(self) -> str:
        """Where the store is, for people; without passwords."""
        return self.rows.address

    def read(self, view: FeatureView, features: Sequence[Field], keys: Sequence[pa.Array]) -> StoredRows:
        """See ports.OnlineStore."""
        stored = self._stored(view)
        layout = stored.layout
        (found,) = self.rows.get([RowRead(stored.prefix, stored.keys.encode(keys))])
        rows = self.schemas.normal(stored.prefix, layout, found)
        places = {cell.field.name: cell.bit for cell in layout.cells}
        return StoredRows(
            np.ascontiguousarray(rows.event_micros),
            tuple(rows.column(places[item.name]) for item in features),
        )

    def write(self, view: FeatureView, rows: NewRows) -> int:
        """See ports.OnlineStore, and above. Raises StorageFull besides."""
        stored = self._stored(view)
        self.schemas.keep(stored.prefix, stored.layout)
        keys = stored.keys.encode(rows.keys) * (1 if rows.keys else len(rows.event_micros))
        if NO_KEY in keys:
            raise ValueError(f"view {view.name}: a row with a null in its key cannot be written")
        packed = stored.layout.pack(rows.values, rows.event_micros, rows.created_micros)
        pairs = list(zip(keys, packed, strict=True))
        return sum(
            self.rows.put(stored.prefix, pairs[start : start + _WRITE], stored.ttl_micros)
            for start in range(0, len(pairs), _WRITE)
        )

    def hold(self, views: Iterable[FeatureView]) -> None:
        """These are the definitions in force: rows stay as their ttls say, also rows written before."""
        stored = [self._stored(view) for view in views]
        self.rows.hold({view.prefix: view.ttl_micros for view in stored})

    def sweep(self, view: FeatureView, now_micros: int) -> int:
        """Removes rows that no read may return, once they are older than the store's retention too.

        Returns their number.
        """
        stored = self._stored(view)
        if stored.ttl_micros is None:
            return 0
        return self.rows.sweep(stored.prefix, now_micros - stored.ttl_micros)

    def close(self) -> None:
        """Gives back what is held."""
        self.rows.close()

    def _stored(self, view: FeatureView) -> StoredView:
        # By identity: to compare two views is more work than to read one.
        found = self._views.get(id(view))
        if found is None:
            if view.earlier:
                name = view.name.rpartition("@")[0]
                raise SourceUnreadable(
                    f"view {view.name}: this online store keeps rows of the present version of a view only; "
                    f"read {name!r}, or ask for the historical features of {view.name!r}",
                    metadata={"view": view.name},
                )
            made = stored_view(view.project, view.name, view.join_keys, view.features, view.ttl)
            with self._lock:
                if len(self._views) > 1000:
                    self._views.clear()
                found = self._views[id(view)] = (view, made)
        return found[1]
