"""Policies and approvals in SQL."""

from __future__ import annotations

import builtins

from sqlalchemy import Select, insert, select, update
from sqlalchemy.orm import Session

from registry_service.domain import Act, AliasRef, Model, ModelVersion
from registry_service.governance import Approval, Decision, Policy, Rules, from_document, to_document
from registry_service.tables import ApprovalRow, PolicyRow


class SqlPolicies:
    """`ports_governance.PolicyStore`."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def find(self, model: Model, alias: str) -> Policy | None:
        row = self._session.scalars(
            select(PolicyRow).where(PolicyRow.model_id == model.id, PolicyRow.alias == alias)
        ).one_or_none()
        return None if row is None else to_policy(row, model.name)

    def list(self, model: Model) -> builtins.list[Policy]:
        rows = self._session.scalars(
            select(PolicyRow)
            .where(PolicyRow.model_id == model.id, PolicyRow.rules.is_not(None))
            .order_by(PolicyRow.alias)
        )
        return [to_policy(row, model.name) for row in rows]

    def put(self, model: Model, ref: AliasRef, rules: Rules | None, description: str, act: Act) -> Policy:
        values = {
            "rules": None if rules is None else to_document(rules),
            "description": description,
            "actor": act.actor,
            "update_time": act.time,
        }
        changed = self._session.execute(
            update(PolicyRow)
            .where(PolicyRow.model_id == model.id, PolicyRow.alias == ref.alias)
            .values(revision=PolicyRow.revision + 1, **values)
            .returning(PolicyRow.id)
            .execution_options(synchronize_session=False)
        ).first()
        if changed is None:
            self._session.execute(
                insert(PolicyRow).values(model_id=model.id, alias=ref.alias, revision=1, **values)
            )
        row = self._session.scalars(
            select(PolicyRow).where(PolicyRow.model_id == model.id, PolicyRow.alias == ref.alias)
        ).one()
        return to_policy(row, model.name)


class SqlApprovals:
    """`ports_governance.ApprovalStore`."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def add(
        self, version: ModelVersion, decision: Decision, *, alias: str, comment: str, act: Act
    ) -> Approval:
        approval_id = self._session.execute(
            insert(ApprovalRow)
            .values(
                version_id=version.id,
                decision=decision,
                alias=alias,
                comment=comment,
                actor=act.actor,
                create_time=act.time,
            )
            .returning(ApprovalRow.id)
        ).scalar_one()
        return Approval(approval_id, decision, alias, comment, act.actor, act.time)

    def of(self, version: ModelVersion) -> builtins.list[Approval]:
        return self._approvals(_of(version).order_by(ApprovalRow.id))

    def list(self, version: ModelVersion, *, before: int | None, limit: int) -> builtins.list[Approval]:
        statement = _of(version).order_by(ApprovalRow.id.desc()).limit(limit)
        if before is not None:
            statement = statement.where(ApprovalRow.id < before)
        return self._approvals(statement)

    def _approvals(self, statement: Select[ApprovalRow]) -> builtins.list[Approval]:
        return [to_approval(row) for row in self._session.scalars(statement)]


def to_policy(row: PolicyRow, model: str) -> Policy:
    """model: its present name."""
    return Policy(
        id=row.id,
        model_id=row.model_id,
        ref=AliasRef(model, row.alias),
        rules=None if row.rules is None else from_document(row.rules),
        description=row.description,
        revision=row.revision,
        actor=row.actor,
        update_time=row.update_time,
    )


def to_approval(row: ApprovalRow) -> Approval:
    decision = Decision(row.decision)
    return Approval(row.id, decision, row.alias, row.comment, row.actor, row.create_time)


def _of(version: ModelVersion) -> Select[ApprovalRow]:
    return select(ApprovalRow).where(ApprovalRow.version_id == version.id)
