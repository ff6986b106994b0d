"""Entity rows from where they lie: an Arrow IPC stream in a file, or Parquet.

They are read twice, batch by batch: once what a join needs of them, checked, and once everything, to go
beside the features.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Protocol

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds

from feature_service.arrow_types import to_utc_micros
from feature_service.stores import remote
from plumbline.errors import FieldViolation
from plumbline.features.errors import InvalidField, MalformedEntityRows

#: How every Arrow IPC stream ends when its writer was closed.
_END_OF_STREAM = b"\xff\xff\xff\xff\x00\x00\x00\x00"
_BATCH_ROWS = 65_536
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


class EntityRows(Protocol):
    """Rows that can be read more than once, always in the same order.

    All methods raise MalformedEntityRows; a fault may show only when a batch is read.
    """

    def schema(self) -> pa.Schema:
        """Column names, each once, and types."""

    def checked(self, columns: Sequence[str]) -> Iterator[pa.RecordBatch]:
        """The rows with these columns, safe to compute with, whoever wrote them."""

    def batches(self) -> Iterator[pa.RecordBatch]:
        """The rows with all columns, after `checked` has gone through."""


class SpooledRows:
    """One Arrow IPC stream in a local file."""

    def __init__(self, file: Path) -> None:
        self._file = file

    def schema(self) -> pa.Schema:
        size = self._file.stat().st_size
        if not size:
            raise malformed("no entity rows were sent: after the header comes one Arrow IPC stream")
        with self._file.open("rb") as file:
            file.seek(max(size - len(_END_OF_STREAM), 0))
            complete = file.read() == _END_OF_STREAM
        try:
            with pa.OSFile(str(self._file)) as source:
                schema = pa.ipc.open_stream(source).schema
            names = schema.names
        except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
            raise _no_stream(error) from error
        if not complete:
            raise malformed(
                "the Arrow IPC stream of the entity rows is cut short: its end-of-stream mark is missing"
            )
        return _checked(schema, names)

    def checked(self, columns: Sequence[str]) -> Iterator[pa.RecordBatch]:
        for batch in self.batches():
            try:
                # In full: offsets and indices that point outside their buffers would end the process later.
                batch.validate(full=True)
            except pa.ArrowException as error:
                raise _no_stream(error) from error
            yield batch.select(list(columns))

    def batches(self) -> Iterator[pa.RecordBatch]:
        try:
            # Mapped: columns that no one looks at between the first and the last time cost no copy.
            with pa.memory_map(str(self._file)) as source:
                yield from pa.ipc.open_stream(source)
        # Bytes that are wrong can also ask for any amount of memory.
        except (pa.ArrowException, OSError) as error:
            raise _no_stream(error) from error


class ParquetEntityRows:
    """A Parquet file, or a folder of them, by name; local or in object storage.

    Raises InvalidField when there is nothing of the kind, MalformedEntityRows when it is no Parquet.
    """

    def __init__(self, uri: str) -> None:
        self._uri = uri
        try:
            filesystem, path = remote.open_filesystem(uri)
            self._dataset = ds.dataset(path, filesystem=filesystem, format="parquet")
        except FileNotFoundError as error:
            raise bad_field("entity_rows_uri", f"{remote.shown(uri)} does not exist") from error
        except (pa.ArrowException, OSError, ValueError) as error:
            raise self._unreadable(error) from error

    def schema(self) -> pa.Schema:
        return _checked(self._dataset.schema, self._dataset.schema.names)

    def checked(self, columns: Sequence[str]) -> Iterator[pa.RecordBatch]:
        for batch in self._read(list(columns)):
            try:
                batch.validate(full=True)
            except pa.ArrowException as error:
                raise self._unreadable(error) from error
            yield batch

    def batches(self) -> Iterator[pa.RecordBatch]:
        return self._read(None)

    def _read(self, columns: list[str] | None) -> Iterator[pa.RecordBatch]:
        try:
            # Little is read ahead: rows wait in the file, not in memory.
            yield from self._dataset.to_batches(
                columns=columns, batch_size=_BATCH_ROWS, batch_readahead=2, fragment_readahead=1
            )
        except (pa.ArrowException, OSError) as error:
            raise self._unreadable(error) from error

    def _unreadable(self, error: Exception) -> MalformedEntityRows:
        return malformed(f"the entity rows in {remote.shown(self._uri)} cannot be read: {error}")


class EntityTimes:
    """The event-time column of entity rows, as it is read. column: its name.

    Raises MalformedEntityRows: from the schema at once, for what it holds when it is read.
    """

    def __init__(self, column: str, schema: pa.Schema) -> None:
        self.column = column
        self.rows = 0
        #: Least and greatest so far, in µs; None without rows.
        self.bounds: tuple[int, int] | None = None
        if column not in schema.names:
            raise malformed(
                f"the entity rows have no event-time column {column!r}; "
                f"they have {', '.join(schema.names) or 'no columns'}",
                column,
            )
        kind = schema.field(column).type
        if not pa.types.is_timestamp(kind):
            raise malformed(f"the event-time column {column!r} is {kind}, not a timestamp", column)

    def micros(self, rows: pa.Table) -> pa.ChunkedArray:
        """The times of the next rows, at least one, as int64 µs, UTC; naive ones count as UTC."""
        times = rows[self.column]
        if times.null_count:
            first = self.rows + pc.index(times.is_null(), True).as_py()
            raise malformed(f"the event-time column {self.column!r} is null in row {first}", self.column)
        try:
            micros = to_utc_micros(times).cast(pa.int64())
            found = pc.min_max(micros)
            low, high = found["min"].as_py(), found["max"].as_py()
            _ = _EPOCH + low * _MICROSECOND, _EPOCH + high * _MICROSECOND
        except (pa.ArrowInvalid, OverflowError) as error:
            raise malformed(
                f"the event-time column {self.column!r} holds times outside of the years 1 to 9999",
                self.column,
            ) from error
        self.rows += len(micros)
        before = self.bounds or (low, high)
        self.bounds = (min(low, before[0]), max(high, before[1]))
        return micros


def malformed(message: str, column: str = "") -> MalformedEntityRows:
    """The refusal of entity rows."""
    return MalformedEntityRows(
        message, metadata={"column": column}, violations=[FieldViolation(column or "arrow_ipc", message)]
    )


def bad_field(field: str, what: str) -> InvalidField:
    """The refusal of a field of the header."""
    return InvalidField(
        f"header.{field}: {what}",
        metadata={"field": f"header.{field}"},
        violations=[FieldViolation(f"header.{field}", what)],
    )


def _no_stream(error: Exception) -> MalformedEntityRows:
    return malformed(f"the entity rows are not an Arrow IPC stream: {error}")


def _checked(schema: pa.Schema, names: Sequence[str]) -> pa.Schema:
    repeated = [name for name in names if names.count(name) > 1]
    if repeated:
        raise malformed(f"the entity rows have the column {repeated[0]!r} more than once", repeated[0])
    for field in schema:
        try:
            _ = _zones(field.type)
        except UnicodeDecodeError as error:
            raise malformed(
                f"the type of the column {field.name!r} names a time zone that is not UTF-8 text", field.name
            ) from error
    return schema


def _zones(kind: pa.DataType) -> list[str]:
    """The time zones in a type. Raises UnicodeDecodeError, as any later look at the zone would."""
    if pa.types.is_timestamp(kind):
        return [kind.tz]
    if pa.types.is_dictionary(kind):
        return _zones(kind.value_type)
    return [zone for i in range(kind.num_fields) for zone in _zones(kind.field(i).type)]
