"""Training runs in SQL."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import func, insert, select, update
from sqlalchemy.orm import Session

from plumbline.registry.errors import RunNotFound
from registry_service.domain import (
    Act,
    CodeRevision,
    Dataset,
    Environment,
    ModelVersion,
    RunState,
    TrainingRun,
    VersionRef,
)
from registry_service.filtering.search import Hit, Search
from registry_service.repository.common import insert_or_ignore, one_of
from registry_service.repository.pages import Finder
from registry_service.repository.targets import RUNS
from registry_service.tables import (
    CodeRow,
    DatasetRow,
    EnvironmentRow,
    ModelRow,
    RunBaseRow,
    RunDatasetRow,
    RunRow,
    VersionRow,
)


class SqlRuns:
    """`ports.RunStore`."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def add(
        self,
        name: str,
        *,
        display_name: str,
        parameters: Mapping[str, str],
        metrics: Mapping[str, float],
        tags: Mapping[str, str],
        seed: int,
        code: CodeRevision | None,
        environment_digest: str,
        datasets: Sequence[Dataset],
        act: Act,
        environment: Environment | None = None,
        config: str = "",
        parent: TrainingRun | None = None,
        base_versions: Sequence[ModelVersion] = (),
        lease_expire_time: datetime | None = None,
    ) -> TrainingRun:
        run_id = self._session.execute(
            insert(RunRow)
            .values(
                name=name,
                display_name=display_name,
                state=RunState.RUNNING,
                parameters=dict(parameters),
                metrics=dict(metrics),
                tags=dict(tags),
                seed=seed,
                code_id=self._code(code),
                has_code=code is not None,
                code_repository=code.repository if code else "",
                code_dirty=code.dirty if code else False,
                environment_digest=environment_digest,
                start_time=act.time,
                error="",
                actor=act.actor,
                revision=1,
                environment_id=self._environment(environment_digest, environment),
                config=config,
                parent_id=None if parent is None else parent.id,
                lease_expire_time=lease_expire_time,
            )
            .returning(RunRow.id)
        ).scalar_one()
        self._link(run_id, datasets)
        bases = [
            {"run_id": run_id, "version_id": version.id, "position": position}
            for position, version in enumerate(base_versions)
        ]
        insert_or_ignore(self._session, RunBaseRow, bases)
        return self.get(name)

    def get(self, name: str) -> TrainingRun:
        return self._one(name, self._session.scalars(select(RunRow).where(RunRow.name == name)).one_or_none())

    def lock(self, name: str) -> TrainingRun:
        statement = select(RunRow).where(RunRow.name == name).with_for_update()
        return self._one(name, self._session.scalars(statement).one_or_none())

    def search(self, search: Search, limit: int) -> list[Hit[TrainingRun]]:
        places = Finder(self._session, RUNS).places(search, limit)
        ids = [place.id for place in places]
        rows = self._session.scalars(select(RunRow).where(one_of(self._session, RunRow.id, ids))).all()
        found = {run.id: run for run in self._runs(rows)}
        return [Hit(found[place.id], place) for place in places]

    def log(
        self,
        run: TrainingRun,
        *,
        parameters: Mapping[str, str],
        metrics: Mapping[str, float],
        tags: Mapping[str, str],
        datasets: Sequence[Dataset],
    ) -> TrainingRun:
        self._change(run, parameters=dict(parameters), metrics=dict(metrics), tags=dict(tags))
        self._link(run.id, datasets)
        return self.get(run.name)

    def renew(self, run: TrainingRun, lease_expire_time: datetime | None) -> TrainingRun:
        self._change(run, lease_expire_time=lease_expire_time)
        return self.get(run.name)

    def expired(self, moment: datetime, limit: int) -> list[str]:
        statement = (
            select(RunRow.name)
            .where(RunRow.lease_expire_time <= moment, RunRow.state == RunState.RUNNING)
            .order_by(RunRow.lease_expire_time)
            .limit(limit)
        )
        return list(self._session.scalars(statement))

    def finish(self, run: TrainingRun, state: RunState, error: str, time: datetime) -> TrainingRun:
        end = max(time, run.start_time)
        # Without a lease, so that those who look for leases that ran out do not meet it again.
        self._change(run, state=state, error=error, end_time=end, lease_expire_time=None)
        return self.get(run.name)

    def _change(self, run: TrainingRun, **values: Any) -> None:
        self._session.execute(
            update(RunRow)
            .where(RunRow.id == run.id)
            .values(revision=RunRow.revision + 1, **values)
            .execution_options(synchronize_session=False)
        )

    def _code(self, code: CodeRevision | None) -> int | None:
        if code is None or not code.commit:
            return None
        row = {"commit_id": code.commit, "repository": code.repository}
        insert_or_ignore(self._session, CodeRow, [row])
        return self._session.scalars(select(CodeRow.id).where(CodeRow.commit_id == code.commit)).one()

    def _environment(self, digest: str, environment: Environment | None) -> int | None:
        if environment is None:
            return None
        row = {
            "digest": digest,
            "python_version": environment.python_version,
            "platform": environment.platform,
            "packages": list(environment.packages),
        }
        insert_or_ignore(self._session, EnvironmentRow, [row])
        return self._session.scalars(
            select(EnvironmentRow.id).where(
                EnvironmentRow.digest == digest,
                EnvironmentRow.python_version == environment.python_version,
                EnvironmentRow.platform == environment.platform,
            )
        ).one()

    def _link(self, run_id: int, datasets: Sequence[Dataset]) -> None:
        taken = self._session.scalar(
            select(func.count()).select_from(RunDatasetRow).where(RunDatasetRow.run_id == run_id)
        )
        links = [
            {"run_id": run_id, "dataset_id": dataset.id, "position": (taken or 0) + position}
            for position, dataset in enumerate(datasets)
        ]
        insert_or_ignore(self._session, RunDatasetRow, links)

    def _one(self, name: str, row: RunRow | None) -> TrainingRun:
        if row is None:
            raise RunNotFound(f"there is no run {name!r}", metadata={"run": name})
        return self._runs([row])[0]

    def _runs(self, rows: Sequence[RunRow]) -> list[TrainingRun]:
        datasets: defaultdict[int, list[str]] = defaultdict(list)
        links = (
            select(RunDatasetRow.run_id, DatasetRow.digest)
            .join(DatasetRow, DatasetRow.id == RunDatasetRow.dataset_id)
            .where(RunDatasetRow.run_id.in_([row.id for row in rows]))
            .order_by(RunDatasetRow.position)
        )
        for run_id, digest in self._session.execute(links):
            datasets[run_id].append(digest)
        codes = select(CodeRow.id, CodeRow.commit_id).where(
            CodeRow.id.in_([row.code_id for row in rows if row.code_id is not None])
        )
        commits = dict(self._session.execute(codes).all())
        environments = self._environments(rows)
        parents, bases = self._parents(rows), self._bases(rows)
        return [
            TrainingRun(
                id=row.id,
                name=row.name,
                display_name=row.display_name,
                state=RunState(row.state),
                parameters=row.parameters,
                metrics={name: float(value) for name, value in row.metrics.items()},
                tags=row.tags,
                seed=row.seed,
                code=CodeRevision(row.code_repository, commits.get(row.code_id or 0, ""), row.code_dirty)
                if row.has_code
                else None,
                environment_digest=row.environment_digest,
                datasets=tuple(datasets[row.id]),
                start_time=row.start_time,
                end_time=row.end_time,
                error=row.error,
                actor=row.actor,
                revision=row.revision,
                environment=environments.get(row.environment_id or 0),
                config=row.config,
                parent=parents.get(row.parent_id or 0, ""),
                base_versions=tuple(ref for _, ref in bases[row.id]),
                base_version_ids=tuple(version_id for version_id, _ in bases[row.id]),
                lease_expire_time=row.lease_expire_time,
            )
            for row in rows
        ]

    def _environments(self, rows: Sequence[RunRow]) -> dict[int, Environment]:
        ids = {row.environment_id for row in rows} - {None}
        if not ids:
            return {}
        found = self._session.scalars(select(EnvironmentRow).where(EnvironmentRow.id.in_(ids)))
        return {
            item.id: Environment(item.python_version, item.platform, tuple(item.packages)) for item in found
        }

    def _parents(self, rows: Sequence[RunRow]) -> dict[int, str]:
        ids = {row.parent_id for row in rows} - {None}
        if not ids:
            return {}
        return dict(self._session.execute(select(RunRow.id, RunRow.name).where(RunRow.id.in_(ids))).all())

    def _bases(self, rows: Sequence[RunRow]) -> defaultdict[int, list[tuple[int, VersionRef]]]:
        found: defaultdict[int, list[tuple[int, VersionRef]]] = defaultdict(list)
        statement = (
            select(RunBaseRow.run_id, VersionRow.id, ModelRow.name, VersionRow.number)
            .join(VersionRow, VersionRow.id == RunBaseRow.version_id)
            .join(ModelRow, ModelRow.id == VersionRow.model_id)
            .where(RunBaseRow.run_id.in_([row.id for row in rows]))
            .order_by(RunBaseRow.position)
        )
        for run_id, version_id, model, number in self._session.execute(statement):
            found[run_id].append((version_id, VersionRef(model, number)))
        return found
