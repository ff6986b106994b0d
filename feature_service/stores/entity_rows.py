"""Entity rows as users of Feast hand them over: pandas frames of all sorts, Arrow tables, queries."""

from __future__ import annotations

from dataclasses import dataclass

import duckdb
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from feature_service.arrow_types import TIMESTAMP, to_utc_micros
from feature_service.coercion import coerce
from feature_service.domain import ValueType
from feature_service.stores import remote

EVENT_TIMESTAMP = "event_timestamp"


@dataclass(frozen=True)
class EntityRows:
    """Rows in their order, with the columns and types they came with; times: UTC µs, no nulls."""

    table: pa.Table
    time_column: str
    times: pa.ChunkedArray

    @property
    def other_columns(self) -> list[str]:
        """All columns but the time."""
        return [name for name in self.table.column_names if name != self.time_column]


def key_column(values: pa.ChunkedArray, kind: ValueType, column: str) -> pa.ChunkedArray:
    """A key column in the declared type. Raises TypeMismatch.

    Whole numbers may be floating point: that is what pandas makes of integers with a null.
    """
    if pa.types.is_dictionary(values.type):
        values = values.cast(values.type.value_type)
    if pa.types.is_floating(values.type) and kind in (ValueType.INT64, ValueType.INT32):
        whole = pc.cast(values, pa.float64())
        if pc.all(pc.or_kleene(pc.is_nan(whole), pc.equal(whole, pc.trunc(whole)))).as_py() is not False:
            values = pc.if_else(pc.is_nan(whole), None, whole).cast(pa.int64())
    return coerce(values, kind, column)


def entity_rows(given: pd.DataFrame | pa.Table | str) -> EntityRows:
    """Entity rows from a frame, an Arrow table, or a DuckDB query that gives them.

    The time is the column "event_timestamp", or else the only one of timestamps; naive times are UTC; text is
    read as pandas reads it. Raises ValueError for rows without a time.
    """
    if isinstance(given, str):
        table = _query(given)
    elif isinstance(given, pd.DataFrame):
        table = _from_pandas(given)
    elif isinstance(given, pa.Table):
        table = given
    else:
        raise ValueError(
            f"entity_df is a {type(given).__name__}: give a pandas frame, an Arrow table or a DuckDB query"
        )
    name = _time_column(table)
    times = _times(table[name], name)
    if times.null_count:
        first = pc.index(times.is_null(), True).as_py()
        raise ValueError(f"the time column {name!r} of the entity rows is null in row {first}")
    return EntityRows(table, name, times)


def _query(query: str) -> pa.Table:
    with duckdb.connect(":memory:") as connection:
        connection.execute("SET TimeZone = 'UTC'")
        remote.register(connection)
        return connection.sql(query).to_arrow_table()


def _from_pandas(frame: pd.DataFrame) -> pa.Table:
    if EVENT_TIMESTAMP in frame.columns and frame[EVENT_TIMESTAMP].dtype == object:
        # Python's own datetimes, perhaps of several zones.
        found = frame[EVENT_TIMESTAMP]
        if not found.map(lambda item: isinstance(item, str)).any():
            frame = frame.assign(**{EVENT_TIMESTAMP: pd.to_datetime(found, utc=True)})
    try:
        return pa.Table.from_pandas(frame, preserve_index=False)
    except (pa.ArrowInvalid, pa.ArrowTypeError) as error:
        raise ValueError(f"a column of the entity rows holds values of several types: {error}") from error


def _time_column(table: pa.Table) -> str:
    if EVENT_TIMESTAMP in table.column_names:
        return EVENT_TIMESTAMP
    times = [item.name for item in table.schema if pa.types.is_timestamp(item.type)]
    if len(times) == 1:
        return str(times[0])
    raise ValueError(
        f"name the time of the entity rows {EVENT_TIMESTAMP}: columns of timestamps are {times or 'missing'}"
    )


def _times(values: pa.ChunkedArray, name: str) -> pa.ChunkedArray:
    kind = values.type
    if not len(values) or pa.types.is_null(kind):  # pandas gives columns without values any type
        return pa.chunked_array([pa.nulls(len(values), TIMESTAMP)])
    try:
        if pa.types.is_string(kind) or pa.types.is_large_string(kind):
            values = pa.chunked_array(
                [pa.array(pd.to_datetime(values.to_pandas(), utc=True, format="ISO8601"))]
            )
        elif not (pa.types.is_timestamp(kind) or pa.types.is_date(kind)):
            raise ValueError(f"the time column {name!r} of the entity rows is {kind}, not a timestamp")
        return to_utc_micros(values)
    except (pa.ArrowInvalid, pd.errors.ParserError, pd.errors.OutOfBoundsDatetime) as error:
        raise ValueError(f"the time column {name!r} of the entity rows: {error}") from error
