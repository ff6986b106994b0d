"""Materialization for `feast materialize`, `feast materialize-incremental` and the SDK, from Arrow to rows:

    batch_engine:
      type: feature_service.stores.engine.PackedComputeEngine

With the offline store of this package it reads the Parquet files itself; what that means for late rows, ends
in the future and runs that were killed is said in `writes.materialize`. Any other offline store is asked for
an Arrow table. Packed online stores get packed rows, all others go through their
online_write_batch, guarded by event time. Views with transformations or aggregations are left to Feast's
local engine, and with other offline stores those with maps, structs and the like, too.
"""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Literal

import pyarrow as pa
import pyarrow.compute as pc
from feast import Entity, FeatureView, OnDemandFeatureView
from feast.feature_view import DUMMY_ENTITY_ID
from feast.infra.common.materialization_job import (
    MaterializationJob,
    MaterializationJobStatus,
    MaterializationTask,
)
from feast.infra.common.retrieval_task import HistoricalRetrievalTask
from feast.infra.compute_engines.base import ComputeEngine
from feast.infra.compute_engines.local.compute import LocalComputeEngine
from feast.infra.offline_stores.offline_store import OfflineStore, RetrievalJob
from feast.infra.registry.base_registry import BaseRegistry
from feast.repo_config import FeastConfigBaseModel

from feature_service import domain
from feature_service.arrow_types import to_utc_micros
from feature_service.coercion import coerce
from feature_service.domain import ValueType
from feature_service.feast_adapters import definitions as feast_definitions
from feature_service.feast_adapters.online import FeastOnlineStore
from feature_service.feast_adapters.online_stores import open_online_store
from feature_service.feast_adapters.repo import trusted_end
from feature_service.packed.store import PackedOnlineStore
from feature_service.planning import Definitions
from feature_service.ports import NO_TIME, Micros, NewRows, RowRange, RowScan
from feature_service.stores.asof import AsofOfflineStore
from feature_service.stores.asof_sources import join_limits
from feature_service.stores.newest import WRITE_ROWS, ParquetNewestRows
from feature_service.writes.checkpoints import Checkpoints, NotedLog
from feature_service.writes.materialize import Materialization, MaterializeProgress
from plumbline.features.errors import SourceUnreadable

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
#: Seconds to wait for an online store on the network.
_TIMEOUT = 30.0


class PackedComputeEngineConfig(FeastConfigBaseModel):
    """The batch_engine section of feature_store.yaml.

    lookback_hours: how far before its start an incremental run asks an offline store of Feast's for rows,
    which has no other way to find those that came late. With our own offline store it is not needed.
    """

    type: Literal["feature_service.stores.engine.PackedComputeEngine"] = (
        "feature_service.stores.engine.PackedComputeEngine"
    )
    lookback_hours: float = 24.0


@dataclass
class PackedJob(MaterializationJob):
    """A job that is done: what goes wrong is raised while it runs."""

    task: MaterializationTask
    name: str

    def status(self) -> MaterializationJobStatus:
        return MaterializationJobStatus.SUCCEEDED

    def error(self) -> BaseException | None:
        return None

    def should_be_retried(self) -> bool:
        return False

    def job_id(self) -> str:
        return self.name

    def url(self) -> str | None:
        return None


