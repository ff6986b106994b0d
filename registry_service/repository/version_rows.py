"""Versions as they are read: a handful of statements for any number of them."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import Any

from sqlalchemy import Executable, Row, Select, Text, cast, select
from sqlalchemy.orm import Session, aliased

from registry_service.domain import (
    Evaluation,
    Field,
    InputSource,
    ModelFile,
    ModelInput,
    ModelVersion,
    Signature,
    VersionRef,
    VersionState,
)
from registry_service.repository.common import among, as_list
from registry_service.tables import (
    AliasRow,
    BlobRow,
    DatasetRow,
    EvaluationRow,
    FileRow,
    ModelRow,
    RunRow,
    VersionAnnotationRow,
    VersionDatasetRow,
    VersionRow,
    VersionTagRow,
)

_Origin = aliased(VersionRow)
_OriginModel = aliased(ModelRow)


_COLUMNS: tuple[Any, ...] = (
    VersionRow.id,
    VersionRow.number,
    VersionRow.state,
    # Many versions of a model share one signature: it is read once, by its text.
    cast(VersionRow.signature, Text).label("signature"),
    VersionRow.manifest_digest,
    VersionRow.create_time,
    VersionRow.finalize_time,
    VersionRow.archive_time,
    VersionRow.actor,
    VersionRow.revision,
    VersionRow.model_id,
    VersionRow.source,
    VersionRow.external_run,
    VersionRow.run_link,
    VersionRow.copied_from_id,
    ModelRow.name.label("model"),
    RunRow.name.label("run"),
    _OriginModel.name.label("origin_model"),
    _Origin.number.label("origin_number"),
    VersionAnnotationRow.description,
    VersionAnnotationRow.stage,
    VersionAnnotationRow.update_time,
    VersionAnnotationRow.revision.label("notes_revision"),
)


def version_rows() -> Select[Any]:
    """What `to_versions` makes versions of; the caller says which."""
    return (
        select(*_COLUMNS)
        .join(ModelRow, ModelRow.id == VersionRow.model_id)
        .join(VersionAnnotationRow, VersionAnnotationRow.version_id == VersionRow.id)
        .outerjoin(RunRow, RunRow.id == VersionRow.run_id)
        .outerjoin(_Origin, _Origin.id == VersionRow.copied_from_id)
        .outerjoin(_OriginModel, _OriginModel.id == _Origin.model_id)
    )


def load_versions(session: Session, ids: Sequence[int]) -> list[ModelVersion]:
    """In the order of the ids, all of which must be there."""
    if not ids:
        return []
    rows = _read(session, _by_id, ids)
    found = {version.id: version for version in to_versions(session, rows)}
    return [found[version_id] for version_id in ids]


def to_versions(session: Session, rows: Sequence[Row[Any]]) -> list[ModelVersion]:
    """The versions behind rows of `version_rows`."""
    ids = [row.id for row in rows]
    tags: defaultdict[int, dict[str, str]] = defaultdict(dict)
    for version_id, key, value in _read(session, _tags, ids):
        tags[version_id][key] = value
    datasets, files, aliases = (_lists(session, part, ids) for part in (_datasets, _files, _aliases))
    evaluations: defaultdict[int, list[Evaluation]] = defaultdict(list)
    for version_id, digest, split, metrics, time, actor in _read(session, _evaluations, ids):
        values = {name: float(value) for name, value in metrics.items()}
        evaluations[version_id].append(Evaluation(digest, split, values, time, actor))
    signatures: dict[str, Signature] = {}
    return [
        ModelVersion(
            id=row.id,
            ref=VersionRef(row.model, row.number),
            state=VersionState(row.state),
            description=row.description,
            tags=tags[row.id],
            # Both of NULL and of JSON's null.
            signature=None if row.signature in (None, "null") else _signature(signatures, row.signature),
            run=row.run or "",
            datasets=tuple(digest for (digest,) in datasets[row.id]),
            files=tuple(ModelFile(*file) for file in files[row.id]),
            manifest_digest=row.manifest_digest,
            evaluations=tuple(evaluations[row.id]),
            aliases=tuple(alias for (alias,) in aliases[row.id]),
            create_time=row.create_time,
            finalize_time=row.finalize_time,
            revision=row.revision + row.notes_revision,
            actor=row.actor,
            model_id=row.model_id,
            source=row.source,
            external_run=row.external_run,
            run_link=row.run_link,
            copied_from=None
            if row.origin_number is None
            else VersionRef(row.origin_model, row.origin_number),
            stage=row.stage,
            update_time=row.update_time,
            archive_time=row.archive_time,
            copied_from_id=row.copied_from_id,
        )
        for row in rows
    ]


def _read(session: Session, part: Callable[[str], Executable], ids: Sequence[int]) -> Sequence[Any]:
    """The rows of one part of some versions. Its statement is made once for each database."""
    connection = session.connection()
    dialect = connection.dialect.name
    return connection.execute(part(dialect), {"ids": as_list(dialect, ids)}).all()


def _lists(
    session: Session, part: Callable[[str], Executable], ids: Sequence[int]
) -> defaultdict[int, list[Sequence[Any]]]:
    """The rows of a part by their first column, the version, without it."""
    found: defaultdict[int, list[Sequence[Any]]] = defaultdict(list)
    for row in _read(session, part, ids):
        found[row[0]].append(row[1:])
    return found


@lru_cache
def _by_id(dialect: str) -> Executable:
    return version_rows().where(among(dialect, VersionRow.id, "ids"))


@lru_cache
def _tags(dialect: str) -> Executable:
    owner = VersionTagRow.version_id
    return (
        select(owner, VersionTagRow.key, VersionTagRow.value)
        .where(among(dialect, owner, "ids"))
        .order_by(owner, VersionTagRow.key)
    )


@lru_cache
def _datasets(dialect: str) -> Executable:
    return (
        select(VersionDatasetRow.version_id, DatasetRow.digest)
        .join(DatasetRow, DatasetRow.id == VersionDatasetRow.dataset_id)
        .where(among(dialect, VersionDatasetRow.version_id, "ids"))
        .order_by(VersionDatasetRow.version_id, VersionDatasetRow.position)
    )


@lru_cache
def _files(dialect: str) -> Executable:
    return (
        select(FileRow.version_id, FileRow.path, FileRow.sha256, BlobRow.size_bytes, FileRow.media_type)
        .join(BlobRow, BlobRow.sha256 == FileRow.sha256)
        .where(among(dialect, FileRow.version_id, "ids"))
        .order_by(FileRow.version_id, FileRow.path)
    )


@lru_cache
def _evaluations(dialect: str) -> Executable:
    return (
        select(
            EvaluationRow.version_id,
            DatasetRow.digest,
            EvaluationRow.split,
            EvaluationRow.metrics,
            EvaluationRow.create_time,
            EvaluationRow.actor,
        )
        .join(DatasetRow, DatasetRow.id == EvaluationRow.dataset_id)
        .where(among(dialect, EvaluationRow.version_id, "ids"))
        .order_by(EvaluationRow.id)
    )


@lru_cache
def _aliases(dialect: str) -> Executable:
    return (
        select(AliasRow.version_id, AliasRow.name)
        .where(among(dialect, AliasRow.version_id, "ids"))
        .order_by(AliasRow.name)
    )


def _signature(known: dict[str, Signature], text: str) -> Signature:
    found = known.get(text)
    if found is None:
        found = known[text] = to_signature(json.loads(text))
    return found


def to_signature(document: Mapping[str, Any]) -> Signature:
    """The signature behind the document that `asdict` made of it."""
    return Signature(
        inputs=tuple(
            ModelInput(
                name=item["name"],
                type=item["type"],
                source=InputSource(item["source"]),
                feature_reference=item["feature_reference"],
                categories=tuple(item["categories"]),
            )
            for item in document["inputs"]
        ),
        outputs=to_fields(document["outputs"]),
        feature_service=document["feature_service"],
        feature_service_digest=document["feature_service_digest"],
        join_keys=to_fields(document["join_keys"]),
        request_data=to_fields(document["request_data"]),
    )


def to_fields(documents: Sequence[Mapping[str, Any]]) -> tuple[Field, ...]:
    """The fields behind documents that `asdict` made of them."""
    return tuple(Field(**document) for document in documents)
