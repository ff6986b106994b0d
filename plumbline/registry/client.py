"""Client of the model registry."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from google.protobuf import field_mask_pb2

from plumbline.registry.aliasing import AliasCalls
from plumbline.registry.auditing import AuditCalls
from plumbline.registry.errors import CLASSES
from plumbline.registry.evidence import EvidenceCalls
from plumbline.registry.files import Files
from plumbline.registry.governance import GovernanceCalls
from plumbline.registry.lineage import LineageCalls
from plumbline.registry.naming import alias_name, fresh_id, model_name, version_name
from plumbline.registry.transferring import FileCalls
from plumbline.registry.v1 import model_registry_service_pb2 as pb
from plumbline.registry.v1 import resources_pb2 as res
from plumbline.registry.v1.model_registry_service_pb2_grpc import ModelRegistryServiceStub
from plumbline.registry.watching import WatchCalls
from plumbline.registry.webhooks import WebhookCalls

__all__ = ["RegistryClient", "alias_name", "model_name", "version_name"]


class RegistryClient(
    AliasCalls,
    AuditCalls,
    EvidenceCalls,
    FileCalls,
    GovernanceCalls,
    LineageCalls,
    WatchCalls,
    WebhookCalls,
):
    """Typed calls to registry_service: see `plumbline.calls.Client` for the arguments.

    transfer_timeout: seconds for a file up or down. token: None takes PLUMBLINE_TOKEN, if it is set. Every
    method raises the errors of `plumbline.registry.errors`, and `plumbline.errors.Unavailable` when the
    server cannot be reached.

    Messages are those of the contract (plumbline.registry.v1). Models, versions and aliases may be named
    in short: "m", "m/3", "m@champion". Each change takes a request_id; without
    one a fresh one is used, so a retry by hand must pass its own.
    """

    errors = CLASSES

    def __init__(
        self, target: str, *, transfer_timeout: float = 600.0, token: str | None = None, **common: Any
    ) -> None:
        token = os.environ.get("PLUMBLINE_TOKEN", "") if token is None else token
        super().__init__(target, token=token, **common)
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
                model_id=model_id, description=description, tags=tags, request_id=fresh_id(request_id)
            ),
        )

    def get_model(self, name: str) -> res.Model:
        """A model by name; "flight_delay" is short for "models/flight_delay". Raises ModelNotFound."""
        return self._call(self._stub.GetModel, pb.GetModelRequest(name=model_name(name)))

    def list_models(
        self, *, condition: str = "", order_by: str = "", show_archived: bool = False
    ) -> Iterator[res.Model]:
        """All models, by name, page after page. Raises InvalidFilter.

        condition: a filter, as in `name = "fraud-*" AND tags.team = "risk"`. order_by: as in
        "update_time desc".
        """
        request = pb.ListModelsRequest(filter=condition, order_by=order_by, show_archived=show_archived)
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
                request_id=fresh_id(request_id),
            ),
        )

    def archive_model(self, name: str, *, etag: str = "", request_id: str | None = None) -> res.Model:
        """Takes a model out of lists; nothing is deleted."""
        return self._call(
            self._stub.ArchiveModel,
            pb.ArchiveModelRequest(name=model_name(name), etag=etag, request_id=fresh_id(request_id)),
        )

    def restore_model(self, name: str, *, etag: str = "", request_id: str | None = None) -> res.Model:
        """Takes an archived model back."""
        return self._call(
            self._stub.RestoreModel,
            pb.RestoreModelRequest(name=model_name(name), etag=etag, request_id=fresh_id(request_id)),
        )

    def rename_model(
        self, name: str, new_model_id: str, *, etag: str = "", request_id: str | None = None
    ) -> res.Model:
        """Another name for a model, which keeps all it has. Raises ModelExists."""
        return self._call(
            self._stub.RenameModel,
            pb.RenameModelRequest(
                name=model_name(name), new_model_id=new_model_id, etag=etag, request_id=fresh_id(request_id)
            ),
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
        source: str = "",
        copy_from: str = "",
        request_id: str | None = None,
    ) -> res.ModelVersion:
        """A DRAFT with the model's next number. source: where its bytes are, when the registry shall not keep
        them; never fetched. copy_from: the version whose files, signature, run and datasets it takes."""
        return self._call(
            self._stub.CreateVersion,
            pb.CreateVersionRequest(
                parent=model_name(model),
                signature=signature,
                run=run,
                datasets=datasets,
                description=description,
                tags=tags,
                source=source,
                copy_from=version_name(copy_from) if copy_from else "",
                request_id=fresh_id(request_id),
            ),
        )

    def update_version(
        self, version: res.ModelVersion, *, fields: Sequence[str] = (), request_id: str | None = None
    ) -> res.ModelVersion:
        """Writes description and tags, or the `fields` named (also "stage"); compares the etag if one is
        set. What a version is made of cannot be changed."""
        return self._call(
            self._stub.UpdateVersion,
            pb.UpdateVersionRequest(
                version=version,
                update_mask=field_mask_pb2.FieldMask(paths=fields),
                request_id=fresh_id(request_id),
            ),
        )

    def finalize_version(
        self, name: str, *, etag: str = "", request_id: str | None = None
    ) -> res.ModelVersion:
        """DRAFT → READY; immutable from here on."""
        return self._call(
            self._stub.FinalizeVersion,
            pb.FinalizeVersionRequest(name=version_name(name), etag=etag, request_id=fresh_id(request_id)),
        )

    def get_version(self, name: str) -> res.ModelVersion:
        """By models/m/versions/3 or models/m/aliases/a; short: m/3, m@a."""
        return self._call(self._stub.GetVersion, pb.GetVersionRequest(name=version_name(name)))

    def list_versions(
        self, model: str, *, condition: str = "", order_by: str = "", page_size: int = 0
    ) -> Iterator[res.ModelVersion]:
        """All versions of a model, or of all models ("-"), newest first. Raises ModelNotFound, InvalidFilter.

        condition: a filter, as in `metrics.auc >= 0.75 AND NOT aliases:champion`. order_by: as in
        "metrics.auc desc". page_size: how many are asked for at a time; 0 means 100.
        """
        request = pb.ListVersionsRequest(
            parent=model_name(model), filter=condition, order_by=order_by, page_size=page_size
        )
        for page in self._pages(self._stub.ListVersions, request):
            yield from page.versions

    def archive_version(
        self, name: str, *, etag: str = "", request_id: str | None = None
    ) -> res.ModelVersion:
        """READY or DRAFT → ARCHIVED. Raises VersionInUse while an alias points at it."""
        return self._call(
            self._stub.ArchiveVersion,
            pb.ArchiveVersionRequest(name=version_name(name), etag=etag, request_id=fresh_id(request_id)),
        )
