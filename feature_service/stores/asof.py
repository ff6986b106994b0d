"""The point-in-time joins as a Feast offline store.

In feature_store.yaml:

    offline_store:
      type: feature_service.stores.asof.AsofOfflineStore
      memory_limit: 2GB          # beyond it, joins spill to temp_folder

It reads FileSources of Parquet files or folders, and gives back exactly the entity rows it was given, in
their order. What counts as known at a moment is said in `feature_service.stores.asof_sql`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Literal

import duckdb
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from feast import FeatureView, FileSource
from feast.data_source import DataSource
from feast.errors import SavedDatasetLocationAlreadyExists
from feast.feature_view import DUMMY_ENTITY_ID
from feast.infra.offline_stores.file_source import SavedDatasetFileStorage
from feast.infra.offline_stores.offline_store import OfflineStore, RetrievalJob, RetrievalMetadata
from feast.infra.offline_stores.offline_utils import DEFAULT_ENTITY_DF_EVENT_TIMESTAMP_COL
from feast.infra.registry.base_registry import BaseRegistry
from feast.on_demand_feature_view import OnDemandFeatureView
from feast.repo_config import FeastConfigBaseModel, RepoConfig
from feast.saved_dataset import SavedDatasetStorage

from feature_service import feast_definitions
from feature_service.arrow_types import to_utc_micros
from feature_service.coercion import coerce
from feature_service.domain import KnownAt
from feature_service.stores import parquet
from feature_service.stores.asof_join import AsofJoin, JoinLimits
from feature_service.stores.asof_sql import ParquetRows
from feature_service.stores.source_views import source_view

_MICROSECOND = timedelta(microseconds=1)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class AsofOfflineStoreConfig(FeastConfigBaseModel):
    """The offline_store section of feature_store.yaml."""

    type: Literal["feature_service.stores.asof.AsofOfflineStore"] = (
        "feature_service.stores.asof.AsofOfflineStore"
    )
    #: As DuckDB writes it; beyond it, joins spill to disk.
    memory_limit: str = "2GB"
    #: 0: one for each core.
    threads: int = 0
    #: Where joins spill and keep results; unset: the system's temporary folder.
    temp_folder: str | None = None
    #: Rows created after an entity row's time do not count for it. False: Feast's own default, where
    #: `filter_by_created_timestamp=True` asks for it call by call.
    known_at: bool = True


class AsofRetrievalJob(RetrievalJob):
    """A query that runs when its result is asked for."""

    def __init__(
        self,
        run: Callable[[], pa.Table],
        repo: Path,
        *,
        full_feature_names: bool = False,
        on_demand_feature_views: list[OnDemandFeatureView] | None = None,
        metadata: RetrievalMetadata | None = None,
    ) -> None:
        self._run, self._repo = run, repo
        self._full_feature_names = full_feature_names
        self._on_demand = on_demand_feature_views or []
        self._metadata = metadata

    @property
    def full_feature_names(self) -> bool:
        return self._full_feature_names

    @property
    def on_demand_feature_views(self) -> list[OnDemandFeatureView]:
        return self._on_demand

    @property
    def metadata(self) -> RetrievalMetadata | None:
        return self._metadata

    def _to_arrow_internal(self, timeout: int | None = None) -> pa.Table:
        return self._run()

    def _to_df_internal(self, timeout: int | None = None) -> pd.DataFrame:
        frame: pd.DataFrame = self._run().to_pandas()
        return frame

    def persist(
        self, storage: SavedDatasetStorage, allow_overwrite: bool = False, timeout: int | None = None
    ) -> None:
        """Writes the result as one Parquet file. Raises SavedDatasetLocationAlreadyExists."""
        if not isinstance(storage, SavedDatasetFileStorage):
            raise ValueError("this store persists to a SavedDatasetFileStorage only")
        target = Path(FileSource.get_uri_for_file_path(self._repo, storage.file_options.uri))
        if target.exists() and not allow_overwrite:
            raise SavedDatasetLocationAlreadyExists(location=str(target))
        target.parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(self.to_arrow(timeout=timeout), target)


class AsofOfflineStore(OfflineStore):
    """Point-in-time joins on DuckDB's ASOF JOIN."""

    supports_filter_by_created_timestamp = True

    @staticmethod
    def get_historical_features(
        config: RepoConfig,
        feature_views: list[FeatureView],
        feature_refs: list[str],
        entity_df: pd.DataFrame | str | None,
        registry: BaseRegistry,
        project: str,
        full_feature_names: bool = False,
        **kwargs: Any,
    ) -> RetrievalJob:
        """Joins the views to the entity rows. A string is a DuckDB query that gives them.

        Without entity rows (a range of dates) it raises ValueError: a training row has a time.
        """
        if entity_df is None:
            raise ValueError("entity_df is required: features are joined to entity rows at their times")
        options = config.offline_store
        filtered = options.known_at or kwargs.get("filter_by_created_timestamp", False)
        known_at = KnownAt.CREATED_BY_THEN if filtered else KnownAt.IGNORE_CREATED
        entities = _entity_table(entity_df)
        time_column = _time_column(entities)
        times = to_utc_micros(entities[time_column])
        repo = Path(config.repo_path or ".")
        reads = [
            (view, feast_definitions.feature_view(view, project, repo), _requested(view, feature_refs))
            for view in feature_views
        ]

        def run() -> pa.Table:
            table = entities
            with AsofJoin(limits(options)) as join:
                keys: list[pa.ChunkedArray] = []
                plans = []
                for found, view, names in reads:
                    projected = feast_definitions.projection(found.projection)
                    columns = []
                    for key in view.join_keys:
                        column = projected.entity_column(key.name)
                        columns.append(f"e{len(keys)}")
                        keys.append(coerce(entities[column], key.type, column))
                    features = [item for item in view.features if item.name in names]
                    plans.append((projected.label, source_view(view, features, columns)))
                join.set_entities(times.cast(pa.int64()), keys)
                for label, plan in plans:
                    answer = join.join(plan, known_at)
                    for name in answer.column_names:
                        shown = f"{label}__{name}" if full_feature_names else name
                        table = table.append_column(shown, answer[name])
            return table

        low, high = _bounds(times)
        return AsofRetrievalJob(
            run,
            repo,
            full_feature_names=full_feature_names,
            on_demand_feature_views=OnDemandFeatureView.get_requested_odfvs(feature_refs, project, registry),
            metadata=RetrievalMetadata(
                features=feature_refs,
                keys=[name for name in entities.column_names if name != time_column],
                min_event_timestamp=low,
                max_event_timestamp=high,
            ),
        )

    @staticmethod
    def pull_latest_from_table_or_query(
        config: RepoConfig,
        data_source: DataSource,
        join_key_columns: list[str],
        feature_name_columns: list[str],
        timestamp_field: str,
        created_timestamp_column: str | None,
        start_date: datetime,
        end_date: datetime,
    ) -> RetrievalJob:
        """The newest row of each key with event time in [start_date, end_date]."""
        run = _pull(
            config, data_source, join_key_columns, feature_name_columns, start_date, end_date, newest=True
        )
        return AsofRetrievalJob(run, Path(config.repo_path or "."))

    @staticmethod
    def pull_all_from_table_or_query(
        config: RepoConfig,
        data_source: DataSource,
        join_key_columns: list[str],
        feature_name_columns: list[str],
        timestamp_field: str,
        created_timestamp_column: str | None = None,
        start_date: datetime | None = None,
        end_date: datetime | None = None,
    ) -> RetrievalJob:
        """Every row with event time in [start_date, end_date], by event time."""
        run = _pull(
            config, data_source, join_key_columns, feature_name_columns, start_date, end_date, newest=False
        )
        return AsofRetrievalJob(run, Path(config.repo_path or "."))

    @staticmethod
    def offline_write_batch(
        config: RepoConfig,
        feature_view: FeatureView,
        table: pa.Table,
        progress: Callable[[int], Any] | None,
    ) -> None:
        """Adds rows to the view's source as a Parquet part; the same rows twice are written once."""
        source = feature_view.batch_source
        if not isinstance(source, FileSource):
            raise ValueError(f"view {feature_view.name}: only a FileSource can be written to")
        sink = pa.BufferOutputStream()
        with pa.ipc.new_stream(sink, table.schema) as writer:
            writer.write_table(table)
        digest = hashlib.sha256(sink.getvalue()).hexdigest()[:32]
        path = FileSource.get_uri_for_file_path(config.repo_path, source.path)
        parquet.append(path, table, digest, digest)
        if progress:
            progress(table.num_rows)


