"""Point-in-time joins of a repository with Feast's Spark store: for data that one machine does not hold.

Feast's settings, session and sources are used as they are; the join is ours (`spark_asof`), since Feast's is
not exact there and pairs each entity row with each feature row of its key. The executors write the result
as Parquet: exactly the entity rows, in their order, with the features added. Nothing but counts passes
through this process, except entity rows that a caller streams.

Order: entity rows of Parquet are numbered by (file, row in the file), streamed ones as they came. The part
files of the result, sorted by name, hold the rows in that order.
"""

from __future__ import annotations

import threading
import uuid
from collections.abc import Generator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

from feast.repo_config import RepoConfig
from py4j.protocol import Py4JError
from pyspark.errors import AnalysisException, PySparkException
from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as f

from feature_service.history.entity_rows import bad_field
from feature_service.history.join import JoinedFeature, JoinRequest, Progress, Step, Summary
from feature_service.planning import output_names
from feature_service.stores.remote import shown
from feature_service.stores.spark_asof import latest
from feature_service.stores.spark_entities import (
    FILE,
    ROW,
    entities,
    key_of,
    measured,
    stored_rows,
    streamed_rows,
)
from feature_service.stores.spark_session import FeastSpark, as_named, said, spark_uri
from feature_service.stores.spark_sources import feature_rows, named, spark_type
from plumbline.errors import Cancelled, Internal
from plumbline.features.errors import SourceUnreadable

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_PROGRESS_SECONDS = 1.0


class SparkHistory:
    """Historical reads of a repository whose offline store is Feast's Spark store."""

    def __init__(self, config: RepoConfig) -> None:
        """Starts Spark. Raises StartupError."""
        self._spark = FeastSpark(config)

    def join(self, request: JoinRequest) -> SparkJoin:
        """One join. Raises InvalidField for what this store cannot do."""
        return SparkJoin(self._spark, request)

    def close(self) -> None:
        """Ends the Spark application."""
        self._spark.close()


class SparkJoin:
    """One historical read on Spark. See history.HistoricalRun."""

    def __init__(self, spark: FeastSpark, request: JoinRequest) -> None:
        """Raises InvalidField for what this store cannot do."""
        if not request.result_uri:
            raise bad_field(
                "result_uri",
                "this repository's offline store is Spark, which writes results to storage instead of "
                "streaming them: name a place for the Parquet files",
            )
        if request.plan.on_demand:
            names = ", ".join(sorted({item.label for item in request.plan.on_demand}))
            raise bad_field(
                "selection",
                f"on-demand views are not computed on Spark ({names}); ask for the features they read, and "
                "compute them from the result",
            )
        self._target = place("result_uri", request.result_uri)
        self._rows = place("entity_rows_uri", request.entity_rows_uri) if request.entity_rows_uri else ""
        self._spark, self._request = spark, request
        self._group = f"plumbline-{uuid.uuid4()}"
        self._title = f"features for {shown(request.result_uri)}"
        self._interrupted = False

    def interrupt(self) -> None:
        """See history.HistoricalRun."""
        self._interrupted = True
        self._spark.cancel(self._group)

    def run(self, spool: Path) -> Generator[Step, None, None]:
        """See history.HistoricalRun. SourceUnreadable is also what Spark cannot join exactly."""
        try:
            with self._spark.claim(self._target) as free:
                yield from self._steps(spool, free=free)
        except (PySparkException, Py4JError, ConnectionError) as error:
            if self._interrupted:
                raise Cancelled("the join was cancelled") from error
            raise SourceUnreadable(f"Spark: {said(error)}", metadata={"view": ""}) from error

    def _steps(self, spool: Path, *, free: bool) -> Generator[Step, None, None]:
        self._spark.run_as(self._group, self._title)
        self._refuse_taken(free=free)
        session, event = self._spark.session(), self._request.event_column
        rows = stored_rows(session, self._rows) if self._rows else streamed_rows(session, spool)
        originals = rows.columns[:-2]
        names = output_names(self._request.plan, full=self._request.full_names, taken=originals)
        found = entities(rows, self._request.plan, event)
        count, bounds = measured(found, event)
        yield Progress("receiving", count, count)
        result = self._joined(session, found, bounds)
        columns = [f.col(f"c{i}").alias(name) for i, name in enumerate(originals)]
        columns += [column.alias(name) for column, name in zip(self._features(), names, strict=True)]
        yield from self._write(result.orderBy(FILE, ROW).select(*columns), count)
        present = self._check(session, count, names)
        yield self._summary(count, names, present, bounds)

    def _refuse_taken(self, *, free: bool) -> None:
        uri = shown(self._request.result_uri)
        if not free:
            raise bad_field("result_uri", f"{uri} is being written by another join")
        try:
            there = self._spark.exists(self._target)
        except Py4JError as error:
            raise bad_field("result_uri", f"{uri} cannot be reached: {said(error)}") from error
        if there:
            raise bad_field("result_uri", f"{uri} exists already")

    def _joined(
        self, session: SparkSession, rows: DataFrame, bounds: tuple[datetime, datetime] | None
    ) -> DataFrame:
        """The entities with a column for each feature of each read."""
        for index, read in enumerate(self._request.plan.reads):
            names = [_column(index, item) for item in range(len(read.features))]
            if bounds is None:
                kinds = [spark_type(item.type) for item in read.features]
                nulls = [f.lit(None).cast(kind) for kind in kinds]
                rows = rows.select("*", *(null.alias(name) for name, null in zip(names, nulls, strict=True)))
                continue
            low, high = ((moment - _EPOCH) // _MICROSECOND for moment in bounds)
            with self._spark.planning(session):
                answers, fields = feature_rows(
                    session, read.view, read.features, self._request.known_at, (low, high)
                )
            ttl = None if read.view.ttl is None else read.view.ttl // _MICROSECOND
            rows = latest(rows, answers, key_of(index), dict(zip(names, fields, strict=True)), ttl)
        return rows

    def _features(self) -> list[Column]:
        """The columns of `_joined` behind the outputs of the plan, in their order."""
        plan = self._request.plan
        return [
            f.col(_column(item.index, plan.reads[item.index].features.index(item.feature)))
            for item in plan.outputs
        ]

    def _write(self, result: DataFrame, count: int) -> Generator[Step, None, None]:
        outcome: list[BaseException] = []

        def write() -> None:
            self._spark.run_as(self._group, self._title)
            try:
                result.write.mode("errorifexists").parquet(self._target)
            except (PySparkException, Py4JError, ConnectionError) as error:
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
            # What Spark refuses to begin has left nothing; what is there is somebody else's.
            if outcome and not isinstance(outcome[0], AnalysisException):
                self._spark.remove(self._target)
        if outcome:
            raise outcome[0]

    def _check(self, session: SparkSession, count: int, names: Sequence[str]) -> list[int]:
        """Rows with a value, for each feature, counted in what was written."""
        written = session.read.parquet(as_named(self._target))
        found = written.agg(f.count(f.lit(1)), *(f.count(named(name)) for name in names)).collect()[0]
        if found[0] != count:
            self._spark.remove(self._target)
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


def place(field: str, uri: str) -> str:
    """A request's URI for Spark. Raises InvalidField."""
    try:
        return spark_uri(uri)
    except ValueError as error:
        raise bad_field(field, str(error)) from error


def _column(read: int, feature: int) -> str:
    """The column of a feature of a read."""
    return f"pl_v{read}_{feature}"
