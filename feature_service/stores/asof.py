"""The point-in-time joins as a Feast offline store.

In feature_store.yaml:

    offline_store:
      type: feature_service.stores.asof.AsofOfflineStore
      memory_limit: 2GB          # beyond it, joins spill to temp_folder

It reads FileSources of Parquet files or folders, on this machine or in object storage, and gives back exactly
the entity rows it was given, in their order. What counts as known at a moment is said in
`feature_service.stores.asof_sql`. What it does otherwise than Feast's own stores: docs/feast.md.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any, Literal

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds
import pyarrow.parquet as pq
from feast import FeatureView, FileSource
from feast.data_source import DataSource
from feast.errors import FeastEntityDFMissingColumnsError
from feast.feature_logging import LoggingConfig, LoggingSource
from feast.infra.offline_stores.file_source import FileLoggingDestination
from feast.infra.offline_stores.offline_store import RetrievalJob, RetrievalMetadata
from feast.infra.registry.base_registry import BaseRegistry
from feast.on_demand_feature_view import OnDemandFeatureView
from feast.repo_config import FeastConfigBaseModel, RepoConfig
from feast.utils import _parse_feature_ref, compute_non_entity_date_range

from feature_service import feast_definitions
from feature_service.domain import FeatureView as View
from feature_service.domain import Field, KnownAt, Projection
from feature_service.stores import parquet, remote
from feature_service.stores.asof_job import AsofRetrievalJob
from feature_service.stores.asof_join import AsofJoin
from feature_service.stores.asof_refusals import WithoutMonitoring
from feature_service.stores.asof_sources import SourceRows, file_source, join_limits, path_of
from feature_service.stores.entity_rows import EVENT_TIMESTAMP, EntityRows, entity_rows, key_column
from feature_service.stores.source_views import source_view


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
    #: Where RetrievalJob.to_remote_storage writes: a folder or s3://…, and the S3 endpoint of it.
    staging_location: str | None = None
    staging_location_endpoint_override: str | None = None


class AsofOfflineStore(WithoutMonitoring):
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

        Without entity rows: a row for each entity with events in [start_date, end_date], as of end_date.
        Raises ValueError (rows without a time, names that collide), FeastEntityDFMissingColumnsError, and
        when the job runs the errors of AsofJoin.
        """
        options = config.offline_store
        repo = Path(config.repo_path or ".")
        cutoff = options.known_at or kwargs.get("filter_by_created_timestamp", False)
        for found in feature_views:
            path_of(config, file_source(found.batch_source))
        reads = [_Read(found, feature_refs, project, repo) for found in feature_views]
        low: datetime | None
        high: datetime | None
        if entity_df is None:
            low, high = compute_non_entity_date_range(
                feature_views, start_date=kwargs.get("start_date"), end_date=kwargs.get("end_date")
            )
            entities = entity_rows(_entities_between(config, feature_views, reads, low, high))
        else:
            entities = entity_rows(entity_df)
            low, high = _bounds(entities.times)
        names = _output_names(entities, reads, full_feature_names)
        known_at = KnownAt.CREATED_BY_THEN if cutoff else KnownAt.IGNORE_CREATED

        def run() -> pa.Table:
            table = entities.table
            with AsofJoin(join_limits(config)) as join:
                keys: list[pa.ChunkedArray] = []
                plans = []
                for read in reads:
                    columns = []
                    for key in read.view.join_keys:
                        columns.append(f"e{len(keys)}")
                        name = read.projection.entity_column(key.name)
                        keys.append(key_column(entities.table[name], key.type, name))
                    plans.append(source_view(read.view, read.features, columns, any_type=True))
                join.set_entities(entities.times.cast(pa.int64()), keys)
                for plan, shown in zip(plans, names, strict=True):
                    answer = join.join(plan, known_at)
                    for name, column in zip(shown, answer.columns, strict=True):
                        table = table.append_column(name, column)
            return table

        return _job(
            config,
            run,
            full_feature_names=full_feature_names,
            on_demand_feature_views=OnDemandFeatureView.get_requested_odfvs(feature_refs, project, registry),
            metadata=RetrievalMetadata(
                features=feature_refs,
                keys=entities.other_columns,
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
        rows = SourceRows(config, data_source, timestamp_field, created_timestamp_column)
        return _job(
            config,
            lambda: rows.pull(join_key_columns, feature_name_columns, start_date, end_date, newest=True),
        )

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
        rows = SourceRows(config, data_source, timestamp_field, created_timestamp_column)
        return _job(
            config,
            lambda: rows.pull(join_key_columns, feature_name_columns, start_date, end_date, newest=False),
        )

    @staticmethod
    def offline_write_batch(
        config: RepoConfig,
        feature_view: FeatureView,
        table: pa.Table,
        progress: Callable[[int], Any] | None,
    ) -> None:
        """Adds rows to the view's source as a Parquet part; the same rows twice are written once."""
        source = file_source(feature_view.batch_source)
        path = path_of(config, source)
        # Feast hands over the names of the view, whichever the caller used.
        columns = {mapped: column for column, mapped in (source.field_mapping or {}).items()}
        table = table.select([name for name in table.column_names if not name.startswith("__index_level_")])
        table = table.rename_columns([columns.get(name, name) for name in table.column_names])
        table = parquet.in_types_of(path, table.replace_schema_metadata(None))
        digest = parquet.digest_of(table)
        parquet.append(path, table, digest, digest)
        if progress:
            progress(table.num_rows)

    @staticmethod
    def write_logged_features(
        config: RepoConfig,
        data: pa.Table | Path,
        source: LoggingSource,
        logging_config: LoggingConfig,
        registry: BaseRegistry,
    ) -> None:
        """Adds logged features to a FileLoggingDestination: as a part, or in hive folders by partition_by."""
        destination = logging_config.destination
        if not isinstance(destination, FileLoggingDestination):
            raise ValueError("this store logs to a FileLoggingDestination only")
        rows = pq.read_table(data) if isinstance(data, Path) else data
        uri = FileSource.get_uri_for_file_path(config.repo_path, destination.path)
        path = remote.at_endpoint(uri, destination.s3_endpoint_override)
        digest = parquet.digest_of(rows)
        if not destination.partition_by:
            parquet.append(path, rows, digest, digest)
            return
        filesystem, folder = remote.open_filesystem(path)
        ds.write_dataset(
            rows,
            folder,
            filesystem=filesystem,
            format="parquet",
            basename_template=f"{digest}-{{i}}.parquet",
            partitioning=destination.partition_by,
            partitioning_flavor="hive",
            existing_data_behavior="overwrite_or_ignore",
        )


class _Read:
    """One view of a retrieval: under which label, which features."""

    def __init__(self, found: FeatureView, feature_refs: list[str], project: str, repo: Path) -> None:
        self.view: View = feast_definitions.feature_view(found, project, repo)
        self.projection: Projection = feast_definitions.projection(found.projection)
        wanted = {feature for label, feature in map(_split, feature_refs) if label == self.projection.label}
        self.features: list[Field] = [item for item in self.view.features if item.name in wanted]


def _job(config: RepoConfig, run: Callable[[], pa.Table], **others: Any) -> AsofRetrievalJob:
    options = config.offline_store
    staging = None
    if options.staging_location:
        staging = (options.staging_location, options.staging_location_endpoint_override)
    return AsofRetrievalJob(run, Path(config.repo_path or "."), staging=staging, **others)


def _split(ref: str) -> tuple[str, str]:
    """The label of the view (with its version, as projections have it) and the feature of a reference."""
    name, version, feature = _parse_feature_ref(ref)
    return (name if version is None else f"{name}@v{version}"), feature


def _output_names(entities: EntityRows, reads: list[_Read], full: bool) -> list[list[str]]:
    """The result's names of the features of each read. Raises for missing keys and for collisions."""
    wanted = {read.projection.entity_column(key.name) for read in reads for key in read.view.join_keys}
    missing = wanted - set(entities.table.column_names)
    if missing:
        raise FeastEntityDFMissingColumnsError(sorted(wanted), sorted(missing))  # type: ignore[no-untyped-call]
    names = [
        [f"{read.projection.label}__{item.name}" if full else item.name for item in read.features]
        for read in reads
    ]
    taken = set(entities.table.column_names)
    for name in (name for part in names for name in part):
        if name in taken:
            raise ValueError(
                f"two columns of the result would be named {name!r}: ask for full_feature_names=True, or "
                "rename the column of the entity rows"
            )
        taken.add(name)
    return names


def _bounds(times: pa.ChunkedArray) -> tuple[datetime | None, datetime | None]:
    bounds = pc.min_max(times).as_py()
    return bounds["min"], bounds["max"]


def _entities_between(
    config: RepoConfig, views: list[FeatureView], reads: list[_Read], start: datetime, end: datetime
) -> pa.Table:
    """A row for each entity with an event in [start, end] in one of the views, at time end."""
    keys = {
        tuple((read.projection.entity_column(key.name), key.type) for key in read.view.join_keys)
        for read in reads
    }
    if len(keys) > 1:
        raise ValueError(
            "without entity_df, all views must have the same join keys: give entity_df, or ask view by view"
        )
    columns = [name for name, _ in next(iter(keys), ())]
    found = []
    for view, read in zip(views, reads, strict=True):
        source = read.view.source
        if source is None:
            raise ValueError(f"view {view.name} has no batch source")
        own = [source.column_of(key.name) for key in read.view.join_keys]
        rows = SourceRows(config, file_source(view.batch_source), source.timestamp_column)
        table = rows.pull(own, [], start, end, newest=True).select(own)
        arrays = [
            key_column(table[name], key.type, name)
            for name, key in zip(own, read.view.join_keys, strict=True)
        ]
        found.append(pa.table(arrays, columns))
    if not columns:
        return pa.table({EVENT_TIMESTAMP: pa.array([end], pa.timestamp("us", "UTC"))})
    distinct = pa.concat_tables(found).group_by(columns).aggregate([])
    distinct = distinct.sort_by([(name, "ascending") for name in columns])
    moment = pa.array([end] * distinct.num_rows, pa.timestamp("us", "UTC"))
    return distinct.select(columns).add_column(0, EVENT_TIMESTAMP, moment)
