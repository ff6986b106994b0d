"""Feast's objects as the domain sees them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

from feast import Entity as FeastEntity
from feast import FeatureService as FeastService
from feast import FeatureView as FeastView
from feast import FileSource, StreamFeatureView
from feast.data_format import DeltaFormat
from feast.data_source import DataSource
from feast.feature_view import DUMMY_ENTITY_ID
from feast.feature_view_projection import FeatureViewProjection
from feast.labeling.label_view import LabelView
from feast.on_demand_feature_view import OnDemandFeatureView
from feast.types import Array, PrimitiveFeastType, from_value_type
from feast.value_type import ValueType as FeastValueType

from feature_service.digests import view_digest
from feature_service.domain import (
    Entity,
    FeatureService,
    FeatureView,
    Field,
    Projection,
    Source,
    Tags,
    ValueType,
    ViewKind,
)
from feature_service.stores.remote import at_endpoint

_TYPES = {
    PrimitiveFeastType.FLOAT64: ValueType.DOUBLE,
    PrimitiveFeastType.FLOAT32: ValueType.FLOAT,
    PrimitiveFeastType.INT64: ValueType.INT64,
    PrimitiveFeastType.INT32: ValueType.INT32,
    PrimitiveFeastType.BOOL: ValueType.BOOL,
    PrimitiveFeastType.STRING: ValueType.STRING,
    PrimitiveFeastType.BYTES: ValueType.BYTES,
    PrimitiveFeastType.UNIX_TIMESTAMP: ValueType.TIMESTAMP,
    PrimitiveFeastType.PDF_BYTES: ValueType.BYTES,
    PrimitiveFeastType.IMAGE_BYTES: ValueType.BYTES,
}


def value_type(feast_type: Any) -> ValueType:
    """The value type of a Feast type; UNSPECIFIED for one that no column can carry (maps, sets, …)."""
    if isinstance(feast_type, Array):
        element = (
            _TYPES.get(feast_type.base_type) if isinstance(feast_type.base_type, PrimitiveFeastType) else None
        )
        return ValueType(f"{element.value}_LIST") if element else ValueType.UNSPECIFIED
    if isinstance(feast_type, PrimitiveFeastType):
        return _TYPES.get(feast_type, ValueType.UNSPECIFIED)
    return ValueType.UNSPECIFIED


def entity(found: FeastEntity, views: Mapping[str, FeatureView]) -> Entity:
    """An entity. One that declares no type has that of its join key in the views that use it."""
    kind = ValueType.UNSPECIFIED
    if found.value_type is not FeastValueType.UNKNOWN:
        kind = value_type(from_value_type(found.value_type))
    if kind is ValueType.UNSPECIFIED:
        keys = (key for view in views.values() for key in view.join_keys if key.name == found.join_key)
        kind = next((key.type for key in keys), kind)
    return Entity(found.name, found.join_key, kind, found.description, _tags(found.tags))


def feature_view(found: FeastView | LabelView, project: str, repo: Path) -> FeatureView:
    """A batch, stream or label view with its digest. repo: the folder that relative paths start from."""
    batch = found.batch_source
    kind = ViewKind.BATCH
    if isinstance(found, StreamFeatureView) or found.stream_source is not None:
        kind = ViewKind.STREAM
    view = FeatureView(
        project=project,
        name=found.name,
        kind=kind,
        join_keys=tuple(_field(column) for column in _key_fields(found)),
        features=tuple(_field(column) for column in found.features),
        ttl=found.ttl if found.ttl and found.ttl > timedelta(0) else None,
        # Labels are pushed; Feast does not materialize them, either.
        online=found.online and not isinstance(found, LabelView),
        source=None if batch is None else _source(batch, repo),
        description=found.description,
        tags=_tags(found.tags),
        handle=found,
    )
    return replace(view, digest=view_digest(view))


def on_demand_view(found: OnDemandFeatureView, project: str, views: Mapping[str, FeatureView]) -> FeatureView:
    """An on-demand view with its digest. Its join keys are those of the views it reads.

    Sources are in the order of their names: Feast keeps them in a protobuf map, which has none, and the
    digest must be the same whoever reads the registry.
    """
    inputs = tuple(projection(item) for _, item in sorted(found.source_feature_view_projections.items()))
    keys = {
        item.entity_column(key.name): replace(key, name=item.entity_column(key.name))
        for item in inputs
        for key in (views[item.view].join_keys if item.view in views else ())
    }
    request = {
        column.name: _field(column)
        for _, source in sorted(found.source_request_sources.items())
        for column in source.schema
    }
    transformation = found.feature_transformation
    view = FeatureView(
        project=project,
        name=found.name,
        kind=ViewKind.ON_DEMAND,
        join_keys=tuple(keys.values()),
        features=tuple(_field(column) for column in found.features),
        online=False,
        description=found.description,
        tags=_tags(found.tags),
        request_data=tuple(request.values()),
        inputs=inputs,
        transformation=f"{found.mode}\n{getattr(transformation, 'udf_string', '') or ''}",
        handle=found,
    )
    return replace(view, digest=view_digest(view))


def earlier_version(
    found: FeastView | LabelView | OnDemandFeatureView,
    number: int,
    project: str,
    repo: Path,
    views: Mapping[str, FeatureView],
) -> FeatureView:
    """A version of a view that another replaced, as view@vN."""
    view = (
        on_demand_view(found, project, views)
        if isinstance(found, OnDemandFeatureView)
        else feature_view(found, project, repo)
    )
    view = replace(view, name=f"{view.name}@v{number}", online=False, earlier=True)
    return replace(view, digest=view_digest(view))


def declared_type(view: FeatureView, feature: str) -> Any:
    """The Feast type of a feature of a view."""
    handle: Any = view.handle
    return next(item.dtype for item in handle.features if item.name == feature)


def feature_service(found: FeastService, project: str) -> FeatureService:
    """A feature service, without its digest. A view of which it names the version is view@vN."""
    return FeatureService(
        project=project,
        name=found.name,
        projections=tuple(
            projection(item)
            if item.version_tag is None
            else replace(projection(item), view=f"{item.name}@v{item.version_tag}")
            for item in found.feature_view_projections
        ),
        description=found.description,
        tags=_tags(found.tags),
    )


def projection(found: FeatureViewProjection) -> Projection:
    """The features a service or an on-demand view takes from one view."""
    return Projection(
        view=found.name,
        label=str(found.name_to_use()),  # type: ignore[no-untyped-call]
        features=tuple(_field(column) for column in found.features),
        key_columns=tuple(sorted((found.join_key_map or {}).items())),
    )


def _key_fields(found: FeastView | LabelView) -> list[Any]:
    """The join-key columns in the order of the view's entities, without Feast's stand-in for none."""
    columns = {column.name: column for column in found.entity_columns}
    return [columns[name] for name in found.join_keys if name != DUMMY_ENTITY_ID and name in columns]


def _field(column: Any) -> Field:
    return Field(column.name, value_type(column.dtype), column.description or "")


def _source(found: DataSource, repo: Path) -> Source:
    location = str(
        getattr(found, "path", "") or getattr(found, "query", "") or getattr(found, "table", "") or ""
    )
    # Feast lets the time columns go by their names in the view, too.
    columns = {mapped: column for column, mapped in (found.field_mapping or {}).items()}
    path = ""
    if isinstance(found, FileSource) and not isinstance(found.file_format, DeltaFormat):
        uri = FileSource.get_uri_for_file_path(repo, location)
        path = at_endpoint(uri, found.s3_endpoint_override)
    return Source(
        name=found.name,
        location=location,
        path=path,
        timestamp_column=columns.get(found.timestamp_field, found.timestamp_field) or "event_timestamp",
        created_column=columns.get(found.created_timestamp_column, found.created_timestamp_column) or None,
        columns=tuple(sorted((found.field_mapping or {}).items())),
    )


def _tags(tags: Mapping[str, str] | None) -> Tags:
    return tuple(sorted((tags or {}).items()))
