"""The snapshot: entity rows with their point-in-time features, one Parquet file named by its digest."""

from __future__ import annotations

import os
import uuid
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from plumbline.columns import value_type
from plumbline.features.v1 import definitions_pb2 as defs
from trainer import codec
from trainer.config import TrainingConfig
from trainer.digest import RowDigest
from trainer.domain import Column, Dataset, FeatureService, JoinSummary, Specification
from trainer.entities import ROW_NUMBER, Cursor, EntityFile
from trainer.errors import DataRefused, JoinBroken
from trainer.ports import Features, JoinedRows, Reporter


@dataclass(frozen=True)
class Snapshot:
    """Rows to learn from, on disk. summary: how feature_service summed up the join."""

    path: Path
    dataset: Dataset
    summary: JoinSummary
    schema: pa.Schema

    def column(self, name: str) -> pa.ChunkedArray:
        """One column, all rows. Read one by one: no second copy of all rows in memory."""
        return pq.ParquetFile(self.path).read(columns=[name]).column(0)

    def table(self, names: Sequence[str]) -> pa.Table:
        """Some columns, all rows."""
        return pq.ParquetFile(self.path).read(columns=list(names))


def take_snapshot(
    features: Features, entities: EntityFile, config: TrainingConfig, reporter: Reporter
) -> Snapshot:
    """Asks for the features of all entity rows and keeps rows and features.

    Sent are the event timestamp, join keys and request data alone: the label stays here. Every row must come
    back once, in its place; else JoinBroken is raised and nothing is kept. DataRefused: a column that the
    feature service needs is missing, or one of its features has the name of a column of the entity rows.
    """
    service = codec.feature_service(features.get_feature_service(config.features.service))
    needed = [column.name for column in (*service.join_keys, *service.request_data)]
    entities.require(needed, f"the feature service {service.definition.name!r} needs")
    sent = list(dict.fromkeys((config.entity_rows.event_timestamp, *needed)))
    joined = features.get_historical_features(
        config.features.service,
        entities.numbered(sent),
        event_timestamp_column=config.entity_rows.event_timestamp,
        on_progress=lambda p: reporter.progress(f"features: {p.phase}", p.rows_done, p.rows_total),
    )
    feature_fields = _feature_fields(joined.schema, sent, entities.schema)
    schema = pa.schema([*entities.schema, *feature_fields])
    folder = config.snapshot_dir
    folder.mkdir(parents=True, exist_ok=True)
    unfinished = folder / f".{uuid.uuid4().hex}.parquet"
    try:
        digest = _write(joined, entities, schema, [f.name for f in feature_fields], unfinished, reporter)
        summary = codec.join_summary(joined.summary)
        _check_summary(summary, service, entities.rows, [f.name for f in feature_fields])
        specifications = _specifications(features, joined.summary.feature_service)
        dataset = replace(_dataset(config, schema, entities, summary, digest), specifications=specifications)
        path = folder / f"{dataset.digest}.parquet"
        os.replace(unfinished, path)
    finally:
        unfinished.unlink(missing_ok=True)
    return Snapshot(path, dataset, summary, schema)


def _feature_fields(joined: pa.Schema, sent: Sequence[str], entity_schema: pa.Schema) -> list[pa.Field]:
    lost = sorted({*sent, ROW_NUMBER} - set(joined.names))
    if lost:
        raise JoinBroken(f"feature_service did not send back the columns {', '.join(lost)} that it was sent")
    added = [field for field in joined if field.name not in {*sent, ROW_NUMBER}]
    taken = sorted({field.name for field in added} & set(entity_schema.names))
    if taken:
        raise DataRefused(
            f"the features {', '.join(taken)} have names of columns of the entity rows; rename those columns"
        )
    if not added:
        raise JoinBroken("feature_service added no feature")
    return added


def _write(
    joined: JoinedRows,
    entities: EntityFile,
    schema: pa.Schema,
    features: Sequence[str],
    target: Path,
    reporter: Reporter,
) -> RowDigest:
    digest, cursor, done = RowDigest(schema), Cursor(entities.batches()), 0
    with pq.ParquetWriter(target, schema, compression="zstd", compression_level=1) as writer:
        for batch in joined:
            if not batch.num_rows:
                continue
            _check_place(batch, done, entities.rows)
            rows = pa.Table.from_batches(cursor.take(batch.num_rows), schema=entities.schema).combine_chunks()
            columns = [rows.column(name).chunk(0) for name in entities.schema.names]
            columns += [batch.column(name) for name in features]
            whole = pa.record_batch(columns, schema=schema)
            digest.update(whole)
            writer.write_batch(whole)
            done += batch.num_rows
            reporter.progress("snapshot", done, entities.rows)
    if done != entities.rows:
        raise JoinBroken(f"{entities.rows:,} rows were sent to feature_service and {done:,} came back")
    # On disk before it gets its name: a name promises a whole file.
    with target.open("rb") as file:
        os.fsync(file.fileno())
    return digest


def _check_place(batch: pa.RecordBatch, start: int, rows: int) -> None:
    numbers = batch.column(ROW_NUMBER)
    end = start + batch.num_rows
    if end > rows:
        raise JoinBroken(f"{rows:,} rows were sent to feature_service and at least {end:,} came back")
    if numbers.null_count or not np.array_equal(numbers.to_numpy(), np.arange(start, end)):
        raise JoinBroken(
            f"feature_service sent rows back in another order, between row {start:,} and {end:,}"
        )


def _check_summary(summary: JoinSummary, asked: FeatureService, rows: int, features: Sequence[str]) -> None:
    if (summary.rows_in, summary.rows_out) != (rows, rows):
        raise JoinBroken(
            f"feature_service says {summary.rows_in:,} rows came in and {summary.rows_out:,} went out; "
            f"{rows:,} were sent"
        )
    if summary.service.definition.digest != asked.definition.digest:
        raise JoinBroken(
            f"the definition of {asked.definition.name!r} changed while the features were read "
            f"({asked.definition.digest} → {summary.service.definition.digest}); run the job again"
        )
    if [feature.name for feature in summary.features] != list(features):
        raise JoinBroken("feature_service's summary lists other features than it sent")


def _specifications(features: Features, service: defs.FeatureService) -> tuple[Specification, ...]:
    """The definitions that the features were read by: the feature service, then its views."""
    found = [codec.specification(service)]
    for projection in service.projections:
        view = features.get_feature_view(projection.view)
        if view.digest != projection.view_digest:
            raise JoinBroken(
                f"the definition of {projection.view!r} changed while the features were read "
                f"({projection.view_digest} → {view.digest}); run the job again"
            )
        found.append(codec.specification(view))
    return tuple(found)


def _dataset(
    config: TrainingConfig, schema: pa.Schema, entities: EntityFile, summary: JoinSummary, digest: RowDigest
) -> Dataset:
    # Equal rows made by other definitions are another dataset: its lineage is another one.
    content = digest.hexdigest(origin=summary.service.definition.digest)
    return Dataset(
        digest=content,
        entity_digest=digest.hexdigest(entities.schema.names),
        display_name=f"{config.model}: {config.entity_rows.path.name} with {config.features.service}",
        rows=entities.rows,
        columns=tuple(Column(f.name, codec.type_name(value_type(f.type))) for f in schema),
        service=summary.service,
        as_of_start=summary.as_of_start,
        as_of_end=summary.as_of_end,
        uri=(config.snapshot_dir / f"{content}.parquet").absolute().as_uri(),
    )
