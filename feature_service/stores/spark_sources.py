"""Feature rows on Spark, made ready for Feast's join there.

Feast's Spark join is exact only on rows it can tell apart: its SQL returns an entity row once for each
feature row that agrees in keys, event time and created time, drops rows without a created time, and joins
keys by their texts put one after the other, so that (1, 23) and (12, 3) meet. What is prepared here has one
row for each (key, event time, created time), a created time in every row, and one key column of text in
which different keys are different texts. Which row stays is decided as in `feature_service.stores.asof_sql`.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta

from feast import FileSource
from feast.errors import DataSourceNotFoundException
from feast.infra.offline_stores.contrib.spark_offline_store.spark_source import SparkSource
from pyspark.errors import AnalysisException
from pyspark.sql import Column, DataFrame, SparkSession, Window
from pyspark.sql import functions as f
from pyspark.sql import types as t

from feature_service.domain import FeatureView, Field, Source, ValueType
from feature_service.stores import parquet
from feature_service.stores.parts import PART_NAME
from feature_service.stores.spark_session import as_named, said, spark_uri
from plumbline.features.errors import SourceUnreadable

EVENT, CREATED = "pl_event", "pl_created"
#: Before every time that a row can have: the created time of rows without one.
_ALWAYS = "0001-01-01 00:00:00"
_PART = "pl_part"
_TIME = ValueType.TIMESTAMP
_SPARK_TYPES: dict[ValueType, t.DataType] = {
    ValueType.DOUBLE: t.DoubleType(),
    ValueType.FLOAT: t.FloatType(),
    ValueType.INT64: t.LongType(),
    ValueType.INT32: t.IntegerType(),
    ValueType.BOOL: t.BooleanType(),
    ValueType.STRING: t.StringType(),
    ValueType.BYTES: t.BinaryType(),
    ValueType.TIMESTAMP: t.TimestampType(),
}
_TIMES = (t.TimestampType, t.TimestampNTZType, t.DateType)


def spark_type(kind: ValueType) -> t.DataType:
    """The Spark type that holds a value type. Raises KeyError for UNSPECIFIED."""
    element = _SPARK_TYPES[kind.element]
    return t.ArrayType(element) if kind.is_list else element


def named(name: str) -> Column:
    """A column by its exact name, dots and quotes included."""
    return f.col("`" + name.replace("`", "``") + "`")


def key_text(columns: Sequence[tuple[Column, ValueType]]) -> Column:
    """One text for the values of several join keys; null when one of them is null.

    Values of other keys never give the same text, also when more text follows.
    """
    parts: list[Column] = [f.lit("")]
    for value, kind in columns:
        if kind is ValueType.BYTES:
            text = f.hex(value)
        elif kind is ValueType.TIMESTAMP:
            text = f.unix_micros(value).cast("string")
        else:
            text = value.cast("string")
        parts += [f.length(text).cast("string"), f.lit(":"), text, f.lit("|")]
    return f.concat(*parts)


def typed(value: Column, actual: t.DataType, wanted: ValueType, column: str) -> Column:
    """A source column in a wanted type; what does not fit fails when it is read, and nothing else is changed.

    As `asof_sql.typed`: integers stored as floats must be whole, NaN among them is null, a column of
    another type may hold nulls only.
    """
    target = spark_type(wanted)
    fault = f.raise_error(f.lit(f"column {column} is {actual.simpleString()}, declared {wanted}"))
    refused = f.when(value.isNotNull(), fault.cast(target)).otherwise(f.lit(None).cast(target))
    if wanted.is_list:
        if not isinstance(actual, t.ArrayType):
            return refused
        if actual.elementType == _SPARK_TYPES[wanted.element]:
            return value
        return f.transform(value, lambda item: typed(item, actual.elementType, wanted.element, column))
    if actual == target:
        return value
    if wanted is ValueType.TIMESTAMP and isinstance(actual, _TIMES):
        return value.cast(target)
    if wanted in (ValueType.INT64, ValueType.INT32):
        if isinstance(actual, t.IntegralType):
            return value.cast(target)  # out of range is an error: the session is in ANSI mode
        if isinstance(actual, t.FractionalType):
            broken = f.raise_error(f.lit(f"column {column} holds fractions, declared {wanted}")).cast(target)
            none = value.isNull() | f.isnan(value.cast("double"))
            whole = f.when(value == f.floor(value), value.cast(target)).otherwise(broken)
            return f.when(none, f.lit(None).cast(target)).otherwise(whole)
    if wanted in (ValueType.DOUBLE, ValueType.FLOAT) and isinstance(actual, t.NumericType):
        return value.cast(target)
    return refused


def prepared(session: SparkSession, view: FeatureView, features: Sequence[Field], key: str) -> DataFrame:
    """The view's rows with the columns `key`, EVENT, CREATED (where the source has one) and f0, f1, ….

    Raises SourceUnreadable.
    """
    source = view.source
    if source is None:
        raise unreadable(view, "has no source")
    for item in (*view.join_keys, *features):
        if item.type is ValueType.UNSPECIFIED:
            raise unreadable(view, f"the type of {item.name} is not supported")
    rows = _read(session, view, source)
    types = {item.name: item.dataType for item in rows.schema}

    def column(item: Field) -> Column:
        name = source.column_of(item.name)
        if name not in types:
            raise unreadable(view, f"its source {source.location} has no column {name}")
        return typed(named(name), types[name], item.type, name)

    def moment(name: str) -> Column:
        if not isinstance(types.get(name), _TIMES):
            found = types[name].simpleString() if name in types else "not there"
            raise unreadable(view, f"column {name} of {source.location} is {found}, not a timestamp")
        return named(name).cast("timestamp")

    order = [item for item in view.features if item.type is not ValueType.UNSPECIFIED]
    selected = [
        key_text([(column(item), item.type) for item in view.join_keys]).alias(key),
        moment(source.timestamp_column).alias(EVENT),
        *(column(item).alias(f"f{i}") for i, item in enumerate(features)),
        *(column(item).alias(f"t{i}") for i, item in enumerate(order)),
        f.regexp_extract(f.input_file_name(), "/" + PART_NAME, 1).alias(_PART),
    ]
    if source.created_column:
        known = moment(source.created_column)
        selected += [
            f.coalesce(known, f.lit(_ALWAYS).cast("timestamp")).alias(CREATED),
            known.isNotNull().alias("pl_dated"),
        ]
    rows = rows.select(*selected).where(named(key).isNotNull() & named(EVENT).isNotNull())
    times = [EVENT, CREATED] if source.created_column else [EVENT]
    first = [*(["pl_dated"] if source.created_column else []), _PART, *(f"t{i}" for i in range(len(order)))]
    newest = Window.partitionBy(key, *times).orderBy(*(_rank(rows, name).desc_nulls_last() for name in first))
    chosen = rows.withColumn("pl_rank", f.row_number().over(newest)).where("pl_rank = 1")
    return chosen.select(key, *times, *(f"f{i}" for i in range(len(features))))


def _rank(rows: DataFrame, name: str) -> Column:
    """What puts the values of a column in DuckDB's order, where the nulls in lists are greatest."""
    if isinstance(rows.schema[name].dataType, t.ArrayType):
        return f.transform(named(name), lambda item: f.struct(item.isNull(), item))
    return named(name)


