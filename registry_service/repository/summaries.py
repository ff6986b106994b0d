"""Summaries of versions in SQL: one statement for the versions, one for their tags, one for their aliases."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import ColumnElement, Select, exists, func, select
from sqlalchemy.orm import Session, aliased

from plumbline.registry.errors import VersionNotFound
from registry_service.domain import AliasRef, VersionRef, VersionState
from registry_service.filtering.search import Hit, Search
from registry_service.repository.aliases import SqlAliases
from registry_service.repository.common import one_of
from registry_service.repository.models import SqlModels
from registry_service.repository.notes import read_tags
from registry_service.repository.pages import Finder
from registry_service.repository.targets import VERSIONS
from registry_service.summaries import VersionSummary
from registry_service.tables import (
    AliasRow,
    FileRow,
    ModelRow,
    RunRow,
    VersionAnnotationRow,
    VersionRow,
    VersionTagRow,
)

_Origin = aliased(VersionRow)
_OriginModel = aliased(ModelRow)
_PRESENT = VersionRow.state != VersionState.ARCHIVED.value


class SqlSummaries:
    """`summaries.SummaryStore`."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def get(self, ref: VersionRef | AliasRef) -> VersionSummary:
        if isinstance(ref, AliasRef):
            ref = SqlAliases(self._session).get(ref).version
        found = self._read(ModelRow.name == ref.model, VersionRow.number == ref.number)
        if found:
            return found[0]
        # Raises ModelNotFound if that is what is missing.
        SqlModels(self._session).get(ref.model)
        raise VersionNotFound(
            f"model {ref.model!r} has no version {ref.number}",
            metadata={"model": ref.model, "version": str(ref.number)},
        )

    def versions(self, search: Search, *, model: str | None, limit: int) -> list[Hit[VersionSummary]]:
        fixed = [_PRESENT]
        if model is None:
            fixed.append(_of_active_model())
        else:
            named = ModelRow.name == model, ModelRow.archive_time.is_(None)
            model_id = self._session.scalar(select(ModelRow.id).where(*named))
            if model_id is None:
                return []
            fixed.append(VersionRow.model_id == model_id)
            if any(order.field == "update_time" for order in search.orders):
                # Said of the notes, too, which are joined then: they have an index for this order.
                fixed.append(VersionAnnotationRow.model_id == model_id)
        places = Finder(self._session, VERSIONS, fixed).places(search, limit)
        found = self._by_id([place.id for place in places])
        return [Hit(found[place.id], place) for place in places]

    def latest(self, model_ids: Sequence[int]) -> Mapping[int, list[VersionSummary]]:
        newest = (
            select(func.max(VersionRow.id))
            .join(VersionAnnotationRow, VersionAnnotationRow.version_id == VersionRow.id)
            .where(_PRESENT)
            .group_by(VersionAnnotationRow.model_id, VersionAnnotationRow.stage)
        )
        found: defaultdict[int, list[VersionSummary]] = defaultdict(list)
        # Within a model, ids grow with the numbers.
        of_models = one_of(self._session, VersionAnnotationRow.model_id, model_ids)
        ids = self._session.scalars(newest.where(of_models)).all()
        for summary in sorted(self._by_id(ids).values(), key=lambda one: one.ref.number):
            found[summary.model_id].append(summary)
        return found

    def _by_id(self, ids: Sequence[int]) -> dict[int, VersionSummary]:
        if not ids:
            return {}
        return {summary.id: summary for summary in self._read(one_of(self._session, VersionRow.id, ids))}

    def _read(self, *conditions: ColumnElement[bool]) -> list[VersionSummary]:
        rows = self._session.execute(_SELECT.where(*conditions)).all()
        ids = [row.id for row in rows]
        tags = read_tags(self._session, VersionTagRow, VersionTagRow.version_id, ids)
        aliases = self._aliases(ids)
        return [_summary(row, tags[row.id], tuple(aliases[row.id])) for row in rows]

    def _aliases(self, ids: Sequence[int]) -> defaultdict[int, list[str]]:
        found: defaultdict[int, list[str]] = defaultdict(list)
        statement = (
            select(AliasRow.version_id, AliasRow.name)
            .where(one_of(self._session, AliasRow.version_id, ids))
            .order_by(AliasRow.name)
        )
        for version_id, name in self._session.execute(statement):
            found[version_id or 0].append(name)
        return found


def _of_active_model() -> ColumnElement[bool]:
    return VersionRow.model_id.not_in(select(ModelRow.id).where(ModelRow.archive_time.is_not(None)))


def _select() -> Select[Any]:
    return (
        select(
            VersionRow.id,
            VersionRow.model_id,
            VersionRow.number,
            VersionRow.state,
            VersionRow.actor,
            VersionRow.create_time,
            VersionRow.source,
            VersionRow.external_run,
            VersionRow.run_link,
            VersionRow.signature["feature_service"].as_string().label("feature_service"),
            VersionAnnotationRow.description,
            VersionAnnotationRow.stage,
            VersionAnnotationRow.update_time,
            ModelRow.name.label("model"),
            ModelRow.archive_time,
            RunRow.name.label("run"),
            _OriginModel.name.label("origin_model"),
            _Origin.number.label("origin_number"),
            exists().where(FileRow.version_id == VersionRow.id).label("has_files"),
        )
        .join(VersionAnnotationRow, VersionAnnotationRow.version_id == VersionRow.id)
        .join(ModelRow, ModelRow.id == VersionRow.model_id)
        .outerjoin(RunRow, RunRow.id == VersionRow.run_id)
        .outerjoin(_Origin, _Origin.id == VersionRow.copied_from_id)
        .outerjoin(_OriginModel, _OriginModel.id == _Origin.model_id)
    )


_SELECT = _select()


def _summary(row: Any, tags: Mapping[str, str], aliases: tuple[str, ...]) -> VersionSummary:
    origin = None if row.origin_number is None else VersionRef(row.origin_model, row.origin_number)
    return VersionSummary(
        id=row.id,
        model_id=row.model_id,
        ref=VersionRef(row.model, row.number),
        model_archive_time=row.archive_time,
        state=VersionState(row.state),
        stage=row.stage,
        description=row.description,
        tags=tags,
        aliases=aliases,
        run=row.run or "",
        external_run=row.external_run,
        run_link=row.run_link,
        source=row.source,
        copied_from=origin,
        feature_service=row.feature_service or "",
        has_files=bool(row.has_files),
        actor=row.actor,
        create_time=row.create_time,
        update_time=row.update_time,
    )
