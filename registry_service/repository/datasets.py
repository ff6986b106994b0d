"""Dataset snapshots and feature definitions in SQL."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import asdict, replace

from sqlalchemy import select
from sqlalchemy.orm import Session

from plumbline.registry.errors import DatasetNotFound
from registry_service.domain import Act, Dataset, DefinitionRef, FeatureDefinition
from registry_service.filtering.search import Hit, Search
from registry_service.repository.common import insert_or_ignore, one_of
from registry_service.repository.pages import Finder
from registry_service.repository.targets import DATASETS
from registry_service.repository.version_rows import to_fields
from registry_service.tables import (
    DatasetRow,
    DatasetViewRow,
    FeatureServiceMemberRow,
    FeatureServiceRow,
    FeatureSpecRow,
    FeatureViewRow,
)


class SqlDatasets:
    """`ports.DatasetStore`."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def add(self, dataset: Dataset, act: Act) -> tuple[Dataset, bool]:
        # In one order everywhere, so that two transactions recording the same views never deadlock.
        views = {ref: self._definition(FeatureViewRow, ref) for ref in sorted(dataset.feature_views, key=str)}
        service_id = (
            None
            if dataset.feature_service is None
            else self._definition(FeatureServiceRow, dataset.feature_service)
        )
        row = {
            "digest": dataset.digest,
            "display_name": dataset.display_name,
            "row_count": dataset.row_count,
            "schema": [asdict(field) for field in dataset.schema],
            "as_of_start": dataset.as_of_start,
            "as_of_end": dataset.as_of_end,
            "feature_service_id": service_id,
            "entity_digest": dataset.entity_digest,
            "uri": dataset.uri,
            "create_time": act.time,
            "actor": act.actor,
            "recipe": dataset.recipe,
        }
        specs = [{"digest": item.ref.digest, "spec": item.spec} for item in dataset.feature_definitions]
        insert_or_ignore(self._session, FeatureSpecRow, specs)
        if not insert_or_ignore(self._session, DatasetRow, [row]):
            return self.get(dataset.digest), False
        dataset_id = self._session.scalars(
            select(DatasetRow.id).where(DatasetRow.digest == dataset.digest)
        ).one()
        links = [
            {"dataset_id": dataset_id, "view_id": views[ref], "position": position}
            for position, ref in enumerate(dataset.feature_views)
        ]
        insert_or_ignore(self._session, DatasetViewRow, links)
        if service_id is not None:
            members = [{"service_id": service_id, "view_id": view_id} for view_id in views.values()]
            insert_or_ignore(self._session, FeatureServiceMemberRow, members)
        return self.get(dataset.digest), True

    def unknown_definitions(self, definitions: Sequence[FeatureDefinition]) -> list[FeatureDefinition]:
        given = {item.ref.digest: item for item in reversed(definitions)}
        known = self._session.scalars(select(FeatureSpecRow.digest).where(FeatureSpecRow.digest.in_(given)))
        for digest in known:
            del given[digest]
        return sorted(given.values(), key=lambda item: item.ref.digest)

    def get(self, digest: str) -> Dataset:
        dataset = self.get_all([digest])[0]
        services = () if dataset.feature_service is None else (dataset.feature_service,)
        refs = [*services, *dataset.feature_views]
        specs = dict(
            self._session.execute(
                select(FeatureSpecRow.digest, FeatureSpecRow.spec).where(
                    FeatureSpecRow.digest.in_([ref.digest for ref in refs])
                )
            ).all()
        )
        found = tuple(FeatureDefinition(ref, specs[ref.digest]) for ref in refs if ref.digest in specs)
        return replace(dataset, feature_definitions=found)

    def get_all(self, digests: Sequence[str]) -> list[Dataset]:
        rows = self._session.scalars(select(DatasetRow).where(DatasetRow.digest.in_(digests))).all()
        found = {dataset.digest: dataset for dataset in self._datasets(rows)}
        for digest in digests:
            if digest not in found:
                raise DatasetNotFound(
                    f"there is no dataset {digest!r}; record it first", metadata={"dataset": digest}
                )
        return [found[digest] for digest in digests]

    def search(self, search: Search, limit: int) -> list[Hit[Dataset]]:
        places = Finder(self._session, DATASETS).places(search, limit)
        ids = [place.id for place in places]
        rows = self._session.scalars(
            select(DatasetRow).where(one_of(self._session, DatasetRow.id, ids))
        ).all()
        found = {dataset.id: dataset for dataset in self._datasets(rows)}
        return [Hit(found[place.id], place) for place in places]

    def _definition(self, table: type[FeatureServiceRow | FeatureViewRow], ref: DefinitionRef) -> int:
        insert_or_ignore(self._session, table, [asdict(ref)])
        return self._session.scalars(
            select(table.id).where(
                table.project == ref.project, table.name == ref.name, table.digest == ref.digest
            )
        ).one()

    def _datasets(self, rows: Sequence[DatasetRow]) -> list[Dataset]:
        views: defaultdict[int, list[DefinitionRef]] = defaultdict(list)
        linked = (
            select(DatasetViewRow.dataset_id, FeatureViewRow)
            .join(FeatureViewRow, FeatureViewRow.id == DatasetViewRow.view_id)
            .where(DatasetViewRow.dataset_id.in_([row.id for row in rows]))
            .order_by(DatasetViewRow.position)
        )
        for dataset_id, view in self._session.execute(linked):
            views[dataset_id].append(_ref(view))
        services = {
            service.id: _ref(service)
            for service in self._session.scalars(
                select(FeatureServiceRow).where(
                    FeatureServiceRow.id.in_([row.feature_service_id for row in rows])
                )
            )
        }
        return [
            Dataset(
                digest=row.digest,
                display_name=row.display_name,
                row_count=row.row_count,
                schema=to_fields(row.schema),
                as_of_start=row.as_of_start,
                as_of_end=row.as_of_end,
                feature_service=services.get(row.feature_service_id or 0),
                feature_views=tuple(views[row.id]),
                entity_digest=row.entity_digest,
                uri=row.uri,
                id=row.id,
                create_time=row.create_time,
                actor=row.actor,
                recipe=row.recipe,
            )
            for row in rows
        ]


def _ref(row: FeatureServiceRow | FeatureViewRow) -> DefinitionRef:
    return DefinitionRef(row.project, row.name, row.digest)
