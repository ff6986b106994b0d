"""Where rows contradict one another: what several of them say, and what nothing else vouches for."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from sqlalchemy import ColumnElement, Select, and_, func, not_, or_, select
from sqlalchemy.orm import Session, aliased

from registry_service.events import Kind
from registry_service.tables import (
    AliasEventRow,
    AliasRow,
    AuditEventRow,
    CodeRow,
    DatasetRow,
    DatasetViewRow,
    EnvironmentRow,
    FeatureServiceMemberRow,
    FeatureServiceRow,
    FeatureViewRow,
    ModelRow,
    RunBaseRow,
    RunDatasetRow,
    RunRow,
    VersionAnnotationRow,
    VersionDatasetRow,
    VersionRow,
)

_Ids = Sequence[int]
#: A statement that finds the ids of records, and what is wrong with them.
_Question = tuple[Callable[[_Ids], Select[Any]], str]


def disagreements(session: Session, kind: Kind, ids: _Ids) -> list[tuple[int, str]]:
    """Ids of these records and what is wrong, for people."""
    return [
        (row_id, problem)
        for question, problem in _QUESTIONS.get(kind, ())
        for row_id in session.scalars(question(ids))
    ]


def unexplained_moves(session: Session, alias_ids: _Ids, before: int) -> list[tuple[int, int, int]]:
    """Aliases whose history, behind row `before`, has another number of moves than there are events."""
    moves = dict(
        session.execute(
            select(AliasEventRow.alias_id, func.count())
            .where(AliasEventRow.alias_id.in_(alias_ids), AliasEventRow.id > before)
            .group_by(AliasEventRow.alias_id)
        ).all()
    )
    events = dict(
        session.execute(
            select(AuditEventRow.node_id, func.count())
            .where(AuditEventRow.kind == Kind.ALIAS.value, AuditEventRow.node_id.in_(alias_ids))
            .group_by(AuditEventRow.node_id)
        ).all()
    )
    return [(i, moves.get(i, 0), events.get(i, 0)) for i in alias_ids if moves.get(i, 0) != events.get(i, 0)]


def strays(session: Session, limit: int) -> list[tuple[str, str]]:
    """Rows no record refers to: resource, and what is wrong, for people."""
    return [
        (name.format(*row), problem)
        for statement, name, problem in _STRAYS
        for row in session.execute(statement.limit(limit))
    ]


def _miscounted(ids: _Ids) -> Select[Any]:
    numbers = (
        select(func.count(VersionRow.id), func.coalesce(func.max(VersionRow.number), 0))
        .where(VersionRow.model_id == ModelRow.id)
        .correlate(ModelRow)
    )
    count = numbers.with_only_columns(func.count(VersionRow.id)).scalar_subquery()
    most = numbers.with_only_columns(func.coalesce(func.max(VersionRow.number), 0)).scalar_subquery()
    return select(ModelRow.id).where(
        ModelRow.id.in_(ids), or_(ModelRow.latest_version != count, ModelRow.latest_version != most)
    )


def _misfiled_notes(ids: _Ids) -> Select[Any]:
    return (
        select(VersionRow.id)
        .join(VersionAnnotationRow, VersionAnnotationRow.version_id == VersionRow.id)
        .where(VersionRow.id.in_(ids), VersionAnnotationRow.model_id != VersionRow.model_id)
    )


def _displaced(owner: Any, position: Any) -> Callable[[_Ids], Select[Any]]:
    """Owners of links that are not numbered 0, 1, 2 …"""

    def question(ids: _Ids) -> Select[Any]:
        return (
            select(owner)
            .where(owner.in_(ids))
            .group_by(owner)
            .having(or_(func.min(position) != 0, func.max(position) != func.count() - 1))
        )

    return question


def _moved_otherwise(ids: _Ids) -> Select[Any]:
    """Aliases that are not as their last move left them."""
    last = aliased(AliasEventRow)
    same = and_(
        last.alias_id == AliasRow.id,
        last.revision == AliasRow.revision,
        last.model_id == AliasRow.model_id,
        last.to_version_id.is_not_distinct_from(AliasRow.version_id),
        last.actor == AliasRow.actor,
        last.reason == AliasRow.reason,
        last.time == AliasRow.update_time,
    )
    return select(AliasRow.id).where(AliasRow.id.in_(ids), not_(select(last.id).where(same).exists()))


def _gaps(ids: _Ids) -> Select[Any]:
    """Aliases whose moves are not numbered 1, 2, 3 …, or begin where no other ended."""
    earlier = aliased(AliasEventRow)
    follows = and_(
        earlier.alias_id == AliasEventRow.alias_id,
        earlier.revision == AliasEventRow.revision - 1,
        earlier.to_version_id.is_not_distinct_from(AliasEventRow.from_version_id),
    )
    first = and_(AliasEventRow.revision == 1, AliasEventRow.from_version_id.is_(None))
    return (
        select(AliasEventRow.alias_id)
        .where(AliasEventRow.alias_id.in_(ids), not_(first), not_(select(earlier.id).where(follows).exists()))
        .distinct()
    )


def _codeless(ids: _Ids) -> Select[Any]:
    return select(RunRow.id).where(
        RunRow.id.in_(ids),
        RunRow.has_code.is_(False),
        or_(RunRow.code_id.is_not(None), RunRow.code_repository != "", RunRow.code_dirty.is_(True)),
    )


def _elsewhere(ids: _Ids) -> Select[Any]:
    return (
        select(RunRow.id)
        .join(EnvironmentRow, EnvironmentRow.id == RunRow.environment_id)
        .where(RunRow.id.in_(ids), EnvironmentRow.digest != RunRow.environment_digest)
    )


def _not_a_member(ids: _Ids) -> Select[Any]:
    return (
        select(DatasetRow.id)
        .join(DatasetViewRow, DatasetViewRow.dataset_id == DatasetRow.id)
        .where(
            DatasetRow.id.in_(ids),
            DatasetRow.feature_service_id.is_not(None),
            not_(
                select(FeatureServiceMemberRow.view_id)
                .where(
                    FeatureServiceMemberRow.service_id == DatasetRow.feature_service_id,
                    FeatureServiceMemberRow.view_id == DatasetViewRow.view_id,
                )
                .exists()
            ),
        )
        .distinct()
    )


def _dangling(record: Any, reference: Any, referred: Any) -> Callable[[_Ids], Select[Any]]:
    """Records that refer to a row that is not there, which reads as if they referred to none."""

    def question(ids: _Ids) -> Select[Any]:
        there = aliased(referred)
        missing = not_(select(there.id).where(there.id == reference).exists())
        return select(record).where(record.in_(ids), reference.is_not(None), missing)

    return question


_LINKS = "its links are not numbered one after the other"
_DANGLING = "it refers to a record that is not there"
_QUESTIONS: Mapping[Kind, Sequence[_Question]] = {
    Kind.MODEL: ((_miscounted, "its latest version is not the number of the last of its versions"),),
    Kind.VERSION: (
        (_dangling(VersionRow.id, VersionRow.run_id, RunRow), _DANGLING),
        (_misfiled_notes, "its notes are filed under another model"),
        (_displaced(VersionDatasetRow.version_id, VersionDatasetRow.position), _LINKS),
    ),
    Kind.ALIAS: (
        (_moved_otherwise, "it is not as the last move of its history left it"),
        (_gaps, "its history has gaps"),
    ),
    Kind.RUN: (
        (_dangling(RunRow.id, RunRow.parent_id, RunRow), _DANGLING),
        (_dangling(RunRow.id, RunRow.code_id, CodeRow), _DANGLING),
        (_dangling(RunRow.id, RunRow.environment_id, EnvironmentRow), _DANGLING),
        (_codeless, "it has no code, and facts about code"),
        (_elsewhere, "its environment is filed under another digest"),
        (_displaced(RunDatasetRow.run_id, RunDatasetRow.position), _LINKS),
        (_displaced(RunBaseRow.run_id, RunBaseRow.position), _LINKS),
    ),
    Kind.DATASET: (
        (_dangling(DatasetRow.id, DatasetRow.feature_service_id, FeatureServiceRow), _DANGLING),
        (_not_a_member, "views it was read through are missing among those of its feature service"),
        (_displaced(DatasetViewRow.dataset_id, DatasetViewRow.position), _LINKS),
    ),
}


def _unused(condition: ColumnElement[bool]) -> ColumnElement[bool]:
    return not_(select(1).where(condition).exists())


_UNUSED = "no record refers to it"
_First = aliased(RunRow)
_STRAYS: tuple[tuple[Any, str, str], ...] = (
    (
        select(CodeRow.commit_id).where(
            # The first run that named a commit said where it is kept.
            CodeRow.repository.is_distinct_from(
                select(_First.code_repository)
                .where(_First.code_id == CodeRow.id)
                .order_by(_First.id)
                .limit(1)
                .correlate(CodeRow)
                .scalar_subquery()
            )
        ),
        "codeRevisions/{}",
        "no run tells of it, or another repository than the first run that did",
    ),
    (
        select(EnvironmentRow.digest).where(_unused(RunRow.environment_id == EnvironmentRow.id)),
        "environments/{}",
        _UNUSED,
    ),
    (
        select(FeatureViewRow.project, FeatureViewRow.name, FeatureViewRow.digest).where(
            _unused(DatasetViewRow.view_id == FeatureViewRow.id)
        ),
        "featureViews/{}/{}@{}",
        _UNUSED,
    ),
    (
        select(FeatureServiceRow.project, FeatureServiceRow.name, FeatureServiceRow.digest).where(
            _unused(DatasetRow.feature_service_id == FeatureServiceRow.id)
        ),
        "featureServices/{}/{}@{}",
        _UNUSED,
    ),
    (
        select(FeatureServiceRow.project, FeatureServiceRow.name, FeatureServiceRow.digest)
        .join(FeatureServiceMemberRow, FeatureServiceMemberRow.service_id == FeatureServiceRow.id)
        .where(
            _unused(
                and_(
                    DatasetRow.feature_service_id == FeatureServiceMemberRow.service_id,
                    DatasetViewRow.dataset_id == DatasetRow.id,
                    DatasetViewRow.view_id == FeatureServiceMemberRow.view_id,
                )
            )
        ),
        "featureServices/{}/{}@{}",
        "it has a view that no dataset was read through",
    ),
)
