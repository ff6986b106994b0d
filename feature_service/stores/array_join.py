"""A join whose rows fit in memory: DuckDB reads and types them, `last_known` finds which answers which."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence

import pyarrow as pa

from feature_service.domain import KnownAt
from feature_service.stores import join_sql
from feature_service.stores.answer import BATCH_ROWS, Answer
from feature_service.stores.asof_sql import SourceView
from feature_service.stores.held_columns import Anything, Numbers, held
from feature_service.stores.last_known import NO_TIME, EntityTimes, Ints, SourceTimes, Tied, last_known
from feature_service.stores.session import Session

#: Of the memory limit, what rows may take here; DuckDB has the entity rows too, and little else to do.
SHARE = 0.5
#: So many rows at once stay in the cache of a core until they are where they are held.
_READ_ROWS = 8_192
#: What matching takes for a row, of the source or of the entity rows: its times, codes, order, in bytes.
_MATCHING = 64
#: What is kept of an entity row for each set of keys.
_KEPT = 24


class ArrayJoin:
    """Joins over the table `entity` of a session."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._entities: dict[tuple[str, ...], tuple[str, EntityTimes]] = {}

    def forget(self) -> None:
        """The entity rows are others now."""
        self._entities.clear()

    def answer(
        self,
        view: SourceView,
        types: Mapping[str, str],
        where: list[str],
        known_at: KnownAt,
        entity_rows: int,
    ) -> Answer | None:
        """The answer of a view; None when its rows would take more than SHARE.

        types: DuckDB type of each source column. where: see asof_sql.rows.
        """
        keys = tuple(dict.fromkeys(key.name for key in view.keys))
        kept = _KEPT * len(self._entities.keys() | {keys})
        most = int(self._session.memory_limit() * SHARE) - entity_rows * (kept + _MATCHING)
        if most < 0:
            return None
        if keys not in self._entities:
            self._entities[keys] = self._numbered(keys, entity_rows)
        numbers, entities = self._entities[keys]
        [(rows,)] = self._session.fetch(join_sql.count_rows(view))
        for tied in (False, True):
            query = join_sql.numbered_rows(view, types, where, known_at, numbers, tied=tied)
            columns = self._read(query, int(rows), most)
            if columns is None:
                return None
            found = last_known(_times(view, columns), entities, known_at, view.ttl_micros)
            if not isinstance(found, Tied):
                return Answer(
                    view.features, [item.kind for item in columns], self._taken(columns, found), held=True
                )
            del columns  # before they are read again
            groups = pa.table({"number": found.keys, "known": found.known})
            self._session.load("CREATE OR REPLACE TEMP TABLE tied AS SELECT * FROM loaded", groups)
        # The files changed meanwhile.
        return None

    def _numbered(self, keys: tuple[str, ...], entity_rows: int) -> tuple[str, EntityTimes]:
        """The table of the numbers of these key columns, and the entity rows by them."""
        table = f"numbers{len(self._entities)}"
        if keys:
            self._session.run(join_sql.number_keys(table, keys))
        columns = self._read(join_sql.numbered_entities(table, keys), entity_rows, sys.maxsize)
        assert columns is not None
        numbers, times, places = map(_ints, columns)
        return table, EntityTimes.of(numbers, times, places, entity_rows)

    def _read(self, query: str, rows: int, most: int) -> list[Numbers | Anything] | None:
        """The columns that a query gives; None as soon as they are more than `most` bytes, with those for
        their matching, or more than `rows` rows."""
        self._session.check()
        reader = self._session.connection.sql(query).to_arrow_reader(_READ_ROWS)
        rows = min(rows, most // _MATCHING)
        columns = held(reader.schema.types, rows)
        count = size = 0
        try:
            for batch in reader:
                self._session.check()
                count += batch.num_rows
                size += batch.nbytes + batch.num_rows * _MATCHING
                if count > rows or size > most:
                    return None
                for column, values in zip(columns, batch.columns, strict=True):
                    if not column.add(values):
                        return None
        finally:
            # A result that is not read to its end keeps the connection from the next query.
            reader.close()
        return columns

    def _taken(self, columns: Sequence[Numbers | Anything], found: Ints) -> Iterator[pa.RecordBatch]:
        names = [f"f{i}" for i in range(len(columns))]
        for start in range(0, len(found), BATCH_ROWS):
            self._session.check()
            rows = found[start : start + BATCH_ROWS]
            none = rows < 0
            yield pa.RecordBatch.from_arrays([column.take(rows, none) for column in columns], names)


def _times(view: SourceView, columns: list[Numbers | Anything]) -> SourceTimes:
    """Takes the first columns away: what is left are the features."""
    created = _ints(columns.pop(2)) if view.rows.created else None
    return SourceTimes(_ints(columns.pop(0)), _ints(columns.pop(0)), created)


def _ints(column: Numbers | Anything) -> Ints:
    assert isinstance(column, Numbers)
    return column.values(NO_TIME)
