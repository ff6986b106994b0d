"""What the job needs of the two services: the part of the suite's clients it calls.

plumbline.features.client.FeatureClient and plumbline.registry.client.RegistryClient are these; their
docstrings are the contract.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Protocol

import pyarrow as pa

from plumbline.features.v1 import definitions_pb2 as defs
from plumbline.features.v1 import feature_retrieval_service_pb2 as features_pb
from plumbline.registry.v1 import model_registry_service_pb2 as registry_pb
from plumbline.registry.v1 import resources_pb2 as res


class JoinedRows(Protocol):
    """Batches of joined rows; `summary` may be read after the last one."""

    schema: pa.Schema

    def __iter__(self) -> Iterator[pa.RecordBatch]: ...

    @property
    def summary(self) -> features_pb.HistoricalFeaturesSummary: ...


class Features(Protocol):
    """feature_service."""

    def get_feature_service(self, name: str) -> defs.FeatureService: ...

    def get_feature_view(self, name: str) -> defs.FeatureView: ...

    def get_historical_features(
        self,
        features: str,
        entity_rows: pa.RecordBatchReader,
        *,
        event_timestamp_column: str,
        on_progress: Callable[[features_pb.HistoricalFeaturesProgress], None] | None,
    ) -> JoinedRows: ...


class Registry(Protocol):
    """registry_service."""

    def start_run(self, run: res.TrainingRun, *, lease: timedelta | None) -> res.TrainingRun: ...

    def renew_run(self, name: str, lease: timedelta) -> res.TrainingRun: ...

    def list_runs(self) -> Iterator[res.TrainingRun]: ...

    def log_run(
        self, name: str, *, metrics: Mapping[str, float], datasets: Sequence[str], tags: Mapping[str, str]
    ) -> res.TrainingRun: ...

    def finish_run(self, name: str, *, error: str = "") -> res.TrainingRun: ...

    def record_dataset(self, dataset: res.Dataset) -> res.Dataset: ...

    def get_model(self, name: str) -> res.Model: ...

    def create_model(self, model_id: str, *, description: str = "") -> res.Model: ...

    def create_version(
        self,
        model: str,
        *,
        signature: res.ModelSignature,
        run: str,
        datasets: Sequence[str],
        description: str,
        tags: Mapping[str, str],
    ) -> res.ModelVersion: ...

    def upload_file(
        self, version: str, source: Path, *, path: str = "", media_type: str
    ) -> res.ModelFile: ...

    def finalize_version(self, name: str) -> res.ModelVersion: ...

    def archive_version(self, name: str) -> res.ModelVersion: ...

    def record_evaluation(self, version: str, evaluation: res.Evaluation) -> res.Evaluation: ...

    def resolve_alias(self, name: str) -> registry_pb.ResolveAliasResponse: ...

    def download_file(self, version: str, path: str, target: Path) -> res.ModelFile: ...

    def set_alias(
        self, name: str, version: str, *, reason: str, etag: str = "", must_not_exist: bool = False
    ) -> res.Alias: ...


class Reporter(Protocol):
    """Who is told how the job goes on."""

    def started(self, step: str) -> None:
        """A step begins."""

    def progress(self, what: str, done: int, total: int) -> None:
        """Within the step under way; total is 0 while unknown."""

    def finished(self, step: str, seconds: float, note: str) -> None:
        """A step ended well; note says what came of it."""

    def warning(self, text: str) -> None:
        """Something a person should look at, though the job goes on."""
