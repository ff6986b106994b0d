"""Model versions in SQL."""

from __future__ import annotations

import builtins
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import datetime
from typing import Any

from sqlalchemy import insert, select, update
from sqlalchemy.orm import Session

from plumbline.registry.errors import ModelNotFound, VersionNotFound
from registry_service.domain import (
    NO_STAGE,
    Act,
    Dataset,
    Evaluation,
    Field,
    InputSource,
    Model,
    ModelFile,
    ModelInput,
    ModelVersion,
    Signature,
    TrainingRun,
    VersionRef,
    VersionState,
)
from registry_service.repository.common import insert_or_ignore
from registry_service.repository.notes import read_tags, upsert_metric, write_tags
from registry_service.tables import (
    AliasRow,
    Base,
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

_VERSIONS = Base.metadata.tables["model_version"]
_ADD = insert(_VERSIONS).returning(_VERSIONS.c.id)
_ADD_NOTES = insert(Base.metadata.tables["version_annotation"])
_ADD_TAG = insert(Base.metadata.tables["version_tag"])
_ADD_DATASET = insert(Base.metadata.tables["version_dataset"])


class SqlVersions:
    """`ports.VersionStore`."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def add(
        self,
        model_id: int,
        ref: VersionRef,
        *,
        description: str,
        tags: Mapping[str, str],
        signature: Signature | None,
        run: TrainingRun | None,
        datasets: Sequence[Dataset],
        act: Act,
        source: str = "",
        external_run: str = "",
        run_link: str = "",
        copied_from: ModelVersion | None = None,
        ready: str = "",
    ) -> ModelVersion:
        state = VersionState.READY if ready else VersionState.DRAFT
        finalize_time = act.time if ready else None
        execute = self._session.connection().execute
        row = {
            "model_id": model_id,
            "number": ref.number,
            "state": state.value,
            "signature": None if signature is None else asdict(signature),
            "run_id": None if run is None else run.id,
            "manifest_digest": ready,
            "create_time": act.time,
            "finalize_time": finalize_time,
            "actor": act.actor,
            "revision": 1,
            "source": source,
            "external_run": external_run,
            "run_link": run_link,
            "copied_from_id": None if copied_from is None else copied_from.id,
        }
        version_id = execute(_ADD, row).scalar_one()
        notes = {
            "version_id": version_id,
            "model_id": model_id,
            "description": description,
            "stage": NO_STAGE,
            "update_time": act.time,
            "revision": 0,
        }
        execute(_ADD_NOTES, notes)
        if tags:
            execute(
                _ADD_TAG,
                [{"version_id": version_id, "key": key, "value": value} for key, value in tags.items()],
            )
        if datasets:
            execute(
                _ADD_DATASET,
                [
                    {"version_id": version_id, "dataset_id": dataset.id, "position": position}
                    for position, dataset in enumerate(datasets)
                ],
            )
        return ModelVersion(
            id=version_id,
            ref=ref,
            state=state,
            description=description,
            tags=dict(sorted(tags.items())),
            signature=signature,
            run="" if run is None else run.name,
            datasets=tuple(dataset.digest for dataset in datasets),
            files=(),
            manifest_digest=ready,
            evaluations=(),
            aliases=(),
            create_time=act.time,
            finalize_time=finalize_time,
            revision=1,
            actor=act.actor,
            model_id=model_id,
            source=source,
            external_run=external_run,
            run_link=run_link,
            copied_from=None if copied_from is None else copied_from.ref,
            update_time=act.time,
        )

    def get(self, ref: VersionRef) -> ModelVersion:
        row = self._session.execute(
            select(VersionRow, VersionAnnotationRow)
            .join(ModelRow, ModelRow.id == VersionRow.model_id)
            .join(VersionAnnotationRow, VersionAnnotationRow.version_id == VersionRow.id)
            .where(ModelRow.name == ref.model, VersionRow.number == ref.number)
        ).one_or_none()
        if row is not None:
            return self._versions([(row[0], row[1])], ref.model)[0]
        if self._session.scalar(select(ModelRow.id).where(ModelRow.name == ref.model)) is None:
            raise ModelNotFound(f"there is no model {ref.model!r}", metadata={"model": ref.model})
        raise VersionNotFound(
            f"model {ref.model!r} has no version {ref.number}",
            metadata={"model": ref.model, "version": str(ref.number)},
        )

    def list(self, model: Model, *, before: int | None, limit: int) -> builtins.list[ModelVersion]:
        statement = (
            select(VersionRow, VersionAnnotationRow)
            .join(VersionAnnotationRow, VersionAnnotationRow.version_id == VersionRow.id)
            .where(VersionRow.model_id == model.id)
            .order_by(VersionRow.number.desc())
            .limit(limit)
        )
        if before is not None:
            statement = statement.where(VersionRow.number < before)
        found = [(row, notes) for row, notes in self._session.execute(statement)]
        return self._versions(found, model.name)

    def numbers(self, model: Model, *, stage: str | None = None) -> Sequence[int]:
        statement = (
            select(VersionRow.number)
            .where(VersionRow.model_id == model.id, VersionRow.state != VersionState.ARCHIVED.value)
            .order_by(VersionRow.number)
        )
        if stage is not None:
            statement = statement.join(
                VersionAnnotationRow, VersionAnnotationRow.version_id == VersionRow.id
            ).where(VersionAnnotationRow.stage == stage)
        return self._session.scalars(statement).all()

    def add_file(self, version: ModelVersion, file: ModelFile, time: datetime) -> None:
        blob = {"sha256": file.sha256, "size_bytes": file.size_bytes, "create_time": time}
        insert_or_ignore(self._session, BlobRow, [blob])
        self._session.execute(
            insert(FileRow).values(
                version_id=version.id,
                path=file.path,
                sha256=file.sha256,
                media_type=file.media_type,
                create_time=time,
            )
        )
        self._change(version)

    def finalize(self, version: ModelVersion, manifest_digest: str, time: datetime) -> ModelVersion:
        self._change(version, state=VersionState.READY, manifest_digest=manifest_digest, finalize_time=time)
        self._touch(version, time)
        return self.get(version.ref)

    def archive(self, version: ModelVersion, time: datetime) -> ModelVersion:
        self._change(version, state=VersionState.ARCHIVED, archive_time=time)
        self._touch(version, time)
        return self.get(version.ref)

    def annotate(
        self, version: ModelVersion, *, description: str, tags: Mapping[str, str], stage: str, time: datetime
    ) -> ModelVersion:
        self._touch(version, time, description=description, stage=stage)
        write_tags(
            self._session, VersionTagRow, VersionTagRow.version_id, version.id, dict(version.tags), tags
        )
        return self.get(version.ref)

    def add_evaluation(self, version: ModelVersion, dataset: Dataset, evaluation: Evaluation) -> int:
        for name, value in evaluation.metrics.items():
            upsert_metric(self._session, version.id, name, value)
        return self._session.execute(
            insert(EvaluationRow)
            .values(
                version_id=version.id,
                dataset_id=dataset.id,
                split=evaluation.split,
                metrics=dict(evaluation.metrics),
                create_time=evaluation.create_time,
                actor=evaluation.actor,
            )
            .returning(EvaluationRow.id)
        ).scalar_one()

    def _touch(self, version: ModelVersion, time: datetime, **values: Any) -> None:
        self._session.execute(
            update(VersionAnnotationRow)
            .where(VersionAnnotationRow.version_id == version.id)
            .values(revision=VersionAnnotationRow.revision + 1, update_time=time, **values)
            .execution_options(synchronize_session=False)
        )

    def _change(self, version: ModelVersion, **values: Any) -> None:
        self._session.execute(
            update(VersionRow)
            .where(VersionRow.id == version.id)
            .values(revision=VersionRow.revision + 1, **values)
            .execution_options(synchronize_session=False)
        )

    def _versions(
        self, found: Sequence[tuple[VersionRow, VersionAnnotationRow]], model: str
    ) -> builtins.list[ModelVersion]:
        rows = [row for row, _ in found]
        ids = [row.id for row in rows]
        tags = read_tags(self._session, VersionTagRow, VersionTagRow.version_id, ids)
        runs, origins = self._runs(rows), self._origins(rows)
        datasets, files = self._datasets(ids), self._files(ids)
        evaluations, aliases = self._evaluations(ids), self._aliases(ids)
        return [
            ModelVersion(
                id=row.id,
                ref=VersionRef(model, row.number),
                state=VersionState(row.state),
                description=notes.description,
                tags=tags[row.id],
                signature=None if row.signature is None else to_signature(row.signature),
                run=runs.get(row.run_id or 0, ""),
                datasets=tuple(datasets[row.id]),
                files=tuple(files[row.id]),
                manifest_digest=row.manifest_digest,
                evaluations=tuple(evaluations[row.id]),
                aliases=tuple(aliases[row.id]),
                create_time=row.create_time,
                finalize_time=row.finalize_time,
                revision=row.revision + notes.revision,
                actor=row.actor,
                model_id=row.model_id,
                source=row.source,
                external_run=row.external_run,
                run_link=row.run_link,
                copied_from=origins.get(row.copied_from_id or 0),
                stage=notes.stage,
                update_time=notes.update_time,
                archive_time=row.archive_time,
                copied_from_id=row.copied_from_id,
            )
            for row, notes in found
        ]

    def _origins(self, rows: Sequence[VersionRow]) -> dict[int, VersionRef]:
        ids = [row.copied_from_id for row in rows if row.copied_from_id is not None]
        if not ids:
            return {}
        statement = (
            select(VersionRow.id, ModelRow.name, VersionRow.number)
            .join(ModelRow, ModelRow.id == VersionRow.model_id)
            .where(VersionRow.id.in_(ids))
        )
        return {row_id: VersionRef(name, number) for row_id, name, number in self._session.execute(statement)}

    def _runs(self, rows: Sequence[VersionRow]) -> dict[int, str]:
        ids = [row.run_id for row in rows if row.run_id is not None]
        return dict(self._session.execute(select(RunRow.id, RunRow.name).where(RunRow.id.in_(ids))).all())

    def _datasets(self, ids: Sequence[int]) -> defaultdict[int, builtins.list[str]]:
        found: defaultdict[int, list[str]] = defaultdict(list)
        statement = (
            select(VersionDatasetRow.version_id, DatasetRow.digest)
            .join(DatasetRow, DatasetRow.id == VersionDatasetRow.dataset_id)
            .where(VersionDatasetRow.version_id.in_(ids))
            .order_by(VersionDatasetRow.position)
        )
        for version_id, digest in self._session.execute(statement):
            found[version_id].append(digest)
        return found

    def _files(self, ids: Sequence[int]) -> defaultdict[int, builtins.list[ModelFile]]:
        found: defaultdict[int, list[ModelFile]] = defaultdict(list)
        statement = (
            select(FileRow, BlobRow.size_bytes)
            .join(BlobRow, BlobRow.sha256 == FileRow.sha256)
            .where(FileRow.version_id.in_(ids))
            .order_by(FileRow.path)
        )
        for row, size in self._session.execute(statement):
            found[row.version_id].append(ModelFile(row.path, row.sha256, size, row.media_type))
        return found

    def _evaluations(self, ids: Sequence[int]) -> defaultdict[int, builtins.list[Evaluation]]:
        found: defaultdict[int, list[Evaluation]] = defaultdict(list)
        statement = (
            select(EvaluationRow, DatasetRow.digest)
            .join(DatasetRow, DatasetRow.id == EvaluationRow.dataset_id)
            .where(EvaluationRow.version_id.in_(ids))
            .order_by(EvaluationRow.id)
        )
        for row, digest in self._session.execute(statement):
            metrics = {name: float(value) for name, value in row.metrics.items()}
            found[row.version_id].append(Evaluation(digest, row.split, metrics, row.create_time, row.actor))
        return found

    def _aliases(self, ids: Sequence[int]) -> defaultdict[int, builtins.list[str]]:
        found: defaultdict[int, list[str]] = defaultdict(list)
        statement = (
            select(AliasRow.version_id, AliasRow.name)
            .where(AliasRow.version_id.in_(ids))
            .order_by(AliasRow.name)
        )
        for version_id, name in self._session.execute(statement):
            if version_id is not None:
                found[version_id].append(name)
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