class PackedComputeEngine(ComputeEngine):
    """See the module."""

    def __init__(self, *, lookback_hours: float = 24.0, type: str = "", **common: Any) -> None:  # noqa: A002
        super().__init__(**common)
        self._lookback = timedelta(hours=lookback_hours)

    def update(
        self,
        project: str,
        views_to_delete: Sequence[FeatureView],
        views_to_keep: Sequence[FeatureView | OnDemandFeatureView],
        entities_to_delete: Sequence[Entity],
        entities_to_keep: Sequence[Entity],
    ) -> None:
        """Nothing is kept."""

    def teardown_infra(self, project: str, fvs: Sequence[FeatureView], entities: Sequence[Entity]) -> None:
        """Nothing is kept."""

    def get_historical_features(
        self, registry: BaseRegistry, task: HistoricalRetrievalTask
    ) -> RetrievalJob | pa.Table:
        """The offline store's join."""
        view = task.feature_view
        label = feast_definitions.projection(view.projection).label
        return self.offline_store.get_historical_features(
            config=self.repo_config,
            feature_views=[view],
            feature_refs=[f"{label}:{item.name}" for item in view.features],
            entity_df=task.entity_df,
            registry=registry,
            project=task.project,
            full_feature_names=task.full_feature_name,
        )

    def _materialize_one(
        self, registry: BaseRegistry, task: MaterializationTask, **others: Any
    ) -> MaterializationJob:
        repo = Path(self.repo_config.repo_path or ".")
        view = feast_definitions.feature_view(task.feature_view, task.project, repo)
        own = isinstance(self.offline_store, AsofOfflineStore)
        typed = view.join_keys if own else (*view.features, *view.join_keys)
        if _computed(task.feature_view) or any(item.type is ValueType.UNSPECIFIED for item in typed):
            local = LocalComputeEngine(
                repo_config=self.repo_config, offline_store=self.offline_store, online_store=self.online_store
            )
            return local.materialize(registry, task, **others)[0]
        store = open_online_store(self.repo_config, timeout=_TIMEOUT)
        try:
            return self._materialize(view, task, store)
        finally:
            if isinstance(store, PackedOnlineStore):
                store.close()

    def _materialize(
        self, view: domain.FeatureView, task: MaterializationTask, store: PackedOnlineStore | FeastOnlineStore
    ) -> MaterializationJob:
        now = datetime.now(UTC)
        start, end = _aware(task.start_time), min(_aware(task.end_time), now)
        checkpoints = Checkpoints(task.project, store.rows if isinstance(store, PackedOnlineStore) else None)
        rows: ParquetNewestRows | PulledRows
        if isinstance(self.offline_store, AsofOfflineStore):
            rows = ParquetNewestRows(join_limits(self.repo_config))
        else:
            rows = PulledRows(self.offline_store, self.repo_config, self._lookback)
        run = Materialization(
            store,
            rows,
            NotedLog(checkpoints, FeastIntervals(task.feature_view)),
            checkpoints,
            threading.Lock(),
        )
        begin: datetime | None = start - _MICROSECOND  # Feast's range has its start in it
        if task.disable_event_timestamp:
            begin = datetime.min.replace(tzinfo=UTC)
        elif start == _last(task.feature_view):
            begin = None  # an incremental run; Feast does not say so
        name = f"{view.name}-{task.start_time.isoformat()}-{task.end_time.isoformat()}"
        operation = hashlib.sha256(name.encode()).hexdigest()[:32]
        definitions = Definitions(task.project, {}, {view.name: view}, {}, {})
        if begin is None or begin < end:
            _show(task, run.run(definitions, [view.name], begin, end, operation))
        return PackedJob(task, name)


class FeastIntervals:
    """See ports.MaterializationLog: what Feast's registry knows of a view. Feast itself records the run."""

    def __init__(self, found: FeatureView) -> None:
        self._found = found

    def last_end(self, view: domain.FeatureView) -> datetime | None:
        """See ports.MaterializationLog."""
        return trusted_end(
            self._found.materialization_intervals, self._found.last_updated_timestamp, datetime.now(UTC)
        )

    def record(self, view: domain.FeatureView, start: datetime, end: datetime) -> None:
        """Feast does, when the engine has returned."""