def limits(options: AsofOfflineStoreConfig) -> JoinLimits:
    """The limits of joins as configured."""
    return JoinLimits(options.memory_limit, options.threads, options.temp_folder)


def _entity_table(entity_df: pd.DataFrame | str) -> pa.Table:
    if isinstance(entity_df, str):
        with duckdb.connect(":memory:") as connection:
            return connection.sql(entity_df).to_arrow_table()
    return pa.Table.from_pandas(entity_df, preserve_index=False)


def _time_column(entities: pa.Table) -> str:
    """As Feast: "event_timestamp", or else the one column of timestamps."""
    times = [item.name for item in entities.schema if pa.types.is_timestamp(item.type)]
    if DEFAULT_ENTITY_DF_EVENT_TIMESTAMP_COL in times:
        return str(DEFAULT_ENTITY_DF_EVENT_TIMESTAMP_COL)
    if len(times) == 1:
        return str(times[0])
    raise ValueError(f"name the time of the entity rows {DEFAULT_ENTITY_DF_EVENT_TIMESTAMP_COL}")


def _requested(view: FeatureView, feature_refs: list[str]) -> set[str]:
    label = feast_definitions.projection(view.projection).label
    return {ref.split(":", 1)[1] for ref in feature_refs if ref.split(":", 1)[0] == label}


def _bounds(times: pa.ChunkedArray) -> tuple[datetime | None, datetime | None]:
    bounds = pc.min_max(times).as_py()
    return bounds["min"], bounds["max"]


def _pull(
    config: RepoConfig,
    source: DataSource,
    keys: list[str],
    columns: list[str],
    start: datetime | None,
    end: datetime | None,
    *,
    newest: bool,
) -> Callable[[], pa.Table]:
    if not isinstance(source, FileSource):
        raise ValueError(f"source {source.name}: only a FileSource of Parquet can be read")
    path = FileSource.get_uri_for_file_path(config.repo_path, source.path)
    created = source.created_timestamp_column or None
    # Feast's stand-in for the key of a view without entities is in no file.
    keys = [key for key in keys if key != DUMMY_ENTITY_ID]

    def run() -> pa.Table:
        rows = ParquetRows(parquet.files_of(path), source.timestamp_field, created)
        with AsofJoin(limits(config.offline_store)) as join:
            return join.pull(
                source.name, rows, keys, columns, _micros(start), _micros(end), newest_only=newest
            )

    return run


def _micros(moment: datetime | None) -> int | None:
    if moment is None:
        return None
    aware = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    return (aware - _EPOCH) // _MICROSECOND
