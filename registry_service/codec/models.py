"""Models, versions, files and aliases on the wire."""

from __future__ import annotations

from collections.abc import Sequence

from plumbline.errors import FieldViolation
from plumbline.registry.errors import InvalidField
from plumbline.registry.v1 import model_registry_service_pb2 as pb
from plumbline.registry.v1 import resources_pb2 as res
from registry_service import commands, names
from registry_service.codec.values import from_fields, from_type, to_field, to_timestamp, to_type
from registry_service.domain import (
    Alias,
    AliasEvent,
    Evaluation,
    InputSource,
    Model,
    ModelFile,
    ModelInput,
    ModelVersion,
    Signature,
    VersionRef,
    VersionState,
    etag,
)

_STATES = {
    VersionState.DRAFT: res.VERSION_STATE_DRAFT,
    VersionState.READY: res.VERSION_STATE_READY,
    VersionState.ARCHIVED: res.VERSION_STATE_ARCHIVED,
}
_SOURCES = {
    InputSource.FEATURE: res.INPUT_SOURCE_FEATURE,
    InputSource.REQUEST: res.INPUT_SOURCE_REQUEST,
}
_SOURCES_BY_NUMBER = {int(number): source for source, number in _SOURCES.items()}
_UPDATABLE = ("description", "tags")
_NOTES = (*_UPDATABLE, "stage")


def create_model(request: pb.CreateModelRequest) -> commands.CreateModel:
    return commands.CreateModel(
        names.model_id("model_id", request.model_id), request.description, dict(request.tags)
    )


def update_model(request: pb.UpdateModelRequest) -> commands.UpdateModel:
    fields = _mask(request.update_mask.paths, _UPDATABLE, _UPDATABLE)
    model = request.model
    return commands.UpdateModel(
        name=names.model("model.name", model.name),
        etag=model.etag,
        description=model.description if "description" in fields else None,
        tags=dict(model.tags) if "tags" in fields else None,
    )


def create_version(request: pb.CreateVersionRequest) -> commands.CreateVersion:
    return commands.CreateVersion(
        model=names.model("parent", request.parent),
        description=request.description,
        tags=dict(request.tags),
        signature=from_signature(request.signature) if request.HasField("signature") else None,
        run=names.run("run", request.run) if request.run else "",
        datasets=tuple(names.dataset(f"datasets[{i}]", name) for i, name in enumerate(request.datasets)),
        source=request.source,
        copy_from=names.version("copy_from", request.copy_from) if request.copy_from else None,
        external_run=request.external_run,
        run_link=request.run_link,
    )


def update_version(request: pb.UpdateVersionRequest) -> commands.UpdateVersion:
    version, fields = request.version, _mask(request.update_mask.paths, _NOTES, _UPDATABLE)
    return commands.UpdateVersion(
        ref=names.version("version.name", version.name),
        etag=version.etag,
        description=version.description if "description" in fields else None,
        tags=dict(version.tags) if "tags" in fields else None,
        stage=version.stage if "stage" in fields else None,
    )


def set_alias(request: pb.SetAliasRequest) -> commands.SetAlias:
    condition = request.WhichOneof("condition")
    return commands.SetAlias(
        ref=names.settable_alias("name", request.name),
        version=names.version("version", request.version),
        reason=request.reason,
        etag=request.etag if condition == "etag" else None,
        must_not_exist=request.must_not_exist,
        expected_version=names.version("expected_version", request.expected_version)
        if condition == "expected_version"
        else None,
    )


def clear_alias(request: pb.ClearAliasRequest) -> commands.ClearAlias:
    return commands.ClearAlias(names.alias("name", request.name), request.reason, request.etag)


def from_signature(signature: res.ModelSignature) -> Signature:
    return Signature(
        inputs=tuple(
            ModelInput(
                name=item.name,
                type=from_type(item.type),
                source=_SOURCES_BY_NUMBER.get(item.source),
                feature_reference=item.feature_reference,
                categories=tuple(item.categories),
            )
            for item in signature.inputs
        ),
        outputs=from_fields(signature.outputs),
        feature_service=signature.feature_service,
        feature_service_digest=signature.feature_service_digest,
        join_keys=from_fields(signature.join_keys),
        request_data=from_fields(signature.request_data),
    )