def whole_seconds(view: FeatureView) -> timedelta | None:
    """The ttl, which Feast's Spark join cuts to seconds. Raises SourceUnreadable if that changes it."""
    if view.ttl is not None and view.ttl % timedelta(seconds=1):
        raise unreadable(
            view, f"Spark joins by whole seconds, and the view's ttl is {view.ttl.total_seconds()} s"
        )
    return view.ttl


def unreadable(view: FeatureView, why: str) -> SourceUnreadable:
    """The refusal of a view."""
    return SourceUnreadable(f"view {view.name}: {why}", metadata={"view": view.name})


def _read(session: SparkSession, view: FeatureView, source: Source) -> DataFrame:
    """All rows of a SparkSource, or of a FileSource of Parquet with the rows that were pushed to it."""
    batch = getattr(view.handle, "batch_source", None)
    try:
        if isinstance(batch, SparkSource):
            return session.sql(f"SELECT * FROM {batch.get_table_query_string()}")  # noqa: S608 - a definition
        if isinstance(batch, FileSource) and source.path:
            return _files(session, view, source)
    except (FileNotFoundError, DataSourceNotFoundException) as error:
        raise unreadable(view, f"its source {source.location} does not exist") from error
    except (OSError, ValueError) as error:
        raise unreadable(view, f"its source {source.location} cannot be read: {error}") from error
    except AnalysisException as error:
        raise unreadable(view, f"Spark cannot read {source.location}: {said(error)}") from error
    raise unreadable(view, f"Spark reads SparkSource and FileSource of Parquet, not {type(batch).__name__}")


def _files(session: SparkSession, view: FeatureView, source: Source) -> DataFrame:
    """The rows of a file, a folder, a glob or a hive-partitioned tree."""
    files = parquet.files_of(source.path)
    if not files:
        return _nothing(session, view, source)
    reader = session.read.option("mergeSchema", "true")
    partitions = parquet.partition_columns(source.path, files)
    if not partitions:
        return reader.parquet(*map(_named_file, files))
    top = source.path.removeprefix("file://").rstrip("/")
    declared = {source.column_of(item.name): item.type for item in (*view.join_keys, *view.features)}
    declared |= dict.fromkeys(filter(None, (source.timestamp_column, source.created_column)), _TIME)
    inside = [file for file in files if "=" in file[len(top) :].rpartition("/")[0]]
    rows = reader.option("basePath", spark_uri(top)).parquet(*map(_named_file, inside))
    # The names of folders are text; what they mean is declared.
    for name in partitions:
        if name in declared:
            rows = rows.withColumn(name, named(name).cast(spark_type(declared[name])))
    pushed = sorted({*files} - {*inside})
    if not pushed:
        return rows
    return rows.unionByName(reader.parquet(*map(_named_file, pushed)), allowMissingColumns=True)


def _named_file(file: str) -> str:
    return as_named(spark_uri(file))


def _nothing(session: SparkSession, view: FeatureView, source: Source) -> DataFrame:
    """No rows, with the columns that are read."""
    items = [item for item in (*view.join_keys, *view.features) if item.type is not ValueType.UNSPECIFIED]
    fields = [t.StructField(source.column_of(item.name), spark_type(item.type)) for item in items]
    times = [source.timestamp_column, *([source.created_column] if source.created_column else [])]
    fields += [t.StructField(name, t.TimestampType()) for name in times]
    return session.createDataFrame([], t.StructType(fields))
