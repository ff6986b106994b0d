"""A retrieval of Feast's as the joins see it: which views, which names the result has, for which entities."""

from __future__ import annotations

import logging
from dataclasses import replace
from datetime import datetime
from pathlib import Path

import pyarrow as pa
from feast import FeatureView, FileSource
from feast.errors import FeastEntityDFMissingColumnsError
from feast.labeling.label_view import LabelView
from feast.repo_config import RepoConfig
from feast.utils import _parse_feature_ref

from feature_service.domain import FeatureView as View
from feature_service.domain import Field, Projection, ValueType
from feature_service.feast_adapters import definitions as feast_definitions
from feature_service.stores.asof_join import AsofJoin
from feature_service.stores.asof_sources import SourceRows, file_source, path_of, source_schema
from feature_service.stores.asof_sql import SourceView
from feature_service.stores.backfill import hidden_rows, told
from feature_service.stores.entity_rows import EVENT_TIMESTAMP, EntityRows, key_column

_log = logging.getLogger("plumbline.features")


class ViewRead:
    """One view of a retrieval: its label and features. Raises ValueError for a source not read here."""

    def __init__(
        self, found: FeatureView | LabelView, feature_refs: list[str], config: RepoConfig, project: str
    ) -> None:
        self.source = file_source(found.batch_source)
        path_of(config, self.source)
        repo = Path(config.repo_path or ".")
        self.view: View = feast_definitions.feature_view(found, project, repo)
        if isinstance(found, LabelView):
            self.view = replace(self.view, join_keys=_keys_as_stored(config, self.source, self.view))
        self.projection: Projection = feast_definitions.projection(found.projection)
        wanted = {feature for label, feature in map(_split, feature_refs) if label == self.projection.label}
        self.features: list[Field] = [item for item in self.view.features if item.name in wanted]


def _keys_as_stored(config: RepoConfig, source: FileSource, view: View) -> tuple[Field, ...]:
    """Keys of labels are text for Feast where their entity declares no type, whatever the source holds."""
    columns = source_schema(config, source)
    assert view.source is not None
    found = []
    for key in view.join_keys:
        index = columns.get_field_index(view.source.column_of(key.name))
        whole = index >= 0 and pa.types.is_integer(columns.field(index).type)
        found.append(replace(key, type=ValueType.INT64) if whole and key.type is ValueType.STRING else key)
    return tuple(found)


def _split(ref: str) -> tuple[str, str]:
    """The label of the view (with its version, as projections have it) and the feature of a reference."""
    name, version, feature = _parse_feature_ref(ref)
    return (name if version is None else f"{name}@v{version}"), feature


def output_names(entities: EntityRows, reads: list[ViewRead], full: bool) -> list[list[str]]:
    """The result's names of the features of each read. Raises for missing keys and for collisions."""
    wanted = {read.projection.entity_column(key.name) for read in reads for key in read.view.join_keys}
    missing = wanted - set(entities.table.column_names)
    if missing:
        raise FeastEntityDFMissingColumnsError(sorted(wanted), sorted(missing))  # type: ignore[no-untyped-call]
    names = [
        [f"{read.projection.label}__{item.name}" if full else item.name for item in read.features]
        for read in reads
    ]
    taken = set(entities.table.column_names)
    for name in (name for part in names for name in part):
        if name in taken:
            raise ValueError(
                f"two columns of the result would be named {name!r}: ask for full_feature_names=True, or "
                "rename the column of the entity rows"
            )
        taken.add(name)
    return names


def warn_of_backfill(join: AsofJoin, plan: SourceView, answer: pa.Table) -> None:
    """Says so, to those who just switched to this store, when its cutoff leaves nothing."""
    hidden = hidden_rows(join, plan, answer.to_batches())
    if hidden:
        _log.warning(told(plan, hidden, "set known_at: false under offline_store"))


def entities_between(config: RepoConfig, reads: list[ViewRead], start: datetime, end: datetime) -> pa.Table:
    """A row for each entity with an event in [start, end] in one of the views, at time end."""
    keys = {
        tuple((read.projection.entity_column(key.name), key.type) for key in read.view.join_keys)
        for read in reads
    }
    if len(keys) > 1:
        raise ValueError(
            "without entity_df, all views must have the same join keys: give entity_df, or ask view by view"
        )
    columns = [name for name, _ in next(iter(keys), ())]
    found = []
    for read in reads:
        source = read.view.source
        assert source is not None
        own = [source.column_of(key.name) for key in read.view.join_keys]
        rows = SourceRows(config, read.source, source.timestamp_column)
        table = rows.pull(own, [], start, end, newest=True).select(own)
        arrays = [
            key_column(table[name], key.type, name)
            for name, key in zip(own, read.view.join_keys, strict=True)
        ]
        found.append(pa.table(arrays, columns))
    if not columns:
        return pa.table({EVENT_TIMESTAMP: pa.array([end], pa.timestamp("us", "UTC"))})
    distinct = pa.concat_tables(found).group_by(columns).aggregate([])
    distinct = distinct.sort_by([(name, "ascending") for name in columns])
    moment = pa.array([end] * distinct.num_rows, pa.timestamp("us", "UTC"))
    return distinct.select(columns).add_column(0, EVENT_TIMESTAMP, moment)
