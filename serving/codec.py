"""Protobuf ↔ domain: the one place in serving that knows both."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np
import pyarrow as pa
from google.protobuf import json_format

from plumbline import columns
from plumbline.feature_columns import NO_EVENT, FeatureStatus, FeatureTable
from plumbline.features.v1 import definitions_pb2 as defs
from plumbline.features.v1 import feature_retrieval_service_pb2 as features_pb
from plumbline.registry.v1 import resources_pb2 as res
from plumbline.serving.errors import EmptyRequest
from plumbline.serving.v1 import prediction_service_pb2 as pb
from plumbline.types.v1 import column_pb2, feature_column_pb2
from serving.domain import ColumnType, FeatureSet, Field, ModelInput, Release, Signature
from serving.models import Slot
from serving.predict import EntityRows, FeatureRows, Prediction, PredictionRequest

_PREFIX = "VALUE_TYPE_"


def column_type(value: column_pb2.ValueType.ValueType) -> ColumnType:
    """Raises ValueError for UNSPECIFIED and for a type of a newer contract."""
    if value not in column_pb2.ValueType.values():
        raise ValueError(f"value type {value} is not known to this server")
    return ColumnType(column_pb2.ValueType.Name(value).removeprefix(_PREFIX))


def value_type(kind: ColumnType) -> column_pb2.ValueType.ValueType:
    """The contract's number of a type."""
    return column_pb2.ValueType.Value(_PREFIX + kind.name)


# The registry's side


def release(message: res.ModelVersion, path: str) -> Release:
    """A version with the file at `path` as its model. Raises ValueError when it has none such, or its
    signature cannot be read."""
    found = next((file for file in message.files if file.path == path), None)
    if found is None:
        present = ", ".join(repr(file.path) for file in message.files) or "none"
        raise ValueError(f"{message.name} has no file {path!r} (files: {present})")
    return Release(message.name, path, found.sha256, found.size_bytes, signature(message.signature))


def release_json(item: Release) -> str:
    """A release as text, for `release_from_json`."""
    message = res.ModelVersion(
        name=item.version,
        files=[res.ModelFile(path=item.path, sha256=item.sha256, size_bytes=item.size)],
        signature=signature_message(item.signature),
    )
    return json_format.MessageToJson(message, preserving_proto_field_name=True)


def release_from_json(text: str) -> Release:
    """Raises ValueError for anything `release_json` did not write."""
    try:
        message = json_format.Parse(text, res.ModelVersion())
    except json_format.ParseError as error:
        raise ValueError(str(error)) from error
    if not message.files:
        raise ValueError("it names no file")
    return release(message, message.files[0].path)


def signature(message: res.ModelSignature) -> Signature:
    """Raises ValueError when a type or a feature reference cannot be read."""
    return Signature(
        inputs=tuple(_model_input(item) for item in message.inputs),
        outputs=_fields(message.outputs),
        feature_service=message.feature_service,
        feature_service_digest=message.feature_service_digest,
        join_keys=_fields(message.join_keys),
        request_data=_fields(message.request_data),
    )


def signature_message(item: Signature) -> res.ModelSignature:
    """The wire form of a signature."""
    return res.ModelSignature(
        inputs=[
            res.ModelInput(
                name=entry.name,
                type=value_type(entry.type),
                source=res.INPUT_SOURCE_REQUEST if entry.from_caller else res.INPUT_SOURCE_FEATURE,
                feature_reference="" if entry.from_caller else f"{entry.view}:{entry.feature}",
                categories=entry.categories,
            )
            for entry in item.inputs
        ],
        outputs=_field_messages(item.outputs),
        feature_service=item.feature_service,
        feature_service_digest=item.feature_service_digest,
        join_keys=_field_messages(item.join_keys),
        request_data=_field_messages(item.request_data),
    )


# feature_service's side


def feature_set(message: defs.FeatureService) -> FeatureSet:
    """A feature service; features of a type this server does not know are left out, so that only a
    model that needs one is refused."""
    known = set(column_pb2.ValueType.values()) - {column_pb2.VALUE_TYPE_UNSPECIFIED}
    return FeatureSet(
        name=message.name,
        digest=message.digest,
        features={
            (projection.view, field.name): column_type(field.type)
            for projection in message.projections
            for field in projection.features
            if field.type in known
        },
        join_keys=_fields(message.join_keys),
        request_data=_fields(message.request_data),
    )


