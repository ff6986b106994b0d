"""Versions as they are read: a handful of statements for any number of them."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import Row, Select, Text, cast, select
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
from registry_service.repository.common import one_of
from registry_service.repository.notes import read_tags
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

# Statements are run on the connection: the session's own way of reading takes half as long again.
_STATES = {state.value: state for state in VersionState}
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
    rows = session.connection().execute(version_rows().where(one_of(session, VersionRow.id, ids))).all()
    found = {version.id: version for version in to_versions(session, rows)}
    return [found[version_id] for version_id in ids]


def to_versions(session: Session, rows: Sequence[Row[Any]]) -> list[ModelVersion]:
    """The versions behind rows of `version_rows`."""
    ids = [row.id for row in rows]
    tags = read_tags(session, VersionTagRow, VersionTagRow.version_id, ids)
    datasets, files = _datasets(session, ids), _files(session, ids)
    evaluations, aliases = _evaluations(session, ids), _aliases(session, ids)
    signatures: dict[str, Signature | None] = {}
    return [
        ModelVersion(
            id=row.id,
            ref=VersionRef(row.model, row.number),
            state=_STATES[row.state],
            description=row.description,
            tags=tags[row.id],
            signature=_signature(signatures, row.signature),
            run=row.run or "",
            datasets=tuple(datasets[row.id]),
            files=tuple(files[row.id]),
            manifest_digest=row.manifest_digest,
            evaluations=tuple(evaluations[row.id]),
            aliases=tuple(aliases[row.id]),
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


def _datasets(session: Session, ids: Sequence[int]) -> defaultdict[int, list[str]]:
    found: defaultdict[int, list[str]] = defaultdict(list)
    statement = (
        select(VersionDatasetRow.version_id, DatasetRow.digest)
        .join(DatasetRow, DatasetRow.id == VersionDatasetRow.dataset_id)
        .where(one_of(session, VersionDatasetRow.version_id, ids))
        .order_by(VersionDatasetRow.version_id, VersionDatasetRow.position)
    )
    for version_id, digest in session.connection().execute(statement):
        found[version_id].append(digest)
    return found


def _files(session: Session, ids: Sequence[int]) -> defaultdict[int, list[ModelFile]]:
    found: defaultdict[int, list[ModelFile]] = defaultdict(list)
    statement = (
        select(FileRow.version_id, FileRow.path, FileRow.sha256, BlobRow.size_bytes, FileRow.media_type)
        .join(BlobRow, BlobRow.sha256 == FileRow.sha256)
        .where(one_of(session, FileRow.version_id, ids))
        .order_by(FileRow.version_id, FileRow.path)
    )
    for version_id, path, sha256, size, media_type in session.connection().execute(statement):
        found[version_id].append(ModelFile(path, sha256, size, media_type))
    return found


def _evaluations(session: Session, ids: Sequence[int]) -> defaultdict[int, list[Evaluation]]:
    found: defaultdict[int, list[Evaluation]] = defaultdict(list)
    statement = (
        select(
            EvaluationRow.version_id,
            DatasetRow.digest,
            EvaluationRow.split,
            EvaluationRow.metrics,
            EvaluationRow.create_time,
            EvaluationRow.actor,
        )
        .join(DatasetRow, DatasetRow.id == EvaluationRow.dataset_id)
        .where(one_of(session, EvaluationRow.version_id, ids))
        .order_by(EvaluationRow.id)
    )
    for version_id, digest, split, metrics, time, actor in session.connection().execute(statement):
        values = {name: float(value) for name, value in metrics.items()}
        found[version_id].append(Evaluation(digest, split, values, time, actor))
    return found


def _aliases(session: Session, ids: Sequence[int]) -> defaultdict[int, list[str]]:
    found: defaultdict[int, list[str]] = defaultdict(list)
    statement = (
        select(AliasRow.version_id, AliasRow.name)
        .where(one_of(session, AliasRow.version_id, ids))
        .order_by(AliasRow.name)
    )
    for version_id, name in session.connection().execute(statement):
        if version_id is not None:
            found[version_id].append(name)
    return found


def _signature(known: dict[str, Signature | None], text: str | None) -> Signature | None:
    if text is None:
        return None
    if text not in known:
        # JSON's own null, as earlier versions wrote it.
        document = json.loads(text)
        known[text] = None if document is None else to_signature(document)
    return known[text]


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
