"""Rows written under other schemas than the view has now.

Every layout a view's rows were ever written in is kept as a note beside them, under the digest that the rows
have in their headers. A row of another layout is read by it and packed anew: a column of the same name and
type keeps its value, int32 widens to int64 and float to double, anything else is null. A row whose digest no
note explains, or that is damaged, is not readable; it counts as not stored.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Sequence

import numpy as np
import pyarrow as pa

from feature_service.arrow_types import arrow_type
from feature_service.domain import ValueType
from feature_service.packed.layout import EVENT_AT, NO_TIME, RowLayout, Rows
from feature_service.packed.variable import CorruptRow
from feature_service.ports import RowStore

_log = logging.getLogger("plumbline.features")

_WIDER = {(ValueType.INT32, ValueType.INT64), (ValueType.FLOAT, ValueType.DOUBLE)}
#: Seconds after which a schema that was not found is looked for again: its writer may have been slower.
_LOOK_AGAIN = 10.0
_DIGEST_AT = 8
#: Digests of rows are whatever bytes lie there: of those that nothing explains no more are kept in mind.
_MISSING_KEPT = 1000
#: Seconds between two lines about one view's rows.
_TELL_AGAIN = 600.0


class Schemas:
    """The layouts of the rows of a store. Thread-safe; `normal` may ask the store for a note."""

    def __init__(self, store: RowStore) -> None:
        self._store = store
        self._lock = threading.Lock()
        self._known: dict[tuple[bytes, bytes], RowLayout] = {}
        self._missing: dict[tuple[bytes, bytes], float] = {}
        self._told: dict[bytes, float] = {}
        #: Rows that were found but could not be read, since the start.
        self.unreadable = 0

    def keep(self, view: bytes, layout: RowLayout) -> None:
        """Makes sure that rows of this layout can be read by others; to be called before they are written.

        Asks the store every time: one that was emptied, or started again without its data, has lost the note,
        and rows without it count as not stored once the view has another schema.
        """
        key = view, layout.digest
        name = _name(view, layout.digest)
        if self._store.note(name) is None:
            self._store.set_note(name, layout.describe())
        with self._lock:
            self._known[key] = layout
            self._missing.pop(key, None)

    def normal(self, view: bytes, layout: RowLayout, rows: Sequence[bytes | None]) -> Rows:
        """Rows of any layout, as rows of this one; blank where there is none that can be read."""
        blank = layout.blank
        filled = [blank if row is None else row for row in rows]
        try:
            found = layout.decode(filled)
            for cell in layout.variables:
                found.column(cell.bit)
        except CorruptRow:
            return layout.decode(self.repaired(view, layout, filled))
        return found

    def repaired(self, view: bytes, layout: RowLayout, found: Sequence[bytes | None]) -> list[bytes]:
        """As `normal`, as bytes."""
        rows = [layout.blank if row is None else row for row in found]
        by_head: dict[bytes, list[int]] = {}
        for i, row in enumerate(rows):
            by_head.setdefault(row[:EVENT_AT], []).append(i)
        for head, chosen in by_head.items():
            written = layout if head == layout.head else self._find(view, head)
            part = [rows[i] for i in chosen]
            for i, row in zip(chosen, self._converted(view, written, layout, part), strict=True):
                rows[i] = row
        return rows

    def _converted(
        self, view: bytes, written: RowLayout | None, layout: RowLayout, rows: Sequence[bytes]
    ) -> list[bytes]:
        if written is not None:
            try:
                return _repack(written, layout, rows)
            except CorruptRow as error:
                if len(rows) > 1:
                    return [self._converted(view, written, layout, [row])[0] for row in rows]
                self._tell(view, rows[0][_DIGEST_AT:EVENT_AT], len(rows), str(error))
        else:
            self._tell(view, rows[0][_DIGEST_AT:EVENT_AT], len(rows), "their schema is not known")
        return [layout.blank] * len(rows)

    def _find(self, view: bytes, head: bytes) -> RowLayout | None:
        key = view, head[_DIGEST_AT:]
        found = self._known.get(key)
        if found is None and time.monotonic() >= self._missing.get(key, 0.0):
            note = self._store.note(_name(*key))
            try:
                found = None if note is None else RowLayout.from_description(note)
            except ValueError:
                found = None
            with self._lock:
                if found is None:
                    if len(self._missing) >= _MISSING_KEPT:
                        self._missing.clear()
                    self._missing[key] = time.monotonic() + _LOOK_AGAIN
                else:
                    self._known[key] = found
        # The head has the version and the number of columns too.
        return found if found is not None and found.head == head else None

    def _tell(self, view: bytes, digest: bytes, count: int, why: str) -> None:
        with self._lock:
            self.unreadable += count
            now = time.monotonic()
            if now < self._told.get(view, 0.0):
                return
            self._told[view] = now + _TELL_AGAIN
        _log.error(
            "rows in the online store %s cannot be read and count as not stored: %s (view prefix %s, "
            "schema %s); materialize the view again. Told every %d s; %d rows since the start",
            self._store.address,
            why,
            view.hex(),
            digest.hex(),
            _TELL_AGAIN,
            self.unreadable,
        )


def _name(view: bytes, digest: bytes) -> str:
    return f"schema/{view.hex()}/{digest.hex()}"


def _repack(written: RowLayout, layout: RowLayout, rows: Sequence[bytes]) -> list[bytes]:
    """Rows of one layout as rows of another. Raises CorruptRow."""
    found = written.decode(rows)
    places = {cell.field.name: cell.bit for cell in written.cells}
    values = []
    for field in layout.fields:
        place = places.get(field.name)
        kind = None if place is None else written.fields[place].type
        if place is not None and (kind is field.type or (kind, field.type) in _WIDER):
            values.append(found.column(place).cast(arrow_type(field.type)))
        else:
            values.append(pa.nulls(len(rows), arrow_type(field.type)))
    event, created = found.event_micros, found.created_micros
    if written is not layout and (event == NO_TIME).any():
        raise CorruptRow("a row has no event time")
    return layout.pack(values, np.ascontiguousarray(event), np.ascontiguousarray(created))