def online_request(
    feature_service: str, join_keys: Mapping[str, pa.Array], request_data: Mapping[str, pa.Array]
) -> features_pb.GetOnlineFeaturesRequest:
    """Asks for every feature of a feature service."""
    return features_pb.GetOnlineFeaturesRequest(
        selection=features_pb.FeatureSelection(feature_service=feature_service),
        entities=[columns.encode(name, values) for name, values in join_keys.items()],
        request_data=[columns.encode(name, values) for name, values in request_data.items()],
    )


# The callers' side


def prediction_request(message: pb.PredictRequest, remaining: float | None) -> PredictionRequest:
    """remaining: seconds to the caller's deadline. Raises EmptyRequest, MalformedColumn."""
    rows: EntityRows | FeatureRows
    match message.WhichOneof("input"):
        case "entities":
            rows = EntityRows(
                columns.decode_table(message.entities.join_keys),
                columns.decode_table(message.entities.request_data),
            )
        case "features":
            rows = FeatureRows(columns.decode_table(message.features.columns))
        case _:
            raise EmptyRequest(
                "the request has no rows; set `entities` or `features`", metadata={"field": "input"}
            )
    return PredictionRequest(
        model=message.model,
        rows=rows,
        prediction_ids=tuple(message.prediction_ids),
        return_features=message.return_features,
        remaining_seconds=remaining,
    )


def predict_response(item: Prediction) -> pb.PredictResponse:
    """The wire form of a prediction."""
    message = pb.PredictResponse(
        outputs=[columns.encode(name, pa.array(values)) for name, values in item.outputs.items()],
        model_version=item.release.version,
        model_sha256=item.release.sha256,
        prediction_ids=item.prediction_ids,
        definition_digest=item.definition_digest,
    )
    if item.features is not None:
        message.features.extend(_feature_columns(item.features))
        message.view_event_times.extend(_event_times(item.features.event_times))
    return message


def served_model(slot: Slot) -> pb.ServedModel:
    """A slot; without version, digest and time while nothing is loaded."""
    message = pb.ServedModel(name=slot.ref.name, last_error=slot.last_error)
    loaded = slot.loaded
    if loaded is not None:
        message.model_version = loaded.release.version
        message.model_sha256 = loaded.release.sha256
        message.signature.CopyFrom(signature_message(loaded.release.signature))
        message.load_time.FromDatetime(loaded.load_time)
    return message


def _feature_columns(table: FeatureTable) -> Iterable[feature_column_pb2.FeatureColumn]:
    for name in table.values.column_names:
        statuses = table.statuses[name]
        present = bool((statuses == FeatureStatus.PRESENT).all())
        yield feature_column_pb2.FeatureColumn(
            column=columns.encode(name, table.values[name]),
            statuses=[] if present else statuses.tolist(),
            view=table.views[name],
        )


def _event_times(times: Mapping[str, pa.Array]) -> Iterable[feature_column_pb2.ViewEventTimes]:
    for view, moments in times.items():
        micros = moments.cast(pa.int64()).fill_null(int(NO_EVENT)).to_numpy(zero_copy_only=False)
        yield feature_column_pb2.ViewEventTimes(view=view, event_micros=micros.astype(np.int64).tolist())


def _model_input(message: res.ModelInput) -> ModelInput:
    view = feature = ""
    if message.source == res.INPUT_SOURCE_FEATURE:
        view, colon, feature = message.feature_reference.partition(":")
        if not (view and colon and feature):
            raise ValueError(
                f"input {message.name!r} has the feature reference {message.feature_reference!r}; "
                'it must be "view:feature"'
            )
    elif message.source != res.INPUT_SOURCE_REQUEST:
        raise ValueError(f"input {message.name!r} does not say whether it is a feature or sent by the caller")
    return ModelInput(message.name, column_type(message.type), view, feature, tuple(message.categories))


def _fields(messages: Iterable[column_pb2.Field]) -> tuple[Field, ...]:
    return tuple(Field(message.name, column_type(message.type)) for message in messages)


def _field_messages(fields: Iterable[Field]) -> list[column_pb2.Field]:
    return [column_pb2.Field(name=field.name, type=value_type(field.type)) for field in fields]
