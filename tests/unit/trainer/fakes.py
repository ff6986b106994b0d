"""In-memory stand-ins for the two services, with the clients' methods and the contract's messages."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pyarrow as pa

from plumbline.columns import field
from plumbline.errors import PlumblineError
from plumbline.features.v1 import definitions_pb2 as defs
from plumbline.features.v1 import feature_retrieval_service_pb2 as features_pb
from plumbline.registry.errors import (
    AliasNotFound,
    EtagMismatch,
    ModelNotFound,
    PolicyNotMet,
    RunEnded,
    VersionImmutable,
)
from plumbline.registry.v1 import model_registry_service_pb2 as pb
from plumbline.registry.v1 import resources_pb2 as res
from plumbline.times import timestamp
from trainer.entities import ROW_NUMBER

Tamper = Callable[[pa.Table], pa.Table]


def digest_of(text: str) -> str:
    """ "sha256:…" of a text."""
    return f"sha256:{hashlib.sha256(text.encode()).hexdigest()}"


class FakeJoin:
    """An answer to a historical read, in batches of a given length."""

    def __init__(self, table: pa.Table, summary: features_pb.HistoricalFeaturesSummary, rows: int) -> None:
        self._table, self.summary, self._rows = table, summary, rows
        self.schema = table.schema

    def __iter__(self) -> Iterator[pa.RecordBatch]:
        return iter(self._table.to_batches(max_chunksize=self._rows))


class FakeFeatures:
    """feature_service with one feature service, whose features stand ready row by row.

    values: the features of entity row i in row i. tamper: what a broken server would do to its answer.
    """

    def __init__(
        self,
        values: pa.Table,
        join_keys: pa.Schema,
        request_data: pa.Schema | None = None,
        *,
        name: str = "service",
        batch_rows: int = 1_000,
        tamper: Tamper | None = None,
    ) -> None:
        self.values, self.batch_rows, self.tamper = values, batch_rows, tamper
        self.sent: pa.Table | None = None
        self.definition = "first"
        self.view_definition = ""
        self._join_keys, self._request_data, self._name = join_keys, request_data or pa.schema([]), name

    def get_feature_service(self, name: str) -> defs.FeatureService:
        assert name == self._name
        return defs.FeatureService(
            project="shop",
            name=name,
            digest=digest_of(self.definition),
            projections=[defs.FeatureProjection(view="things", view_digest=digest_of(f"v{self.definition}"))],
            join_keys=[field(f.name, f.type) for f in self._join_keys],
            request_data=[field(f.name, f.type) for f in self._request_data],
        )

    def get_feature_view(self, name: str) -> defs.FeatureView:
        assert name == "things"
        return defs.FeatureView(
            project="shop",
            name=name,
            digest=digest_of(f"v{self.view_definition or self.definition}"),
            features=[field(f.name, f.type) for f in self.values.schema],
        )

    def get_historical_features(
        self,
        features: str,
        entity_rows: pa.RecordBatchReader,
        *,
        event_timestamp_column: str,
        on_progress: Callable[[features_pb.HistoricalFeaturesProgress], None] | None,
    ) -> FakeJoin:
        self.sent = entity_rows.read_all()
        if on_progress is not None:
            done = features_pb.HistoricalFeaturesProgress(phase="joining", rows_done=1, rows_total=2)
            on_progress(done)
        table = self.sent
        for name in self.values.schema.names:
            table = table.append_column(
                self.values.schema.field(name), self.values.column(name).take(self.sent.column(ROW_NUMBER))
            )
        if self.tamper is not None:
            table = self.tamper(table)
        times = sorted(v for v in self.sent.column(event_timestamp_column).to_pylist() if v is not None)
        summary = features_pb.HistoricalFeaturesSummary(
            rows_in=self.sent.num_rows,
            rows_out=table.num_rows,
            definition_digest=digest_of(self.definition),
            feature_service=self.get_feature_service(features),
            as_of_start=timestamp(times[0]),
            as_of_end=timestamp(times[-1]),
            features=[
                features_pb.HistoricalFeature(
                    column=f.name,
                    view="things",
                    feature=f.name,
                    type=field(f.name, f.type).type,
                    rows_present=self.values.num_rows - self.values.column(f.name).null_count,
                )
                for f in self.values.schema
            ],
        )
        return FakeJoin(table, summary, self.batch_rows)


class FakeRegistry:
    """registry_service in memory: states, compare-and-set and typed errors as the contract says.

    policies: what is wrong with any version, by protected alias. fail_at: the method that raises `failure`
    instead of answering. before_set_alias: what others do at the
    last moment.
    """

    def __init__(self) -> None:
        self.runs: dict[str, res.TrainingRun] = {}
        self.models: dict[str, res.Model] = {}
        self.versions: dict[str, res.ModelVersion] = {}
        self.datasets: dict[str, res.Dataset] = {}
        self.aliases: dict[str, res.Alias] = {}
        self.files: dict[tuple[str, str], bytes] = {}
        self.renewals: list[str] = []
        self.policies: dict[str, str] = {}
        self.downloads = 0
        self.fail_at = ""
        self.failure: BaseException = PlumblineError("the registry is out of order")
        self.before_set_alias: Callable[[], None] | None = None
        self._etags = 0

    def _enter(self, method: str) -> None:
        if method == self.fail_at:
            raise self.failure

    def start_run(self, run: res.TrainingRun, *, lease: timedelta | None = None) -> res.TrainingRun:
        self._enter("start_run")
        kept = res.TrainingRun()
        kept.CopyFrom(run)
        kept.name, kept.state = f"runs/{len(self.runs) + 1}", res.RUN_STATE_RUNNING
        kept.start_time.GetCurrentTime()
        self.runs[kept.name] = kept
        if lease is not None:
            self._renew(kept, lease)
        return kept

    def renew_run(self, name: str, lease: timedelta) -> res.TrainingRun:
        self.renewals.append(name)
        self._enter("renew_run")
        run = self.runs[name]
        if run.state != res.RUN_STATE_RUNNING:
            raise RunEnded(name)
        self._renew(run, lease)
        return run

    def _renew(self, run: res.TrainingRun, lease: timedelta) -> None:
        run.lease_expire_time.FromDatetime(datetime.now(UTC) + lease)

    def list_runs(self) -> Iterator[res.TrainingRun]:
        return iter(list(self.runs.values())[::-1])

    def log_run(
        self, name: str, *, metrics: Mapping[str, float], datasets: Sequence[str], tags: Mapping[str, str]
    ) -> res.TrainingRun:
        self._enter("log_run")
        run = self.runs[name]
        assert run.state == res.RUN_STATE_RUNNING
        run.metrics.update(metrics)
        run.datasets.extend(datasets)
        run.tags.update(tags)
        return run

    def finish_run(self, name: str, *, error: str = "") -> res.TrainingRun:
        self._enter("finish_run")
        run = self.runs[name]
        assert run.state == res.RUN_STATE_RUNNING
        run.state, run.error = (res.RUN_STATE_FAILED if error else res.RUN_STATE_FINISHED), error
        return run

    def record_dataset(self, dataset: res.Dataset) -> res.Dataset:
        self._enter("record_dataset")
        return self.datasets.setdefault(dataset.name, dataset)

    def get_model(self, name: str) -> res.Model:
        if name not in self.models:
            raise ModelNotFound(name)
        return self.models[name]

    def create_model(self, model_id: str, *, description: str = "") -> res.Model:
        self._enter("create_model")
        self.models[model_id] = res.Model(name=f"models/{model_id}", description=description)
        return self.models[model_id]

    def create_version(
        self,
        model: str,
        *,
        signature: res.ModelSignature,
        run: str,
        datasets: Sequence[str],
        description: str,
        tags: Mapping[str, str],
    ) -> res.ModelVersion:
        self._enter("create_version")
        self.models[model].latest_version += 1
        number = self.models[model].latest_version
        version = res.ModelVersion(
            name=f"models/{model}/versions/{number}",
            version=number,
            state=res.VERSION_STATE_DRAFT,
            signature=signature,
            run=run,
            datasets=datasets,
            description=description,
            tags=tags,
        )
        self.versions[version.name] = version
        return version

    def upload_file(self, version: str, source: Path, *, path: str = "", media_type: str) -> res.ModelFile:
        self._enter("upload_file")
        if self.versions[version].state != res.VERSION_STATE_DRAFT:
            raise VersionImmutable(version)
        content = source.read_bytes()
        self.files[version, path] = content
        file = res.ModelFile(
            path=path,
            sha256=hashlib.sha256(content).hexdigest(),
            size_bytes=len(content),
            media_type=media_type,
        )
        self.versions[version].files.append(file)
        return file

    def finalize_version(self, name: str) -> res.ModelVersion:
        self._enter("finalize_version")
        version = self.versions[name]
        version.state, version.manifest_digest = res.VERSION_STATE_READY, digest_of(name)
        return version

    def archive_version(self, name: str) -> res.ModelVersion:
        self._enter("archive_version")
        self.versions[name].state = res.VERSION_STATE_ARCHIVED
        return self.versions[name]

    def record_evaluation(self, version: str, evaluation: res.Evaluation) -> res.Evaluation:
        self._enter("record_evaluation")
        assert evaluation.dataset in self.datasets
        self.versions[version].evaluations.append(evaluation)
        return evaluation

    def resolve_alias(self, name: str) -> pb.ResolveAliasResponse:
        self._enter("resolve_alias")
        if name not in self.aliases:
            raise AliasNotFound(name)
        alias = self.aliases[name]
        return pb.ResolveAliasResponse(alias=alias, version=self.versions[alias.version])

    def download_file(self, version: str, path: str, target: Path) -> res.ModelFile:
        self._enter("download_file")
        self.downloads += 1
        target.write_bytes(self.files[version, path])
        return next(file for file in self.versions[version].files if file.path == path)

    def set_alias(
        self, name: str, version: str, *, reason: str, etag: str = "", must_not_exist: bool = False
    ) -> res.Alias:
        self._enter("set_alias")
        if self.before_set_alias is not None:
            self.before_set_alias()
        present = self.aliases.get(name)
        if (must_not_exist and present) or (etag and (present is None or present.etag != etag)):
            raise EtagMismatch(name)
        assert self.versions[version].state == res.VERSION_STATE_READY
        if name in self.policies:
            raise PolicyNotMet(self.policies[name])
        return self.put_alias(name, version, reason)

    def put_alias(self, name: str, version: str, reason: str = "by hand") -> res.Alias:
        """Moves an alias whatever it is."""
        self._etags += 1
        self.aliases[name] = res.Alias(name=name, version=version, etag=str(self._etags), reason=reason)
        return self.aliases[name]


class RecordingReporter:
    """Keeps what it is told."""

    def __init__(self) -> None:
        self.steps: list[str] = []
        self.notes: dict[str, str] = {}
        self.warnings: list[str] = []
        self.progressed: list[tuple[str, int, int]] = []

    def started(self, step: str) -> None:
        self.steps.append(step)

    def progress(self, what: str, done: int, total: int) -> None:
        self.progressed.append((what, done, total))

    def finished(self, step: str, seconds: float, note: str) -> None:
        self.notes[step] = note

    def warning(self, text: str) -> None:
        self.warnings.append(text)
