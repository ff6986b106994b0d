"""What a join found for one view, on its way out."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa

from feature_service.arrow_types import arrow_type
from feature_service.domain import ValueType
from feature_service.stores.asof_sql import SourceColumn

BATCH_ROWS = 65_536


@dataclass(frozen=True)
class Answer:
    """The features of a view for each entity row, in order; null where no row answers.

    types: as DuckDB gives the columns; batches: of those, to be read once, which may raise Cancelled. held:
    they are made of what is in memory, and not of what DuckDB may have spilled.
    """

    features: Sequence[SourceColumn]
    types: Sequence[pa.DataType]
    batches: Iterable[pa.RecordBatch]
    held: bool

    @property
    def schema(self) -> pa.Schema:
        """The declared types; as the source has it where none is declared."""
        return pa.schema(
            [
                (item.name, kind if item.type is ValueType.UNSPECIFIED else arrow_type(item.type))
                for item, kind in zip(self.features, self.types, strict=True)
            ]
        )

    def table(self) -> pa.Table:
        """All of it, in memory."""
        return pa.Table.from_batches(self._typed(), self.schema)

    def spool(self, path: Path) -> int:
        """Writes an Arrow IPC file; returns its rows."""
        rows = 0
        with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, self.schema) as writer:
            for batch in self._typed():
                writer.write_batch(batch)
                rows += batch.num_rows
        return rows

    def _typed(self) -> Iterator[pa.RecordBatch]:
        """The batches in the declared types: integers that stand for times become timestamps."""
        schema = self.schema
        for batch in self.batches:
            columns = [
                column if column.type == field.type else column.cast(field.type)
                for column, field in zip(batch.columns, schema, strict=True)
            ]
            yield pa.RecordBatch.from_arrays(columns, schema=schema)


def nothing(features: Sequence[SourceColumn], rows: int) -> Answer:
    """Nulls for so many entity rows."""
    names = [item.name for item in features]

    def batches() -> Iterator[pa.RecordBatch]:
        for start in range(0, rows, BATCH_ROWS):
            empty = pa.nulls(min(BATCH_ROWS, rows - start))
            yield pa.RecordBatch.from_arrays([empty] * len(names), names)

    return Answer(features, [pa.null()] * len(names), batches(), held=True)
