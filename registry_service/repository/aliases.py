"""Aliases and their history in SQL."""

from __future__ import annotations

import builtins
from datetime import datetime

from sqlalchemy import select
from sqlalchemy.orm import Session, aliased

from plumbline.registry.errors import AliasNotFound, ModelNotFound
from registry_service.domain import Act, Alias, AliasEvent, AliasRef, Model, ModelVersion, VersionRef
from registry_service.repository.models import protecting, to_alias
from registry_service.tables import AliasEventRow, AliasRow, ModelRow, VersionRow

_From = aliased(VersionRow)
_To = aliased(VersionRow)


class SqlAliases:
    """`ports.AliasStore`."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def get(self, ref: AliasRef) -> Alias:
        found = self._session.execute(
            select(AliasRow, VersionRow.number, protecting())
            .join(ModelRow, ModelRow.id == AliasRow.model_id)
            .join(VersionRow, VersionRow.id == AliasRow.version_id)
            .where(ModelRow.name == ref.model, AliasRow.name == ref.alias)
        ).one_or_none()
        if found is None:
            raise self._missing(ref, "")
        row, number, policy = found
        return to_alias(row, ref.model, number, policy)

    def at(self, ref: AliasRef, moment: datetime) -> Alias:
        found = self._session.execute(
            select(AliasEventRow, VersionRow.number)
            .join(AliasRow, AliasRow.id == AliasEventRow.alias_id)
            .join(ModelRow, ModelRow.id == AliasRow.model_id)
            .outerjoin(VersionRow, VersionRow.id == AliasEventRow.to_version_id)
            .where(ModelRow.name == ref.model, AliasRow.name == ref.alias, AliasEventRow.time <= moment)
            .order_by(AliasEventRow.time.desc(), AliasEventRow.revision.desc())
            .limit(1)
        ).one_or_none()
        if found is None or found[1] is None:
            raise self._missing(ref, f" at {moment.isoformat()}")
        row, number = found
        return Alias(
            ref=ref,
            version=VersionRef(ref.model, number),
            revision=row.revision,
            actor=row.actor,
            reason=row.reason,
            update_time=row.time,
            id=row.alias_id,
        )

    def move(
        self,
        model: Model,
        ref: AliasRef,
        version: ModelVersion | None,
        *,
        act: Act,
        reason: str,
        restored_revision: int | None = None,
    ) -> AliasEvent:
        row = self._session.scalars(
            select(AliasRow)
            .where(AliasRow.model_id == model.id, AliasRow.name == ref.alias)
            .with_for_update()
        ).one_or_none()
        if row is None:
            row = AliasRow(model_id=model.id, name=ref.alias, revision=0, update_time=act.time)
            self._session.add(row)
        before = row.version_id
        # A clock set back must not reorder the history.
        time = max(act.time, row.update_time)
        row.version_id = None if version is None else version.id
        row.revision += 1
        row.actor, row.reason, row.update_time = act.actor, reason, time
        self._session.flush()
        event = AliasEventRow(
            model_id=model.id,
            alias_id=row.id,
            revision=row.revision,
            from_version_id=before,
            to_version_id=row.version_id,
            actor=act.actor,
            reason=reason,
            time=time,
            restored_revision=restored_revision,
        )
        self._session.add(event)
        self._session.flush()
        return self.history(model, ref.alias, before=event.id + 1, limit=1)[0]

    def history(
        self, model: Model, alias: str | None, *, before: int | None, limit: int
    ) -> builtins.list[AliasEvent]:
        statement = (
            select(AliasEventRow, AliasRow.name, _From.number, _To.number)
            .join(AliasRow, AliasRow.id == AliasEventRow.alias_id)
            .outerjoin(_From, _From.id == AliasEventRow.from_version_id)
            .outerjoin(_To, _To.id == AliasEventRow.to_version_id)
            .where(AliasEventRow.model_id == model.id)
            .order_by(AliasEventRow.id.desc())
            .limit(limit)
        )
        if alias is not None:
            statement = statement.where(AliasRow.name == alias)
        if before is not None:
            statement = statement.where(AliasEventRow.id < before)
        return [
            AliasEvent(
                sequence=row.id,
                alias_id=row.alias_id,
                ref=AliasRef(model.name, name),
                revision=row.revision,
                from_version=_version(model, from_number),
                to_version=_version(model, to_number),
                actor=row.actor,
                reason=row.reason,
                time=row.time,
                restored_revision=row.restored_revision,
            )
            for row, name, from_number, to_number in self._session.execute(statement)
        ]

    def _missing(self, ref: AliasRef, when: str) -> ModelNotFound | AliasNotFound:
        known = self._session.scalar(select(ModelRow.id).where(ModelRow.name == ref.model))
        if known is None:
            return ModelNotFound(f"there is no model {ref.model!r}", metadata={"model": ref.model})
        return AliasNotFound(
            f"model {ref.model!r} has no alias {ref.alias!r}{when}",
            metadata={"model": ref.model, "alias": ref.alias},
        )


def _version(model: Model, number: int | None) -> VersionRef | None:
    """Of a number from an outer join."""
    return None if number is None else VersionRef(model.name, number)
