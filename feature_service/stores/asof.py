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

import logging
from collections.abc import Callable, Iterable
from datetime import datetime
from pathlib import Path
from typing import Any, Literal

import duckdb
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds
import pyarrow.parquet as pq
from feast import FeatureView, FileSource
from feast.data_source import DataSource
from feast.feature_logging import LoggingConfig, LoggingSource
from feast.infra.offline_stores.file_source import FileLoggingDestination
from feast.infra.offline_stores.offline_store import RetrievalJob, RetrievalMetadata
from feast.infra.registry.base_registry import BaseRegistry
from feast.on_demand_feature_view import OnDemandFeatureView
from feast.repo_config import FeastConfigBaseModel, RepoConfig
from feast.utils import compute_non_entity_date_range

from feature_service.domain import KnownAt, ValueType
from feature_service.stores import parquet, part_types, remote
from feature_service.stores.asof_job import AsofRetrievalJob
from feature_service.stores.asof_join import AsofJoin
from feature_service.stores.asof_reads import ViewRead, entities_between, output_names, warn_of_backfill
from feature_service.stores.asof_refusals import WithoutMonitoring
from feature_service.stores.asof_sources import SourceRows, file_source, join_limits, path_of, source_schema
from feature_service.stores.entity_rows import entity_rows, key_column
from feature_service.stores.source_views import source_view

_log = logging.getLogger("plumbline.features")


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
        asked = bool(kwargs.get("filter_by_created_timestamp", False))
        default_cutoff = options.known_at and not asked
        reads = [ViewRead(found, feature_refs, config, project) for found in feature_views]
        low: datetime | None
        high: datetime | None
        if entity_df is None:
            low, high = compute_non_entity_date_range(
                feature_views, start_date=kwargs.get("start_date"), end_date=kwargs.get("end_date")
            )
            entities = entity_rows(entities_between(config, reads, low, high))
        else:
            entities = entity_rows(entity_df)
            low, high = _bounds(entities.times)
        names = output_names(entities, reads, full_feature_names)
        known_at = KnownAt.CREATED_BY_THEN if options.known_at or asked else KnownAt.IGNORE_CREATED

        def run() -> pa.Table:
            table = entities.table
            with AsofJoin(join_limits(config)) as join:
                keys: dict[tuple[str, ValueType], pa.ChunkedArray] = {}
                plans = []
                for read in reads:
                    columns = []
                    for key in read.view.join_keys:
                        name = read.projection.entity_column(key.name)
                        if (name, key.type) not in keys:
                            keys[name, key.type] = key_column(entities.table[name], key.type, name)
                        columns.append(f"e{list(keys).index((name, key.type))}")
                    plans.append(source_view(read.view, read.features, columns, any_type=True))
                join.set_entities(entities.times.cast(pa.int64()), list(keys.values()))
                for plan, shown in zip(plans, names, strict=True):
                    answer = join.join(plan, known_at)
                    if default_cutoff:
                        warn_of_backfill(join, plan, answer)
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

    def validate_data_source(self, config: RepoConfig, data_source: DataSource) -> None:
        """Warns of a source that cannot be read or lacks its time columns: data may come after `apply`."""
        try:
            found = source_schema(config, file_source(data_source))
        except (OSError, ValueError, duckdb.Error) as error:
            _log.warning("source %s cannot be read: %s", data_source.name, error)
            return
        times = (data_source.timestamp_field, data_source.created_timestamp_column)
        mapped = {name: column for column, name in (data_source.field_mapping or {}).items()}
        lost = [name for name in times if name and mapped.get(name, name) not in found.names]
        if found.names and lost:
            _log.warning("source %s has no column %s among %s", data_source.name, lost, found.names)

    def get_table_column_names_and_types_from_data_source(
        self, config: RepoConfig, data_source: DataSource
    ) -> Iterable[tuple[str, str]]:
        """The columns over all files of a source with their Arrow types. Raises as `source_schema`."""
        return [(item.name, str(item.type)) for item in source_schema(config, file_source(data_source))]

    @staticmethod
    def offline_write_batch(
        config: RepoConfig,
        feature_view: FeatureView,
        table: pa.Table,
        progress: Callable[[int], Any] | None,
    ) -> None:
        """Adds rows to the view's source as a Parquet part, unless they are what was added last: views of one
        push source hand over the same rows each.

        Raises ValueError for a value that would not be read as it was written, beside the source's files.
        """
        source = file_source(feature_view.batch_source)
        path = path_of(config, source)
        # Feast hands over the names of the view, whichever the caller used.
        columns = {mapped: column for column, mapped in (source.field_mapping or {}).items()}
        table = table.select([name for name in table.column_names if not name.startswith("__index_level_")])
        table = table.rename_columns([columns.get(name, name) for name in table.column_names])
        table = _in_types_of(source, path, table.replace_schema_metadata(None))
        parquet.append(path, table, None, parquet.digest_of(table))
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


def _job(config: RepoConfig, run: Callable[[], pa.Table], **others: Any) -> AsofRetrievalJob:
    options = config.offline_store
    staging = None
    if options.staging_location:
        staging = (options.staging_location, options.staging_location_endpoint_override)
    return AsofRetrievalJob(run, Path(config.repo_path or "."), staging=staging, **others)


def _in_types_of(source: FileSource, path: str, rows: pa.Table) -> pa.Table:
    before = part_types.types_before(path)
    for name in rows.column_names:
        position = before.get_field_index(name)
        if position < 0:
            continue
        wrong, why = part_types.unfit(rows[name].combine_chunks(), before.field(position).type)
        if len(wrong):
            raise ValueError(
                f"source {source.name}: {name} of row {wrong[0]} {why}. Nothing was written; leave such rows "
                "out, or write the source's files anew in a type that holds both"
            )
    return part_types.in_types_of(before, rows)


def _bounds(times: pa.ChunkedArray) -> tuple[datetime | None, datetime | None]:
    bounds = pc.min_max(times).as_py()
    return bounds["min"], bounds["max"]
