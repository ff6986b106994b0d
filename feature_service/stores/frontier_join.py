"""A join of any size: all of it in DuckDB, which spills what does not fit in memory. See `join_sql`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import pyarrow as pa

from feature_service.domain import KnownAt
from feature_service.stores import join_sql
from feature_service.stores.answer import BATCH_ROWS, Answer
from feature_service.stores.asof_sql import EVERYTHING, SourceView
from feature_service.stores.session import Session

#: So many rows of a source for each entity row are worth a look at which keys are asked for.
_FEW = 8


class FrontierJoin:
    """Joins over the table `entity` of a session."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def answer(
        self,
        view: SourceView,
        types: Mapping[str, str],
        where: list[str],
        known_at: KnownAt,
        entity_rows: int,
    ) -> Answer:
        """The answer of a view. types: DuckDB type of each source column. where: see asof_sql.rows."""
        run, fetch = self._session.run, self._session.fetch
        [(rows,)] = fetch(join_sql.count_rows(view))
        # There are so few entity rows that most rows of the source may be of other keys.
        few = entity_rows * _FEW < int(rows)
        only = join_sql.keys_of_entities(view) if few else EVERYTHING
        run(join_sql.frontier(view, types, where, known_at, only=only))
        [(some,)] = fetch(join_sql.has_ties(view))
        if some:
            self._settle(view, types, where, known_at)
        self._session.check()
        reader = self._session.connection.sql(join_sql.answer(view)).to_arrow_reader(BATCH_ROWS)
        return Answer(view.features, reader.schema.types, self._read(reader), held=False)

    def _settle(
        self, view: SourceView, types: Mapping[str, str], where: list[str], known_at: KnownAt
    ) -> None:
        """Leaves in the frontier one of the rows that tie."""
        run, fetch = self._session.run, self._session.fetch
        run(join_sql.ties(view))
        if view.rows.created:
            run(join_sql.drop_created_before(view))
            run(join_sql.ties(view))
        if fetch("SELECT 1 FROM ties LIMIT 1"):
            run(join_sql.drop_ties(view))
            run(join_sql.add_winners(view, types, where, known_at))
        run("DROP TABLE ties")

    def _read(self, reader: pa.RecordBatchReader) -> Iterator[pa.RecordBatch]:
        for batch in reader:
            self._session.check()
            yield batch
        self._session.run("DROP TABLE frontier")
