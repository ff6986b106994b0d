"""Deployments in SQL."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from sqlalchemy import Select, insert, select, update
from sqlalchemy.orm import Session

from plumbline.registry.errors import DeploymentNotFound
from registry_service.domain import Act, Deployment, ModelVersion, VersionRef
from registry_service.filtering.search import Hit, Search
from registry_service.repository.common import one_of
from registry_service.repository.pages import Finder
from registry_service.repository.targets import DEPLOYMENTS
from registry_service.tables import DeploymentRow, ModelRow, VersionRow


class SqlDeployments:
    """`ports_governance.DeploymentStore`."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def add(
        self,
        name: str,
        version: ModelVersion,
        *,
        environment: str,
        target: str,
        alias: str,
        attributes: Mapping[str, str],
        lease_expire_time: datetime | None,
        act: Act,
    ) -> Deployment:
        self._session.execute(
            insert(DeploymentRow).values(
                name=name,
                version_id=version.id,
                environment=environment,
                target=target,
                alias=alias,
                attributes=dict(attributes),
                start_time=act.time,
                lease_expire_time=lease_expire_time,
                end_reason="",
                actor=act.actor,
                revision=1,
            )
        )
        return self.get(name)

    def get(self, name: str) -> Deployment:
        return self._one(name, _deployments())

    def lock(self, name: str) -> Deployment:
        return self._one(name, _deployments().with_for_update(of=DeploymentRow))

    def model_id(self, deployment: Deployment) -> int:
        return self._session.scalars(
            select(VersionRow.model_id)
            .join(DeploymentRow, DeploymentRow.version_id == VersionRow.id)
            .where(DeploymentRow.id == deployment.id)
        ).one()

    def search(self, search: Search, limit: int) -> list[Hit[Deployment]]:
        places = Finder(self._session, DEPLOYMENTS).places(search, limit)
        ids = [place.id for place in places]
        statement = _deployments().where(one_of(self._session, DeploymentRow.id, ids))
        found = {
            row.id: to_deployment(row, VersionRef(model, number))
            for row, model, number in self._session.execute(statement)
        }
        return [Hit(found[place.id], place) for place in places]

    def renew(self, deployment: Deployment, lease_expire_time: datetime) -> Deployment:
        return self._change(deployment, lease_expire_time=lease_expire_time)

    def end(self, deployment: Deployment, reason: str, time: datetime) -> Deployment:
        # A clock set back must not let it end before it began.
        end = max(time, deployment.start_time)
        # Without a lease, so that those who look for leases that ran out do not meet it again.
        return self._change(deployment, end_reason=reason, end_time=end, lease_expire_time=None)

    def expired(self, moment: datetime, limit: int) -> list[str]:
        statement = (
            select(DeploymentRow.name)
            .where(DeploymentRow.lease_expire_time <= moment, DeploymentRow.end_time.is_(None))
            .order_by(DeploymentRow.lease_expire_time, DeploymentRow.id)
            .limit(limit)
        )
        return list(self._session.scalars(statement))

    def _change(self, deployment: Deployment, **values: Any) -> Deployment:
        self._session.execute(
            update(DeploymentRow)
            .where(DeploymentRow.id == deployment.id)
            .values(revision=DeploymentRow.revision + 1, **values)
            .execution_options(synchronize_session=False)
        )
        return self.get(deployment.name)

    def _one(self, name: str, statement: Select[DeploymentRow, str, int]) -> Deployment:
        found = self._session.execute(statement.where(DeploymentRow.name == name)).one_or_none()
        if found is None:
            name = f"deployments/{name}"
            raise DeploymentNotFound(f"there is no {name}", metadata={"deployment": name})
        row, model, number = found
        return to_deployment(row, VersionRef(model, number))


def to_deployment(row: DeploymentRow, version: VersionRef) -> Deployment:
    return Deployment(
        id=row.id,
        name=row.name,
        version=version,
        environment=row.environment,
        target=row.target,
        alias=row.alias,
        attributes=row.attributes,
        start_time=row.start_time,
        end_time=row.end_time,
        lease_expire_time=row.lease_expire_time,
        end_reason=row.end_reason,
        actor=row.actor,
        revision=row.revision,
    )


def _deployments() -> Select[DeploymentRow, str, int]:
    return (
        select(DeploymentRow, ModelRow.name, VersionRow.number)
        .join(VersionRow, VersionRow.id == DeploymentRow.version_id)
        .join(ModelRow, ModelRow.id == VersionRow.model_id)
    )
