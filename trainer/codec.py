"""The contracts' messages ↔ what the job speaks of; the only place that knows both."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping

from google.protobuf.json_format import MessageToDict

from plumbline.features.v1 import definitions_pb2 as defs
from plumbline.features.v1 import feature_retrieval_service_pb2 as features_pb
from plumbline.registry.v1 import resources_pb2 as res
from plumbline.times import moment, timestamp
from plumbline.types.v1 import column_pb2 as types_pb
from trainer.domain import (
    CodeRevision,
    Column,
    Dataset,
    Definition,
    Environment,
    Feature,
    FeatureService,
    Input,
    JoinSummary,
    Metrics,
    Signature,
    Specification,
)

_PREFIX = "VALUE_TYPE_"


def type_name(value_type: types_pb.ValueType.ValueType) -> str:
    """ "DOUBLE" of VALUE_TYPE_DOUBLE."""
    return types_pb.ValueType.Name(value_type).removeprefix(_PREFIX)


def _type(name: str) -> types_pb.ValueType.ValueType:
    return types_pb.ValueType.Value(_PREFIX + name)


def feature_service(message: defs.FeatureService) -> FeatureService:
    """Its definition and those of its views."""
    return FeatureService(
        definition=Definition(message.project, message.name, message.digest),
        views=tuple(
            Definition(message.project, projection.view, projection.view_digest)
            for projection in message.projections
        ),
        join_keys=tuple(_column(field) for field in message.join_keys),
        request_data=tuple(_column(field) for field in message.request_data),
    )


def join_summary(message: features_pb.HistoricalFeaturesSummary) -> JoinSummary:
    """How a join is summed up."""
    return JoinSummary(
        rows_in=message.rows_in,
        rows_out=message.rows_out,
        features=tuple(
            Feature(f.column, type_name(f.type), f"{f.view}:{f.feature}", f.rows_present)
            for f in message.features
        ),
        service=feature_service(message.feature_service),
        as_of_start=moment(message.as_of_start) if message.HasField("as_of_start") else None,
        as_of_end=moment(message.as_of_end) if message.HasField("as_of_end") else None,
    )


def run(
    display_name: str,
    parameters: Mapping[str, str],
    seed: int,
    code: CodeRevision,
    environment: Environment,
    tags: Mapping[str, str],
    config: str,
) -> res.TrainingRun:
    """A run to be started. config: the whole configuration as text."""
    return res.TrainingRun(
        display_name=display_name,
        parameters=parameters,
        seed=seed,
        code=res.CodeRevision(repository=code.repository, commit=code.commit, dirty=code.dirty),
        environment_digest=environment.digest,
        environment=res.Environment(
            python_version=environment.python,
            platform=environment.platform,
            packages=environment.lines,
        ),
        tags=tags,
        config=config,
    )


def dataset(snapshot: Dataset, recipe: str) -> res.Dataset:
    """A snapshot to be recorded. recipe: how to make it again, as text."""
    return res.Dataset(
        name=snapshot.name,
        display_name=snapshot.display_name,
        row_count=snapshot.rows,
        schema=[_field(column) for column in snapshot.columns],
        as_of_start=timestamp(snapshot.as_of_start),
        as_of_end=timestamp(snapshot.as_of_end),
        feature_service=_definition_name("featureServices", snapshot.service.definition),
        feature_views=[_definition_name("featureViews", view) for view in snapshot.service.views],
        entity_digest=snapshot.entity_digest,
        uri=snapshot.uri,
        recipe=recipe,
        feature_definitions=[
            res.FeatureDefinition(name=_definition_name(item.kind, item.definition), spec=item.text)
            for item in snapshot.specifications
        ],
    )


def specification(message: defs.FeatureService | defs.FeatureView) -> Specification:
    """All that feature_service tells of a definition, as canonical JSON: sorted keys, no blanks."""
    text = json.dumps(
        MessageToDict(message, preserving_proto_field_name=True),
        sort_keys=True,
        ensure_ascii=False,
        separators=(",", ":"),
    )
    kind = "featureServices" if isinstance(message, defs.FeatureService) else "featureViews"
    return Specification(kind, Definition(message.project, message.name, message.digest), text)


def signature(value: Signature) -> res.ModelSignature:
    """What a model takes and gives."""
    return res.ModelSignature(
        inputs=[
            res.ModelInput(
                name=item.name,
                type=_type(item.type),
                source=res.INPUT_SOURCE_FEATURE if item.reference else res.INPUT_SOURCE_REQUEST,
                feature_reference=item.reference,
                categories=item.categories,
            )
            for item in value.inputs
        ],
        outputs=[types_pb.Field(name=value.output, type=types_pb.VALUE_TYPE_DOUBLE)],
        feature_service=value.service.definition.name,
        feature_service_digest=value.service.definition.digest,
        join_keys=[_field(column) for column in value.service.join_keys],
        request_data=[_field(column) for column in value.service.request_data],
    )


def inputs(message: res.ModelSignature) -> tuple[Input, ...]:
    """The inputs of a registered model, in order."""
    return tuple(
        Input(item.name, type_name(item.type), item.feature_reference, tuple(item.categories))
        for item in message.inputs
    )


def evaluation(dataset_name: str, split: str, metrics: Metrics) -> res.Evaluation:
    """Metrics of a version on a part of a dataset. Numbers that are not finite are left out: the registry
    keeps finite ones only."""
    finite = {name: value for name, value in metrics.items() if math.isfinite(value)}
    return res.Evaluation(dataset=dataset_name, split=split, metrics=finite)


def _column(field: types_pb.Field) -> Column:
    return Column(field.name, type_name(field.type))


def _field(column: Column) -> types_pb.Field:
    return types_pb.Field(name=column.name, type=_type(column.type))


def _definition_name(collection: str, definition: Definition) -> str:
    return f"{collection}/{definition.project}/{definition.name}@{definition.digest}"
