"""Model versions in SQL."""

from __future__ import annotations

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
    Model,
    ModelFile,
    ModelVersion,
    Signature,
    TrainingRun,
    VersionRef,
    VersionState,
)
from registry_service.filtering.search import Hit, Search
from registry_service.repository.common import insert_or_ignore
from registry_service.repository.conditions import Condition
from registry_service.repository.notes import upsert_metric, write_tags
from registry_service.repository.pages import Finder
from registry_service.repository.targets import VERSIONS
from registry_service.repository.version_rows import load_versions, to_versions, version_rows
from registry_service.tables import (
    Base,
    BlobRow,
    EvaluationRow,
    FileRow,
    ModelRow,
    VersionAnnotationRow,
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
        statement = version_rows().where(ModelRow.name == ref.model, VersionRow.number == ref.number)
        row = self._session.execute(statement).one_or_none()
        if row is not None:
            return to_versions(self._session, [row])[0]
        if self._session.scalar(select(ModelRow.id).where(ModelRow.name == ref.model)) is None:
            raise ModelNotFound(f"there is no model {ref.model!r}", metadata={"model": ref.model})
        raise VersionNotFound(
            f"model {ref.model!r} has no version {ref.number}",
            metadata={"model": ref.model, "version": str(ref.number)},
        )

    def search(self, search: Search, *, model_id: int | None, limit: int) -> list[Hit[ModelVersion]]:
        fixed: list[Condition] = []
        joined: dict[str, Condition] = {}
        if model_id is not None:
            fixed = [VersionRow.model_id == model_id]
            joined = {"notes": VersionAnnotationRow.model_id == model_id}
        places = Finder(self._session, VERSIONS, fixed, joined).places(search, limit)
        found = load_versions(self._session, [place.id for place in places])
        return [Hit(version, place) for version, place in zip(found, places, strict=True)]

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