class PulledRows:
    """See ports.NewestRows: rows from an offline store of Feast's, as an Arrow table in memory."""

    def __init__(self, store: OfflineStore, config: Any, lookback: timedelta) -> None:
        self._store, self._config, self._lookback = store, config, lookback

    @contextmanager
    def scan(self, view: domain.FeatureView, wanted: RowRange) -> Iterator[RowScan]:
        """See ports.NewestRows."""
        found: FeatureView = view.handle  # type: ignore[assignment]
        source = found.batch_source
        if source is None:
            raise SourceUnreadable(f"view {view.name} has no batch source", metadata={"view": view.name})
        start = wanted.after or _EPOCH
        if wanted.known_after is not None:
            start = wanted.known_after - self._lookback
        plain = {mapped: column for column, mapped in (source.field_mapping or {}).items()}
        job = self._store.pull_latest_from_table_or_query(
            config=self._config,
            data_source=source,
            join_key_columns=[plain.get(key.name, key.name) for key in view.join_keys] or [DUMMY_ENTITY_ID],
            feature_name_columns=[plain.get(item.name, item.name) for item in view.features],
            timestamp_field=source.timestamp_field,
            created_timestamp_column=source.created_timestamp_column or None,
            start_date=start,
            end_date=wanted.end,
        )
        yield PulledScan(view, job.to_arrow())

    def interrupt(self) -> None:
        """Nothing runs that could be stopped."""


class PulledScan:
    """See ports.RowScan. The state of the source is not known, so no run goes on where another stopped."""

    source = ""

    def __init__(self, view: domain.FeatureView, table: pa.Table) -> None:
        assert view.source is not None
        self._view, self._table, self._source = view, table, view.source

    def total(self) -> int:
        """See ports.RowScan."""
        return int(self._table.num_rows)

    def rows(self, skip: int = 0) -> Iterator[NewRows]:
        """See ports.RowScan."""
        created = self._source.created_column
        for start in range(skip, self._table.num_rows, WRITE_ROWS):
            part = self._table.slice(start, WRITE_ROWS).combine_chunks()
            yield NewRows(
                keys=tuple(self._column(part, key) for key in self._view.join_keys),
                values=tuple(self._column(part, item) for item in self._view.features),
                event_micros=_micros(part[self._source.timestamp_column]),
                created_micros=_micros(part[created]) if created in part.column_names else None,
            )

    def give(self, rows: NewRows, write: Callable[[NewRows], int]) -> int:
        """See ports.RowScan. What such a store was given meanwhile cannot be told: the rows as they are."""
        return write(rows)

    def finish(self, write: Callable[[NewRows], int]) -> None:
        """See ports.RowScan."""

    def _column(self, part: pa.Table, field: domain.Field) -> pa.Array:
        name = self._source.column_of(field.name)
        # Stores rename to the names of the view, or do not.
        found = part[name if name in part.column_names else field.name]
        if field.type in (ValueType.INT64, ValueType.INT32) and pa.types.is_floating(found.type):
            # Pandas has no integers with nulls: what went through it comes as floating point with NaN.
            found = pc.if_else(pc.is_nan(found), pa.scalar(None, found.type), found).cast(pa.int64())
        typed = coerce(found, field.type, field.name, floats=True)
        return typed.combine_chunks() if isinstance(typed, pa.ChunkedArray) else typed


def _computed(view: FeatureView) -> bool:
    """Whether more is to be done than to copy the source's rows online."""
    transformation = getattr(view, "feature_transformation", None) or getattr(view, "udf", None)
    return bool(transformation or getattr(view, "aggregations", None) or view.source_views or view.offline)


def _last(view: FeatureView) -> datetime | None:
    """What Feast takes for the end of the last run."""
    end = view.most_recent_end_time
    return None if end is None else _aware(end)


def _show(task: MaterializationTask, steps: Generator[MaterializeProgress, None, None]) -> None:
    """Runs, and moves Feast's progress bar."""
    bar, shown = None, 0
    try:
        for step in steps:
            if bar is None and task.tqdm_builder is not None:
                bar = task.tqdm_builder(step.rows_total)
            if bar is not None:
                bar.update(step.rows_written - shown)
                shown = step.rows_written
    finally:
        if bar is not None:
            bar.close()


def _micros(times: pa.ChunkedArray) -> Micros:
    found: Micros = to_utc_micros(times).cast(pa.int64()).fill_null(NO_TIME).to_numpy()
    return found


def _aware(moment: datetime) -> datetime:
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).astimezone(UTC)
