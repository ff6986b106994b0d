"""Sources of Feast's definitions, read as they are: for materialization, and to find the entities in them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import duckdb
import pyarrow as pa
from feast import FileSource
from feast.data_format import ParquetFormat
from feast.data_source import DataSource
from feast.feature_view import DUMMY_ENTITY_ID, DUMMY_ENTITY_VAL
from feast.repo_config import RepoConfig

from feature_service.stores import parquet, remote
from feature_service.stores.asof_join import AsofJoin, JoinLimits
from feature_service.stores.asof_sql import ParquetRows, relation

_MICROSECOND = timedelta(microseconds=1)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def file_source(source: DataSource | None) -> FileSource:
    """A source as one that this store reads. Raises ValueError for any other."""
    if isinstance(source, FileSource):
        return source
    raise ValueError(
        f"source {getattr(source, 'name', 'none')} is a {type(source).__name__}: this offline store reads "
        "and writes FileSources of Parquet only; keep the offline store that its kind needs"
    )


def path_of(config: RepoConfig, source: FileSource) -> str:
    """Where the rows of a source lie. Raises ValueError for one that this store does not read."""
    if source.file_format is not None and not isinstance(source.file_format, ParquetFormat):
        raise ValueError(
            f"source {source.name} is of {type(source.file_format).__name__}: this offline store reads "
            "Parquet only"
        )
    if source.connection_ref is not None:
        raise ValueError(
            f"source {source.name} has a connection_ref, which this offline store does not read: give it "
            "credentials in the environment (AWS_ACCESS_KEY_ID, AWS_PROFILE, a role of the machine)"
        )
    uri = FileSource.get_uri_for_file_path(config.repo_path, source.path)
    return remote.at_endpoint(uri, source.s3_endpoint_override)


class SourceRows:
    """Rows of a source as it has them."""

    def __init__(
        self, config: RepoConfig, source: DataSource, timestamp: str, created: str | None = None
    ) -> None:
        self._path, self._name = path_of(config, file_source(source)), source.name
        self._timestamp, self._created = timestamp, created or None
        self._limits = join_limits(config)

    def pull(
        self,
        keys: list[str],
        columns: list[str],
        start: datetime | None,
        end: datetime | None,
        *,
        newest: bool,
    ) -> pa.Table:
        """See AsofJoin.pull. Feast's stand-in for the key of a view without entities is in no file."""
        files = parquet.files_of(self._path)
        partitions = tuple((name, "") for name in parquet.partition_columns(self._path, files))
        rows = ParquetRows(files, self._timestamp, self._created, partitions)
        real = [key for key in keys if key != DUMMY_ENTITY_ID]
        with AsofJoin(self._limits) as join:
            table = join.pull(
                self._name, rows, real, columns, _micros(start), _micros(end), newest_only=newest
            )
        if not real:
            table = table.append_column(DUMMY_ENTITY_ID, pa.array([DUMMY_ENTITY_VAL] * table.num_rows))
        return table


def source_schema(config: RepoConfig, source: FileSource) -> pa.Schema:
    """The columns of a source over all of its files, partition columns too; none for an empty folder.

    Raises FileNotFoundError, OSError, ValueError.
    """
    path = path_of(config, source)
    files = parquet.files_of(path)
    if not files:
        return pa.schema([])
    partitions = tuple((name, "") for name in parquet.partition_columns(path, files))
    with duckdb.connect(":memory:") as connection:
        connection.execute("SET TimeZone = 'UTC'")
        remote.register(connection)
        rows = relation(ParquetRows(files, source.timestamp_field, None, partitions))
        return connection.sql(f"SELECT * FROM {rows} LIMIT 0").to_arrow_reader().schema  # noqa: S608 - see relation


def join_limits(config: RepoConfig) -> JoinLimits:
    """The limits of joins as configured."""
    options = config.offline_store
    return JoinLimits(options.memory_limit, options.threads, options.temp_folder)


def _micros(moment: datetime | None) -> int | None:
    if moment is None:
        return None
    aware = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    return (aware - _EPOCH) // _MICROSECOND
