"""What Feast's callers get for a query of the offline store: a job that runs when its result is asked for."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from uuid import uuid4

import pandas as pd
import pyarrow as pa
from feast import FileSource
from feast.errors import SavedDatasetLocationAlreadyExists
from feast.infra.offline_stores.file_source import SavedDatasetFileStorage
from feast.infra.offline_stores.offline_store import RetrievalJob, RetrievalMetadata
from feast.on_demand_feature_view import OnDemandFeatureView
from feast.saved_dataset import SavedDatasetStorage

from feature_service.stores import parquet, remote

#: Rows of one file of an export.
_EXPORT_ROWS = 1_000_000


class AsofRetrievalJob(RetrievalJob):
    """Rows come in the order of the entity rows; a frame of them has a fresh index 0, 1, …"""

    def __init__(
        self,
        run: Callable[[], pa.Table],
        repo: Path,
        *,
        full_feature_names: bool = False,
        on_demand_feature_views: list[OnDemandFeatureView] | None = None,
        metadata: RetrievalMetadata | None = None,
        staging: tuple[str, str | None] | None = None,
    ) -> None:
        """staging: where exports go, and the S3 endpoint of that place."""
        self._run, self._repo = run, repo
        self._full_feature_names = full_feature_names
        self._on_demand = on_demand_feature_views or []
        self._metadata, self._staging = metadata, staging

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

    def to_sql(self) -> str:
        raise ValueError("this store runs several queries for a join; there is no SQL text of it")

    def persist(
        self, storage: SavedDatasetStorage, allow_overwrite: bool = False, timeout: int | None = None
    ) -> None:
        """Writes the result as one Parquet file, in a folder unless the path ends in .parquet.

        Raises SavedDatasetLocationAlreadyExists, ValueError for a storage of another kind.
        """
        if not isinstance(storage, SavedDatasetFileStorage):
            raise ValueError("this store persists to a SavedDatasetFileStorage only")
        options = storage.file_options
        target = remote.at_endpoint(
            FileSource.get_uri_for_file_path(self._repo, options.uri), options.s3_endpoint_override
        )
        if remote.exists(target) and not allow_overwrite:
            raise SavedDatasetLocationAlreadyExists(location=remote.shown(target))
        table = self.to_arrow(timeout=timeout)
        parquet.replace(target, table)

    def supports_remote_storage_export(self) -> bool:
        """Whether the store has a staging_location."""
        return self._staging is not None

    def to_remote_storage(self) -> list[str]:
        """Writes the result as Parquet files below staging_location; returns their URIs."""
        if self._staging is None:
            raise ValueError("set staging_location of the offline_store to export results")
        place, endpoint = self._staging
        folder = f"{FileSource.get_uri_for_file_path(self._repo, place).rstrip('/')}/{uuid4().hex}"
        table = self.to_arrow()
        written = []
        for number, start in enumerate(range(0, max(table.num_rows, 1), _EXPORT_ROWS)):
            uri = f"{folder}/part-{number:05d}.parquet"
            parquet.replace(remote.at_endpoint(uri, endpoint), table.slice(start, _EXPORT_ROWS))
            written.append(uri)
        return written
