"""The entity rows: a Parquet file with one row for each moment something is to be predicted."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from trainer.config import EntityRows
from trainer.errors import DataRefused

#: Rows read at a time.
BATCH_ROWS = 65_536

#: The column that travels with the rows so that each can be told where it comes back.
ROW_NUMBER = "plumbline_row_number"


class EntityFile:
    """The rows as they were when the file was opened: replacing it later changes nothing here."""

    def __init__(self, config: EntityRows) -> None:
        """Raises DataRefused when the file cannot be read or lacks a column the configuration names."""
        self._config = config
        try:
            self._bytes = pa.memory_map(str(config.path)).read_buffer()
            file = pq.ParquetFile(pa.BufferReader(self._bytes))
        except OSError as error:
            raise DataRefused(f"entity rows: cannot read {config.path}: {error}") from error
        except pa.ArrowInvalid as error:
            raise DataRefused(f"entity rows: {config.path} is not a Parquet file: {error}") from error
        self.schema: pa.Schema = file.schema_arrow.remove_metadata()
        self.rows: int = file.metadata.num_rows
        named = (config.event_timestamp, config.label, config.label_timestamp, *config.row_id)
        self.require(named, "the configuration names")
        for name in (config.event_timestamp, config.label_timestamp):
            if not pa.types.is_timestamp(self.schema.field(name).type):
                actual = self.schema.field(name).type
                raise DataRefused(f"entity rows: column {name!r} is {actual}, not a timestamp")
        if self.rows == 0:
            raise DataRefused(f"entity rows: {config.path} has no row")

    def require(self, names: Sequence[str], why: str) -> None:
        """Raises DataRefused unless all the columns are there. why completes "… which {why}"."""
        missing = sorted(set(names) - set(self.schema.names))
        if missing:
            raise DataRefused(
                f"entity rows: {self._config.path} has no column {', '.join(map(repr, missing))}, "
                f"which {why}; it has {', '.join(self.schema.names)}"
            )

    def batches(self, columns: Sequence[str] | None = None) -> Iterator[pa.RecordBatch]:
        """The rows in order, BATCH_ROWS at a time; columns in the order of the file."""
        file = pq.ParquetFile(pa.BufferReader(self._bytes))
        yield from file.iter_batches(BATCH_ROWS, columns=None if columns is None else list(columns))

    def numbered(self, columns: Sequence[str]) -> pa.RecordBatchReader:
        """A reader of some columns and ROW_NUMBER, counting from 0."""
        kept = [field for field in self.schema if field.name in set(columns)]
        schema = pa.schema([*kept, pa.field(ROW_NUMBER, pa.int64(), nullable=False)])

        def numbered() -> Iterator[pa.RecordBatch]:
            start = 0
            for batch in self.batches([field.name for field in kept]):
                numbers = pa.array(np.arange(start, start + batch.num_rows))
                yield pa.record_batch([*batch.columns, numbers], schema=schema)
                start += batch.num_rows

        return pa.RecordBatchReader.from_batches(schema, numbered())


class Cursor:
    """Hands out consecutive rows of batches, any number at a time."""

    def __init__(self, batches: Iterator[pa.RecordBatch]) -> None:
        self._batches = batches
        self._rest: pa.RecordBatch | None = None

    def take(self, count: int) -> list[pa.RecordBatch]:
        """The next `count` rows, or fewer at the end."""
        taken: list[pa.RecordBatch] = []
        while count > 0:
            batch = self._rest if self._rest is not None else next(self._batches, None)
            if batch is None:
                break
            taken.append(batch.slice(0, count))
            self._rest = batch.slice(count) if batch.num_rows > count else None
            count -= taken[-1].num_rows
        return taken
