"""Point-in-time joins through Feast's Spark store: for data that one machine does not hold.

The rows of the views are prepared (`spark_sources`), Feast's SparkOfflineStore joins them with
`filter_by_created_timestamp` as the request says, and the executors write the result as Parquet: exactly
the entity rows, in their order, with the features added. Nothing but counts passes through this process.

Order: entity rows of Parquet are numbered by (file, row in the file), streamed ones as they came. The part
files of the result, sorted by name, hold the rows in that order.
"""

from __future__ import annotations

import threading
import uuid
from collections.abc import Generator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import cast

import pyarrow as pa
import pyarrow.compute as pc
from feast import Entity, FeatureView, Field, ValueType
from feast.infra.offline_stores.contrib.spark_offline_store.spark import SparkOfflineStore, SparkRetrievalJob
from feast.infra.offline_stores.contrib.spark_offline_store.spark_source import SparkSource
from feast.infra.registry.base_registry import BaseRegistry
from feast.repo_config import RepoConfig
from feast.types import String
from py4j.protocol import Py4JError
from pyspark.errors import AnalysisException, PySparkException
from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as f
from pyspark.sql import types as t

from feature_service.domain import KnownAt, ViewRead
from feature_service.domain import ValueType as Kind
from feature_service.history.entity_rows import SpooledRows, malformed
from feature_service.history.join import JoinedFeature, JoinRequest, Progress, Step, Summary
from feature_service.planning import output_names
from feature_service.stores.spark_session import FeastSpark
from feature_service.stores.spark_sources import (
    CREATED,
    EVENT,
    key_text,
    named,
    prepared,
    said,
    spark_type,
    spark_uri,
    whole_seconds,
)
from plumbline.errors import Cancelled, FieldViolation, Internal
from plumbline.features.errors import InvalidField, JoinKeyMissing, SourceUnreadable, TypeMismatch

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
#: Feast's name for the time of an entity row; ours are named so that they meet no column of anybody.
_TIME, _FILE, _ROW = "event_timestamp", "pl_file", "pl_row"
#: Streamed entity rows go through the memory of this process.
_STREAMED_BYTES = 256 * 1024**2
_PROGRESS_SECONDS = 1.0


class SparkHistory:
    """Historical reads of a repository whose offline store is Feast's Spark store."""

    def __init__(self, config: RepoConfig, registry: BaseRegistry) -> None:
        """Starts Spark. Raises StartupError."""
        self._spark, self._registry = FeastSpark(config), registry

    def join(self, request: JoinRequest) -> SparkJoin:
        """One join. Raises InvalidField for what this store cannot do."""
        return SparkJoin(self._spark, self._registry, request)

    def close(self) -> None:
        """Ends the Spark application."""
        self._spark.close()