def to_signature(signature: Signature) -> res.ModelSignature:
    return res.ModelSignature(
        inputs=[
            res.ModelInput(
                name=item.name,
                type=to_type(item.type),
                source=_SOURCES[item.source] if item.source else res.INPUT_SOURCE_UNSPECIFIED,
                feature_reference=item.feature_reference,
                categories=item.categories,
            )
            for item in signature.inputs
        ],
        outputs=[to_field(field) for field in signature.outputs],
        feature_service=signature.feature_service,
        feature_service_digest=signature.feature_service_digest,
        join_keys=[to_field(field) for field in signature.join_keys],
        request_data=[to_field(field) for field in signature.request_data],
    )


def to_model(model: Model) -> res.Model:
    name = f"models/{model.name}"
    return res.Model(
        name=name,
        description=model.description,
        tags=model.tags,
        create_time=to_timestamp(model.create_time),
        update_time=to_timestamp(model.update_time),
        etag=etag(name, model.revision),
        latest_version=model.latest_version,
        archive_time=to_timestamp(model.archive_time),
        aliases=[to_alias(alias) for alias in model.aliases],
    )


def to_version(version: ModelVersion) -> res.ModelVersion:
    name = str(version.ref)
    return res.ModelVersion(
        name=name,
        version=version.ref.number,
        state=_STATES[version.state],
        description=version.description,
        tags=version.tags,
        signature=None if version.signature is None else to_signature(version.signature),
        run=f"runs/{version.run}" if version.run else "",
        datasets=[f"datasets/{digest}" for digest in version.datasets],
        files=[to_file(file) for file in version.files],
        manifest_digest=version.manifest_digest,
        evaluations=[to_evaluation(evaluation) for evaluation in version.evaluations],
        aliases=version.aliases,
        create_time=to_timestamp(version.create_time),
        finalize_time=to_timestamp(version.finalize_time),
        etag=etag(name, version.revision),
        actor=version.actor,
        source=version.source,
        update_time=to_timestamp(version.update_time),
        copied_from=_version_name(version.copied_from),
        stage=version.stage,
        external_run=version.external_run,
        run_link=version.run_link,
        archive_time=to_timestamp(version.archive_time),
    )


def to_file(file: ModelFile) -> res.ModelFile:
    return res.ModelFile(
        path=file.path, sha256=file.sha256, size_bytes=file.size_bytes, media_type=file.media_type
    )


def to_evaluation(evaluation: Evaluation) -> res.Evaluation:
    return res.Evaluation(
        dataset=f"datasets/{evaluation.dataset}",
        split=evaluation.split,
        metrics=evaluation.metrics,
        create_time=to_timestamp(evaluation.create_time),
        actor=evaluation.actor,
    )


def to_alias(alias: Alias) -> res.Alias:
    name = str(alias.ref)
    return res.Alias(
        name=name,
        version=str(alias.version),
        etag=etag(name, alias.revision),
        actor=alias.actor,
        reason=alias.reason,
        update_time=to_timestamp(alias.update_time),
        protected=alias.protected,
    )


def to_event(event: AliasEvent) -> res.AliasEvent:
    return res.AliasEvent(
        alias=str(event.ref),
        from_version=_version_name(event.from_version),
        to_version=_version_name(event.to_version),
        actor=event.actor,
        reason=event.reason,
        time=to_timestamp(event.time),
        rollback=event.restored_revision is not None,
    )


def _version_name(ref: VersionRef | None) -> str:
    return "" if ref is None else str(ref)


def _mask(asked: Sequence[str], known: Sequence[str], default: Sequence[str]) -> Sequence[str]:
    for field in asked:
        if field not in known:
            message = f"update_mask names {field!r}; only {', '.join(known)} can be updated"
            raise InvalidField(
                message,
                metadata={"field": "update_mask"},
                violations=[FieldViolation("update_mask", message)],
            )
    return asked or default
