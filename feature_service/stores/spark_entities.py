"""Entity rows on Spark: where they come from, their order, and the keys that views are joined by."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
from py4j.protocol import Py4JError
from pyspark.errors import AnalysisException, PySparkException
from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as f
from pyspark.sql import types as t

from feature_service.domain import ReadPlan, ValueType
from feature_service.history.entity_rows import SpooledRows, bad_field, malformed
from feature_service.stores.remote import shown
from feature_service.stores.spark_session import as_named, said
from feature_service.stores.spark_sources import key_text, named, spark_type
from plumbline.errors import FieldViolation
from plumbline.features.errors import JoinKeyMissing, TypeMismatch

#: Feast's name for the time of an entity row.
TIME = "event_timestamp"
#: Which file a row comes from and which of its rows it is, named so that they meet no column of anybody.
FILE, ROW = "pl_file", "pl_row"
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
#: Streamed entity rows go through the memory of this process.
_STREAMED_BYTES = 256 * 1024**2


def stored_rows(session: SparkSession, uri: str) -> DataFrame:
    """Entity rows of Parquet files, and FILE and ROW. uri: as Spark knows it. Raises MalformedEntityRows."""
    try:
        read = session.read.parquet(as_named(uri))
    except (AnalysisException, Py4JError) as error:
        raise malformed(f"the entity rows at {shown(uri)} cannot be read: {said(error)}") from error
    order = f.col("_metadata.file_path").alias(FILE), f.col("_metadata.row_index").alias(ROW)
    return read.select("*", *order)


def streamed_rows(session: SparkSession, spool: Path) -> DataFrame:
    """Entity rows of a file with one Arrow IPC stream, and FILE and ROW.

    Raises MalformedEntityRows; InvalidField for more than go through this process's memory.
    """
    sent_rows = SpooledRows(spool)
    names = sent_rows.schema().names
    table = pa.Table.from_batches(sent_rows.checked(names), sent_rows.schema())
    if table.nbytes > _STREAMED_BYTES:
        raise bad_field(
            "entity_rows_uri",
            f"{table.nbytes} bytes of entity rows are more than the {_STREAMED_BYTES} that can be "
            "streamed to Spark; name Parquet files instead",
        )
    plain = [_for_spark(name, table[name]) for name in table.column_names]
    row = pa.array(range(table.num_rows), pa.int64())
    sent = pa.table([*plain, row], names=[*(f"c{i}" for i in range(len(plain))), ROW])
    try:
        frame = session.createDataFrame(sent)
    except (PySparkException, pa.ArrowException) as error:
        raise malformed(f"the entity rows cannot be sent to Spark: {said(error)}") from error
    columns = []
    for i, item in enumerate(table.schema):
        column = f.col(f"c{i}")
        if pa.types.is_timestamp(item.type) and item.type.tz is None:
            column = column.cast("timestamp_ntz")
        columns.append(column.alias(item.name))
    return frame.select(*columns, f.lit("").alias(FILE), ROW)


def entities(rows: DataFrame, plan: ReadPlan, event: str) -> DataFrame:
    """Entity rows ready to be joined: the columns as they came (c0, c1, …), FILE and ROW, TIME, and for each
    read its key (`key_of`). event: the column of the times.

    Raises JoinKeyMissing, TypeMismatch, MalformedEntityRows.
    """
    types = {item.name: item.dataType for item in rows.schema}
    originals = rows.columns[:-2]
    for key in plan.join_keys:
        if key.name not in originals:
            raise JoinKeyMissing(
                f"the selection needs the join key {key.name!r} ({key.type}), which is not among the "
                f"columns of the entity rows ({', '.join(originals)})",
                metadata={"join_key": key.name},
            )
    if event not in originals:
        raise malformed(f"the entity rows have no event-time column {event!r}", event)
    if not isinstance(types[event], t.TimestampType | t.TimestampNTZType):
        raise malformed(f"column {event!r} is {types[event].simpleString()}, not a timestamp", event)
    selected = [named(name).alias(f"c{i}") for i, name in enumerate(originals)]
    selected += [f.col(FILE), f.col(ROW), named(event).cast("timestamp").alias(TIME)]
    for index, read in enumerate(plan.reads):
        keys = [
            (_key(key.column, types[key.column], key.join_key.type), key.join_key.type) for key in read.keys
        ]
        selected.append(key_text(keys).alias(key_of(index)))
    return rows.select(*selected)


def key_of(read: int) -> str:
    """The column of `entities` that a read of the plan is joined by."""
    return f"pl_k{read}"


def measured(found: DataFrame, event: str) -> tuple[int, tuple[datetime, datetime] | None]:
    """How many `entities` there are, and their least and greatest time. Raises MalformedEntityRows."""
    micros = f.unix_micros(f.col(TIME))
    counts = found.agg(
        f.count(f.lit(1)).alias("n"), f.count(TIME).alias("timed"),
        f.min(micros).alias("low"), f.max(micros).alias("high"),
    ).collect()[0]  # fmt: skip
    if counts.timed < counts.n:
        raise malformed(f"the event-time column {event!r} is null in {counts.n - counts.timed} rows", event)
    if not counts.n:
        return 0, None
    try:
        low, high = (_EPOCH + timedelta(microseconds=moment) for moment in (counts.low, counts.high))
    except OverflowError as error:
        raise malformed(f"column {event!r} holds times outside of the years 1 to 9999", event) from error
    return counts.n, (low, high)


def _key(name: str, actual: t.DataType, wanted: ValueType) -> Column:
    """A join key of the entity rows in the type of the view's. Raises TypeMismatch."""
    target = spark_type(wanted)
    integers = wanted in (ValueType.INT64, ValueType.INT32) and (
        isinstance(actual, t.IntegralType) or (isinstance(actual, t.DecimalType) and actual.scale == 0)
    )
    times = wanted is ValueType.TIMESTAMP and isinstance(actual, t.TimestampType | t.TimestampNTZType)
    if actual == target or integers or times or isinstance(actual, t.NullType):
        return named(name).cast(target)
    raise TypeMismatch(
        f"column {name!r} is declared {wanted}, but holds {actual.simpleString()}",
        metadata={"column": name, "expected": wanted.value, "actual": actual.simpleString()},
        violations=[FieldViolation(name, f"must be {wanted}")],
    )


def _for_spark(name: str, column: pa.ChunkedArray) -> pa.ChunkedArray:
    """A column in a type that Spark takes, with the same values. Raises MalformedEntityRows."""
    kind = column.type
    if pa.types.is_dictionary(kind):
        return column.cast(kind.value_type)
    if pa.types.is_timestamp(kind):
        try:
            # Spark knows microseconds; naive times go as UTC and are made naive again there.
            return pc.cast(column, pa.timestamp("us", tz=kind.tz)).cast(pa.timestamp("us", tz="UTC"))
        except pa.ArrowInvalid as error:
            raise malformed(
                f"column {name!r} holds nanoseconds, which Spark has not: {error}", name
            ) from error
    return column
