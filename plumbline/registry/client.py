"""Client of the model registry."""

from __future__ import annotations

import os
import tempfile
import uuid
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from google.protobuf import field_mask_pb2

from plumbline.calls import Client
from plumbline.registry.errors import CLASSES
from plumbline.registry.files import Files, check_digest, describe
from plumbline.registry.v1 import model_registry_service_pb2 as pb
from plumbline.registry.v1 import resources_pb2 as res
from plumbline.registry.v1.model_registry_service_pb2_grpc import ModelRegistryServiceStub
from plumbline.times import timestamp


class RegistryClient(Client):
    """Typed calls to registry_service: see `plumbline.calls.Client` for the arguments.

    transfer_timeout: seconds for a file up or down. Every method raises the errors of
    `plumbline.registry.errors`, and `plumbline.errors.Unavailable` when the server cannot be reached.

    Messages are those of the contract (plumbline.registry.v1). Models, versions and aliases may be named
    in short: "m", "m/3", "m@champion". Each change takes a request_id; without
    one a fresh one is used, so a retry by hand must pass its own.
    """

    errors = CLASSES

    def __init__(self, target: str, *, transfer_timeout: float = 600.0, **common: Any) -> None:
        super().__init__(target, **common)
        self._stub = ModelRegistryServiceStub(self._channel)
        self._files = Files(self._channel, target, self._metadata, (self._timeout, transfer_timeout))

    # Models

    def create_model(
        self,
        model_id: str,
        *,
        description: str = "",
        tags: Mapping[str, str] | None = None,
        request_id: str | None = None,
    ) -> res.Model:
        """Creates models/{model_id}. Raises ModelExists."""
        return self._call(
            self._stub.CreateModel,
            pb.CreateModelRequest(
                model_id=model_id, description=description, tags=tags, request_id=_request_id(request_id)
            ),
        )

    def get_model(self, name: str) -> res.Model:
        """A model by name; "flight_delay" is short for "models/flight_delay". Raises ModelNotFound."""
        return self._call(self._stub.GetModel, pb.GetModelRequest(name=model_name(name)))

    def list_models(self, *, show_archived: bool = False) -> Iterator[res.Model]:
        """All models, by name, page after page."""
        request = pb.ListModelsRequest(show_archived=show_archived)
        for page in self._pages(self._stub.ListModels, request):
            yield from page.models

    def update_model(
        self, model: res.Model, *, fields: Sequence[str] = (), request_id: str | None = None
    ) -> res.Model:
        """Writes description and tags, or only the `fields` named; compares the etag if one is set."""
        return self._call(
            self._stub.UpdateModel,
            pb.UpdateModelRequest(
                model=model,
                update_mask=field_mask_pb2.FieldMask(paths=fields),
                request_id=_request_id(request_id),
            ),
        )

    def archive_model(self, name: str, *, etag: str = "", request_id: str | None = None) -> res.Model:
        """Takes a model out of lists; nothing is deleted."""
        return self._call(
            self._stub.ArchiveModel,
            pb.ArchiveModelRequest(name=model_name(name), etag=etag, request_id=_request_id(request_id)),
        )

    # Versions and files

    def create_version(
        self,
        model: str,
        *,
        signature: res.ModelSignature | None = None,
        run: str = "",
        datasets: Sequence[str] = (),
        description: str = "",
        tags: Mapping[str, str] | None = None,
        request_id: str | None = None,
    ) -> res.ModelVersion:
        """A DRAFT with the model's next number."""
        return self._call(
            self._stub.CreateVersion,
            pb.CreateVersionRequest(
                parent=model_name(model),
                signature=signature,
                run=run,
                datasets=datasets,
                description=description,
                tags=tags,
                request_id=_request_id(request_id),
            ),
        )

    def upload_file(
        self, version: str, source: Path, *, path: str = "", media_type: str = "application/octet-stream"
    ) -> res.ModelFile:
        """Uploads a local file to a DRAFT as `path` (default: its own name), in bounded memory.

        After a break it goes on where it was, some times by itself, and so does the next call for the same
        file.
        """
        meta = describe(source, path, media_type)
        return self._files.upload(version_name(version), source, meta)

    def get_upload(self, version: str, file: res.ModelFile) -> pb.UploadStatus:
        """How much of a broken upload is there. file: path, sha256 and size_bytes."""
        return self._files.get_upload(version_name(version), file)

    def finalize_version(
        self, name: str, *, etag: str = "", request_id: str | None = None
    ) -> res.ModelVersion:
        """DRAFT → READY; immutable from here on."""
        return self._call(
            self._stub.FinalizeVersion,
            pb.FinalizeVersionRequest(name=version_name(name), etag=etag, request_id=_request_id(request_id)),
        )

    def get_version(self, name: str) -> res.ModelVersion:
        """By models/m/versions/3 or models/m/aliases/a; short: m/3, m@a."""
        return self._call(self._stub.GetVersion, pb.GetVersionRequest(name=version_name(name)))

    def list_versions(self, model: str) -> Iterator[res.ModelVersion]:
        """All versions of a model, newest first."""
        request = pb.ListVersionsRequest(parent=model_name(model))
        for page in self._pages(self._stub.ListVersions, request):
            yield from page.versions

    def archive_version(
        self, name: str, *, etag: str = "", request_id: str | None = None
    ) -> res.ModelVersion:
        """READY or DRAFT → ARCHIVED. Raises VersionInUse while an alias points at it."""
        return self._call(
            self._stub.ArchiveVersion,
            pb.ArchiveVersionRequest(name=version_name(name), etag=etag, request_id=_request_id(request_id)),
        )

    def download_file(self, version: str, path: str, target: Path) -> res.ModelFile:
        """Downloads one file of a version to `target`, verified; a file is there whole or not at all.

        Raises DataLoss when what arrives does not have the recorded digest.
        """
        target.parent.mkdir(parents=True, exist_ok=True)
        handle, scratch = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.")
        try:
            with os.fdopen(handle, "wb", buffering=0) as file:
                meta, digest = self._files.download(version_name(version), path, file)
                check_digest(version, meta, digest)
                os.fsync(file.fileno())
            os.replace(scratch, target)
        finally:
            Path(scratch).unlink(missing_ok=True)
        return meta

    # Aliases

    def set_alias(
        self,
        name: str,
        version: str,
        *,
        reason: str,
        etag: str = "",
        expected_version: str = "",
        must_not_exist: bool = False,
        request_id: str | None = None,
    ) -> res.Alias:
        """Points models/m/aliases/a (short: m@a) at a READY version. Raises EtagMismatch (ABORTED) when
        it is not where `etag`, `expected_version` or `must_not_exist` says."""
        request = pb.SetAliasRequest(
            name=alias_name(name),
            version=version_name(version),
            reason=reason,
            request_id=_request_id(request_id),
        )
        if etag:
            request.etag = etag
        elif expected_version:
            request.expected_version = version_name(expected_version)
        elif must_not_exist:
            request.must_not_exist = True
        return self._call(self._stub.SetAlias, request)

    def clear_alias(
        self, name: str, *, reason: str, etag: str = "", request_id: str | None = None
    ) -> res.AliasEvent:
        """Removes an alias; its history stays."""
        return self._call(
            self._stub.ClearAlias,
            pb.ClearAliasRequest(
                name=alias_name(name), etag=etag, reason=reason, request_id=_request_id(request_id)
            ),
        )

    def resolve_alias(self, name: str, *, as_of: datetime | None = None) -> pb.ResolveAliasResponse:
        """The alias and the version it points at, now or at a past moment. Raises AliasNotFound."""
        request = pb.ResolveAliasRequest(name=alias_name(name), as_of=timestamp(as_of))
        return self._call(self._stub.ResolveAlias, request)

    def list_alias_history(self, parent: str) -> Iterator[res.AliasEvent]:
        """Moves of an alias, or of all aliases of a model, newest first."""
        request = pb.ListAliasHistoryRequest(
            parent=alias_name(parent) if "@" in parent else model_name(parent)
        )
        for page in self._pages(self._stub.ListAliasHistory, request):
            yield from page.events

    # Evidence

    def start_run(self, run: res.TrainingRun, *, request_id: str | None = None) -> res.TrainingRun:
        """A RUNNING run with a name of its own."""
        return self._call(
            self._stub.StartRun, pb.StartRunRequest(run=run, request_id=_request_id(request_id))
        )

    def log_run(
        self,
        name: str,
        *,
        parameters: Mapping[str, str] | None = None,
        metrics: Mapping[str, float] | None = None,
        datasets: Sequence[str] = (),
        tags: Mapping[str, str] | None = None,
        request_id: str | None = None,
    ) -> res.TrainingRun:
        """Adds to a RUNNING run."""
        return self._call(
            self._stub.LogRun,
            pb.LogRunRequest(
                name=name,
                parameters=parameters,
                metrics=metrics,
                datasets=datasets,
                tags=tags,
                request_id=_request_id(request_id),
            ),
        )

    def finish_run(self, name: str, *, error: str = "", request_id: str | None = None) -> res.TrainingRun:
        """FINISHED, or FAILED when `error` says why."""
        state = res.RUN_STATE_FAILED if error else res.RUN_STATE_FINISHED
        return self._call(
            self._stub.FinishRun,
            pb.FinishRunRequest(name=name, state=state, error=error, request_id=_request_id(request_id)),
        )

    def get_run(self, name: str) -> res.TrainingRun:
        """runs/{run}. Raises RunNotFound."""
        return self._call(self._stub.GetRun, pb.GetRunRequest(name=name))

    def list_runs(self) -> Iterator[res.TrainingRun]:
        """All runs, newest first, page after page."""
        for page in self._pages(self._stub.ListRuns, pb.ListRunsRequest()):
            yield from page.runs

    def record_dataset(self, dataset: res.Dataset, *, request_id: str | None = None) -> res.Dataset:
        """Records a snapshot under its digest; the same again is fine."""
        return self._call(
            self._stub.RecordDataset,
            pb.RecordDatasetRequest(dataset=dataset, request_id=_request_id(request_id)),
        )

    def get_dataset(self, name: str) -> res.Dataset:
        """datasets/{digest}. Raises DatasetNotFound."""
        return self._call(self._stub.GetDataset, pb.GetDatasetRequest(name=name))

    def list_datasets(self) -> Iterator[res.Dataset]:
        """All dataset snapshots, newest first, page after page."""
        for page in self._pages(self._stub.ListDatasets, pb.ListDatasetsRequest()):
            yield from page.datasets

    def record_evaluation(
        self, version: str, evaluation: res.Evaluation, *, request_id: str | None = None
    ) -> res.Evaluation:
        """Adds metrics of a READY version on a dataset."""
        return self._call(
            self._stub.RecordEvaluation,
            pb.RecordEvaluationRequest(
                parent=version_name(version), evaluation=evaluation, request_id=_request_id(request_id)
            ),
        )

    # Questions

    def get_lineage(
        self,
        node: str,
        *,
        direction: pb.LineageDirection.ValueType = pb.LINEAGE_DIRECTION_UPSTREAM,
        depth: int = 0,
    ) -> pb.GetLineageResponse:
        """The whole graph around a node, all pages joined; nodes are unique."""
        whole, seen = pb.GetLineageResponse(), set[str]()
        request = pb.GetLineageRequest(node=node, direction=direction, depth=depth)
        for page in self._pages(self._stub.GetLineage, request):
            whole.edges.extend(page.edges)
            whole.nodes.extend(item for item in page.nodes if item.name not in seen)
            seen.update(item.name for item in page.nodes)
            whole.truncated = whole.truncated or page.truncated
        return whole


def model_name(text: str) -> str:
    """models/{model} of "m" or "models/m"."""
    return text if text.startswith("models/") else f"models/{text}"


def version_name(text: str) -> str:
    """models/m/versions/3 of "m/3", models/m/aliases/a of "m@a"; full names stay."""
    if text.startswith("models/"):
        return text
    if "@" in text:
        return alias_name(text)
    model, _, number = text.partition("/")
    return f"models/{model}/versions/{number}" if number else f"models/{model}"


def alias_name(text: str) -> str:
    """models/m/aliases/a of "m@a"; full names stay."""
    if text.startswith("models/"):
        return text
    model, _, alias = text.partition("@")
    return f"models/{model}/aliases/{alias}"


def _request_id(given: str | None) -> str:
    return given or uuid.uuid4().hex
