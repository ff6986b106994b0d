"""Views of the definitions as the joins see them: columns of files instead of names of features."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta

from feature_service.domain import FeatureView, Field, Source, ValueType
from feature_service.stores import parquet
from feature_service.stores.asof_sql import ParquetRows, SourceColumn, SourceView, partition_type
from plumbline.features.errors import SourceUnreadable

_MICROSECOND = timedelta(microseconds=1)


def source_view(
    view: FeatureView, features: Sequence[Field], key_columns: Sequence[str] = (), *, any_type: bool = False
) -> SourceView:
    """The view with the features asked for.

    key_columns: for each join key of the view, the column of the entity table that holds it. any_type:
    features of types that no column of ours can carry (maps, structs, …) come as the source has them.
    Raises SourceUnreadable when there are no files, or a type that no column can carry.
    """
    source = view.source
    if source is None or not source.path:
        raise SourceUnreadable(
            f"view {view.name} has no source of Parquet files", metadata={"view": view.name}
        )
    for item in (*view.join_keys, *(() if any_type else features)):
        if item.type is ValueType.UNSPECIFIED:
            raise SourceUnreadable(
                f"view {view.name}: the type of {item.name} is not supported", metadata={"view": view.name}
            )
    files, partitions = _files(view, source)

    def column(item: Field, name: str) -> SourceColumn:
        return SourceColumn(name, source.column_of(item.name), item.type)

    columns = key_columns or [key.name for key in view.join_keys]
    return SourceView(
        name=view.name,
        rows=ParquetRows(files, source.timestamp_column, source.created_column, partitions),
        keys=tuple(column(key, name) for key, name in zip(view.join_keys, columns, strict=True)),
        features=tuple(column(item, item.name) for item in features),
        tie_break=tuple(
            column(item, item.name) for item in view.features if item.type is not ValueType.UNSPECIFIED
        ),
        ttl_micros=None if view.ttl is None else view.ttl // _MICROSECOND,
    )


def _files(view: FeatureView, source: Source) -> tuple[tuple[str, ...], tuple[tuple[str, str], ...]]:
    """The files, and the partition columns with the types that the view declares for them."""
    try:
        files = parquet.files_of(source.path)
        names = parquet.partition_columns(source.path, files)
    except FileNotFoundError as error:
        raise SourceUnreadable(
            f"view {view.name}: its source {source.location} does not exist", metadata={"view": view.name}
        ) from error
    except (OSError, ValueError) as error:
        raise SourceUnreadable(
            f"view {view.name}: its source {source.location} cannot be read: {error}",
            metadata={"view": view.name},
        ) from error
    declared = {source.column_of(item.name): item.type for item in (*view.join_keys, *view.features)}
    times = (source.timestamp_column, source.created_column)
    return files, tuple(
        (name, "TIMESTAMP" if name in times else partition_type(declared.get(name))) for name in names
    )