class SparkJoin:
    """One historical read on Spark. See history.HistoricalRun."""

    def __init__(self, spark: FeastSpark, registry: BaseRegistry, request: JoinRequest) -> None:
        """Raises InvalidField for what this store cannot do."""
        if not request.result_uri:
            raise refused(
                "header.result_uri",
                "this repository's offline store is Spark, which writes results to storage instead of "
                "streaming them: name a place for the Parquet files",
            )
        if request.plan.on_demand:
            names = ", ".join(sorted({item.label for item in request.plan.on_demand}))
            raise refused(
                "header.selection",
                f"on-demand views are not computed on Spark ({names}); ask for the features they read, and "
                "compute them from the result",
            )
        self._spark, self._registry, self._request = spark, registry, request
        self._group = f"plumbline-{uuid.uuid4()}"
        self._interrupted = False

    def interrupt(self) -> None:
        """See history.HistoricalRun."""
        self._interrupted = True
        self._spark.cancel(self._group)

    def run(self, spool: Path) -> Generator[Step, None, None]:
        """See history.HistoricalRun. SourceUnreadable is also what Spark cannot join exactly."""
        target, session = spark_uri(self._request.result_uri), self._spark.session()
        try:
            self._spark.run_as(self._group, f"features for {self._request.result_uri}")
            if self._spark.exists(target):
                raise refused("header.result_uri", f"{self._request.result_uri} exists already")
            rows = self._entity_rows(session, spool)
            originals = rows.columns[:-2]
            names = output_names(self._request.plan, full=self._request.full_names, taken=originals)
            entities = self._entities(rows, originals)
            count, bounds = self._measure(entities)
            yield Progress("receiving", count, count)
            result = self._joined(session, entities, count)
            columns = [f.col(f"c{i}").alias(name) for i, name in enumerate(originals)]
            columns += [column.alias(name) for column, name in zip(self._features(), names, strict=True)]
            yield from self._write(result.orderBy(_FILE, _ROW).select(*columns), target, count)
            present = self._check(session, target, count, names)
        except (PySparkException, Py4JError) as error:
            if self._interrupted:
                raise Cancelled("the join was cancelled") from error
            raise SourceUnreadable(f"Spark: {said(error)}", metadata={"view": ""}) from error
        yield self._summary(count, names, present, bounds)

    def _entity_rows(self, session: SparkSession, spool: Path) -> DataFrame:
        """The entity rows as they came, and two columns that tell their order."""
        uri = self._request.entity_rows_uri
        if uri:
            try:
                read = session.read.parquet(spark_uri(uri))
            except AnalysisException as error:
                raise malformed(f"the entity rows at {uri} cannot be read: {said(error)}") from error
            order = f.col("_metadata.file_path").alias(_FILE), f.col("_metadata.row_index").alias(_ROW)
            return read.select("*", *order)
        sent_rows = SpooledRows(spool)
        names = sent_rows.schema().names
        table = pa.Table.from_batches(sent_rows.checked(names), sent_rows.schema())
        if table.nbytes > _STREAMED_BYTES:
            raise refused(
                "header.entity_rows_uri",
                f"{table.nbytes} bytes of entity rows are more than the {_STREAMED_BYTES} that can be "
                "streamed to Spark; name Parquet files instead",
            )
        plain = [_for_spark(name, table[name]) for name in table.column_names]
        row = pa.array(range(table.num_rows), pa.int64())
        sent = pa.table([*plain, row], names=[*(f"c{i}" for i in range(len(plain))), _ROW])
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
        return frame.select(*columns, f.lit("").alias(_FILE), _ROW)

    def _entities(self, rows: DataFrame, originals: Sequence[str]) -> DataFrame:
        """The columns as they came (c0, c1, …), their order, the time, and one key for each read."""
        types = {item.name: item.dataType for item in rows.schema}
        plan, event = self._request.plan, self._request.event_column
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
        selected += [f.col(_FILE), f.col(_ROW), named(event).cast("timestamp").alias(_TIME)]
        for read in plan.reads:
            keys = [
                (_key(key.column, types[key.column], key.join_key.type), key.join_key.type)
                for key in read.keys
            ]
            selected.append(key_text(keys).alias(self._key_of(read)))
        return rows.select(*selected)

    def _key_of(self, read: ViewRead) -> str:
        return f"pl_k{self._request.plan.reads.index(read)}"

    def _measure(self, entities: DataFrame) -> tuple[int, tuple[datetime, datetime] | None]:
        """How many entity rows there are, and their least and greatest time."""
        micros = f.unix_micros(f.col(_TIME))
        found = entities.agg(
            f.count(f.lit(1)).alias("n"), f.count(_TIME).alias("timed"),
            f.min(micros).alias("low"), f.max(micros).alias("high"),
        ).collect()[0]  # fmt: skip
        event = self._request.event_column
        if found.timed < found.n:
            raise malformed(f"the event-time column {event!r} is null in {found.n - found.timed} rows", event)
        if not found.n:
            return 0, None
        try:
            low, high = (_EPOCH + timedelta(microseconds=moment) for moment in (found.low, found.high))
        except OverflowError as error:
            raise malformed(f"column {event!r} holds times outside of the years 1 to 9999", event) from error
        return found.n, (low, high)

    def _joined(self, session: SparkSession, entities: DataFrame, count: int) -> DataFrame:
        """The entities with a column for each feature of each read."""
        plan = self._request.plan
        with self._spark.planning(session):
            views = [self._feast_view(session, i, read) for i, read in enumerate(plan.reads)]
            if not count:  # Feast asks for the first and last time of the rows
                nulls = [
                    f.lit(None).cast(spark_type(item.type)).alias(_column(i, j))
                    for i, read in enumerate(plan.reads)
                    for j, item in enumerate(read.features)
                ]
                return entities.select("*", *nulls)
            job = SparkOfflineStore.get_historical_features(
                config=self._spark.config,
                feature_views=views,
                feature_refs=[f"{view.name}:{item.name}" for view in views for item in view.features],
                entity_df=entities,
                registry=self._registry,
                project=self._spark.config.project,
                full_feature_names=True,
                filter_by_created_timestamp=self._request.known_at is KnownAt.CREATED_BY_THEN,
            )
            return cast("SparkRetrievalJob", job).to_spark_df()

    def _feast_view(self, session: SparkSession, index: int, read: ViewRead) -> FeatureView:
        """The prepared rows of a view, as a view of their own for Feast."""
        key, name = self._key_of(read), f"pl_v{index}"
        table = f"{name}_{uuid.uuid4().hex}"
        rows = prepared(session, read.view, read.features, key)
        rows.createOrReplaceTempView(table)
        return FeatureView(
            name=name,
            entities=[Entity(name=key, join_keys=[key], value_type=ValueType.STRING)],
            ttl=whole_seconds(read.view),
            # The join looks at names only; types are those of the rows.
            schema=[Field(name=column, dtype=String) for column in (key, *_numbered(read))],
            source=SparkSource(
                table=table,
                timestamp_field=EVENT,
                created_timestamp_column=CREATED if CREATED in rows.columns else None,
            ),
        )

    def _features(self) -> list[Column]:
        """The columns of `_joined` behind the outputs of the plan, in their order."""
        plan = self._request.plan
        return [
            f.col(_column(item.index, plan.reads[item.index].features.index(item.feature)))
            for item in plan.outputs
        ]

    def _write(self, result: DataFrame, target: str, count: int) -> Generator[Step, None, None]:
        outcome: list[BaseException] = []

        def write() -> None:
            self._spark.run_as(self._group, f"features for {self._request.result_uri}")
            try:
                result.write.mode("errorifexists").parquet(target)
            except (PySparkException, Py4JError) as error:
                outcome.append(error)

        writer = threading.Thread(target=write, name="plumbline-spark")
        writer.start()
        try:
            done = 0
            while writer.is_alive():
                # Spark plans stage by stage: what is known to be left can grow, what is told does not shrink.
                done = max(done, int(count * self._spark.done(self._group)))
                yield Progress("joining", done, count)
                writer.join(_PROGRESS_SECONDS)
                if self._interrupted:
                    self._spark.cancel(self._group)  # also what was started after the last call
        finally:
            while writer.is_alive():
                self._spark.cancel(self._group)
                writer.join(_PROGRESS_SECONDS)
            if outcome:
                self._spark.remove(target)
        if outcome:
            raise outcome[0]

    def _check(self, session: SparkSession, target: str, count: int, names: Sequence[str]) -> list[int]:
        """Rows with a value, for each feature, counted in what was written."""
        written = session.read.parquet(target)
        found = written.agg(f.count(f.lit(1)), *(f.count(named(name)) for name in names)).collect()[0]
        if found[0] != count:
            self._spark.remove(target)
            raise Internal(f"Spark wrote {found[0]} rows for {count} entity rows; they were removed")
        return list(found[1:])

    def _summary(
        self,
        count: int,
        names: Sequence[str],
        present: Sequence[int],
        bounds: tuple[datetime, datetime] | None,
    ) -> Summary:
        plan = self._request.plan
        return Summary(
            rows=count,
            features=tuple(
                JoinedFeature(name, item.label, item.feature, number)
                for name, item, number in zip(names, plan.outputs, present, strict=True)
            ),
            digest=plan.digest,
            service=plan.service,
            views=plan.views,
            as_of=bounds,
            result_uri=self._request.result_uri,
        )


def refused(field: str, why: str) -> InvalidField:
    """The refusal of a request's field."""
    return InvalidField(f"{field}: {why}", metadata={"field": field}, violations=[FieldViolation(field, why)])


def _numbered(read: ViewRead) -> list[str]:
    return [f"f{i}" for i in range(len(read.features))]


def _column(read: int, feature: int) -> str:
    """How Feast names a feature of `_feast_view`."""
    return f"pl_v{read}__f{feature}"


def _key(name: str, actual: t.DataType, wanted: Kind) -> Column:
    """A join key of the entity rows in the type of the view's. Raises TypeMismatch."""
    target = spark_type(wanted)
    integers = wanted in (Kind.INT64, Kind.INT32) and (
        isinstance(actual, t.IntegralType) or (isinstance(actual, t.DecimalType) and actual.scale == 0)
    )
    times = wanted is Kind.TIMESTAMP and isinstance(actual, t.TimestampType | t.TimestampNTZType)
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
