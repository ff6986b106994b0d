"""Feature rows on Spark: where they lie, their types, their keys, and which of two counts more."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

from feast import FileSource
from feast.errors import DataSourceNotFoundException
from feast.infra.offline_stores.contrib.spark_offline_store.spark_source import SparkSource
from py4j.protocol import Py4JJavaError
from pyspark.errors import AnalysisException
from pyspark.sql import Column, DataFrame, DataFrameReader, SparkSession
from pyspark.sql import functions as f
from pyspark.sql import types as t

from feature_service.domain import FeatureView, Field, KnownAt, Source, ValueType
from feature_service.stores import parquet
from feature_service.stores.parts import PART_NAME
from feature_service.stores.spark_session import as_named, said, spark_uri
from plumbline.features.errors import SourceUnreadable

KEY, AT, ANSWER, EVENT = "pl_key", "pl_at", "pl_answer", "pl_event"
_CREATED, _PART = "pl_created", "pl_part"
_MICROSECOND = timedelta(microseconds=1)
_FOOTERS_AT_ONCE = 16
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


def feature_rows(
    session: SparkSession,
    view: FeatureView,
    features: Sequence[Field],
    known_at: KnownAt,
    bounds: tuple[int, int],
) -> tuple[DataFrame, tuple[str, ...]]:
    """The view's rows that can matter as KEY, AT (the moment a row counts from) and ANSWER, a struct that is
    the greater, the more a row counts; and the fields of ANSWER that hold the features. EVENT is one, too.

    bounds: least and greatest time of the entity rows. All times are microseconds since 1970, UTC.
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

    ranked = [item for item in view.features if item.type is not ValueType.UNSPECIFIED]
    event = moment(source.timestamp_column)
    created = moment(source.created_column) if source.created_column else f.lit(None).cast("timestamp")
    low, high = bounds
    wanted = event <= f.timestamp_micros(f.lit(high))
    if view.ttl is not None:
        wanted &= event >= f.timestamp_micros(f.lit(low - view.ttl // _MICROSECOND))
    chosen = rows.where(wanted).select(
        key_text([(column(item), item.type) for item in view.join_keys]).alias(KEY),
        f.unix_micros(event).alias(EVENT),
        f.unix_micros(created).alias(_CREATED),
        f.regexp_extract(f.input_file_name(), "/" + PART_NAME, 1).alias(_PART),
        *(column(item).alias(f"f{i}") for i, item in enumerate(features)),
        *(_rank(column(item), item).alias(f"t{i}") for i, item in enumerate(ranked)),
    )
    chosen = chosen.where(named(KEY).isNotNull())
    at = f.greatest(EVENT, _CREATED) if known_at is KnownAt.CREATED_BY_THEN else named(EVENT)
    order = [EVENT, _CREATED, _PART]
    asked = {item.name for item in features}
    if asked.issuperset(item.name for item in ranked) or _tied(chosen, [KEY, *order]):
        order += [f"t{i}" for i in range(len(ranked))]
    values = tuple(f"f{i}" for i in range(len(features)))
    return chosen.select(KEY, at.alias(AT), f.struct(*order, *values).alias(ANSWER)), values


def _rank(value: Column, item: Field) -> Column:
    """What puts values in DuckDB's order, where the nulls in lists are greatest."""
    return f.transform(value, lambda x: f.struct(x.isNull(), x)) if item.type.is_list else value


def _tied(rows: DataFrame, columns: Sequence[str]) -> bool:
    """Whether rows agree in some columns; the others need not be read to tell."""
    return not rows.groupBy(*columns).count().where("count > 1").isEmpty()


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
        return _as_one(reader, files, view, source)
    top = source.path.removeprefix("file://").rstrip("/")
    declared = {source.column_of(item.name): item.type for item in (*view.join_keys, *view.features)}
    declared |= dict.fromkeys(filter(None, (source.timestamp_column, source.created_column)), _TIME)
    inside = [file for file in files if "=" in file[len(top) :].rpartition("/")[0]]
    rows = _as_one(session.read.options(mergeSchema="true", basePath=spark_uri(top)), inside, view, source)
    # The names of folders are text; what they mean is declared.
    for name in partitions:
        if name in declared:
            rows = rows.withColumn(name, named(name).cast(spark_type(declared[name])))
    pushed = sorted({*files} - {*inside})
    if not pushed:
        return rows
    more = _as_one(reader, pushed, view, source)
    alike = {item.name: item.dataType for item in rows.schema}
    if any(alike.get(item.name, item.dataType) != item.dataType for item in more.schema):
        rows, more = (_as_declared(part, view, source) for part in (rows, more))
    return rows.unionByName(more, allowMissingColumns=True)


def _as_one(reader: DataFrameReader, files: Sequence[str], view: FeatureView, source: Source) -> DataFrame:
    """The rows of files as they are; where their types differ, in those that the view declares.

    Spark alone unites no int with a bigint. A push adds a part of a wider type where that of the source's
    files would change what was pushed.
    """
    try:
        return reader.parquet(*map(_named_file, files))
    except Py4JJavaError as error:
        if "CANNOT_MERGE" not in str(error):
            raise
    with ThreadPoolExecutor(_FOOTERS_AT_ONCE) as pool:
        schemas = list(pool.map(parquet.schema_of, files))
    alike: dict[frozenset[tuple[str, str]], list[str]] = {}
    for file, schema in zip(files, schemas, strict=True):
        alike.setdefault(frozenset((item.name, str(item.type)) for item in schema), []).append(file)
    frames = [
        _as_declared(reader.parquet(*map(_named_file, group)), view, source) for group in alike.values()
    ]
    return functools.reduce(lambda one, other: one.unionByName(other, allowMissingColumns=True), frames)


def _as_declared(rows: DataFrame, view: FeatureView, source: Source) -> DataFrame:
    """The columns that the view reads, in the types it declares."""
    types = {item.name: item.dataType for item in rows.schema}
    declared = {source.column_of(item.name): item.type for item in (*view.join_keys, *view.features)}
    times = filter(None, (source.timestamp_column, source.created_column))
    chosen = []
    for name, kind in (declared | dict.fromkeys(times, _TIME)).items():
        if name in types:
            plain = kind is ValueType.UNSPECIFIED
            column = named(name) if plain else typed(named(name), types[name], kind, name)
            chosen.append(column.alias(name))
    return rows.select(*chosen)


def _named_file(file: str) -> str:
    return as_named(spark_uri(file))


def _nothing(session: SparkSession, view: FeatureView, source: Source) -> DataFrame:
    """No rows, with the columns that are read."""
    items = [item for item in (*view.join_keys, *view.features) if item.type is not ValueType.UNSPECIFIED]
    fields = [t.StructField(source.column_of(item.name), spark_type(item.type)) for item in items]
    times = [source.timestamp_column, *([source.created_column] if source.created_column else [])]
    fields += [t.StructField(name, t.TimestampType()) for name in times]
    return session.createDataFrame([], t.StructType(fields))
