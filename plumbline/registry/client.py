"""Client of the model registry."""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from google.protobuf import field_mask_pb2

from plumbline.errors import DataLoss
from plumbline.registry.aliasing import AliasCalls
from plumbline.registry.errors import CLASSES
from plumbline.registry.evidence import EvidenceCalls
from plumbline.registry.naming import alias_name, fresh_id, model_name, version_name
from plumbline.registry.v1 import model_registry_service_pb2 as pb
from plumbline.registry.v1 import resources_pb2 as res
from plumbline.registry.v1.model_registry_service_pb2_grpc import ModelRegistryServiceStub
from plumbline.registry.webhooks import WebhookCalls
from plumbline.wire import translated

#: Half of the longest chunk of a file that servers take.
CHUNK_BYTES = 512 * 1024

__all__ = ["RegistryClient", "alias_name", "model_name", "version_name"]


class RegistryClient(AliasCalls, EvidenceCalls, WebhookCalls):
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
        self._transfer_timeout = transfer_timeout

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
                request_id=fresh_id(request_id),
            ),
        )

    def archive_model(self, name: str, *, etag: str = "", request_id: str | None = None) -> res.Model:
        """Takes a model out of lists; nothing is deleted."""
        return self._call(
            self._stub.ArchiveModel,
            pb.ArchiveModelRequest(name=model_name(name), etag=etag, request_id=fresh_id(request_id)),
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
                request_id=fresh_id(request_id),
            ),
        )

    def upload_file(
        self, version: str, source: Path, *, path: str = "", media_type: str = "application/octet-stream"
    ) -> res.ModelFile:
        """Uploads a local file to a DRAFT as `path` (default: its own name), in bounded memory."""
        sha256, size = hashlib.sha256(), 0
        with source.open("rb") as file:
            while chunk := file.read(CHUNK_BYTES):
                sha256.update(chunk)
                size += len(chunk)
        version = version_name(version)
        meta = res.ModelFile(
            path=path or source.name, sha256=sha256.hexdigest(), size_bytes=size, media_type=media_type
        )

        def parts() -> Iterator[pb.UploadFileRequest]:
            yield pb.UploadFileRequest(header=pb.UploadFileHeader(version=version, file=meta))
            with source.open("rb") as file:
                while chunk := file.read(CHUNK_BYTES):
                    yield pb.UploadFileRequest(chunk=chunk)

        return self._call(self._stub.UploadFile, parts(), timeout=self._transfer_timeout)

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
            pb.ArchiveVersionRequest(name=version_name(name), etag=etag, request_id=fresh_id(request_id)),
        )

    def download_file(self, version: str, path: str, target: Path) -> res.ModelFile:
        """Downloads one file of a version to `target`, verified; a file is there whole or not at all.

        Raises DataLoss when what arrives does not have the recorded digest.
        """
        target.parent.mkdir(parents=True, exist_ok=True)
        handle, scratch = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.")
        try:
            with os.fdopen(handle, "wb") as file, translated(CLASSES, self.target):
                meta, digest = self._receive(version, path, file)
                file.flush()
                os.fsync(file.fileno())
            if digest != meta.sha256:
                raise DataLoss(
                    f"{version} {path}: the bytes received have sha256 {digest}, recorded is {meta.sha256}",
                    metadata={"path": path, "expected": meta.sha256, "actual": digest},
                )
            os.replace(scratch, target)
        finally:
            Path(scratch).unlink(missing_ok=True)
        return meta

    def _receive(self, version: str, path: str, file: Any) -> tuple[res.ModelFile, str]:
        meta, sha256 = res.ModelFile(), hashlib.sha256()
        for part in self._stub.DownloadFile(
            pb.DownloadFileRequest(version=version_name(version), path=path),
            timeout=self._transfer_timeout,
            metadata=self._metadata,
        ):
            if part.WhichOneof("part") == "header":
                meta = part.header
            else:
                sha256.update(part.chunk)
                file.write(part.chunk)
        return meta, sha256.hexdigest()

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
