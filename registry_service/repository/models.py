"""Models in SQL."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from functools import lru_cache
from typing import Any

from sqlalchemy import Executable, ScalarSelect, bindparam, select, update
from sqlalchemy.orm import Session

from plumbline.registry.errors import ModelExists, ModelNotFound
from registry_service.domain import Alias, AliasRef, Model, VersionRef
from registry_service.filtering.search import Hit, Search
from registry_service.ports import Numbered
from registry_service.repository.common import among, as_list, insert_or_ignore, one_of
from registry_service.repository.notes import read_tags, write_tags
from registry_service.repository.pages import Finder
from registry_service.repository.targets import MODELS
from registry_service.tables import AliasRow, Base, ModelRow, ModelTagRow, PolicyRow, VersionRow

_BY_NAME = select(ModelRow).where(ModelRow.name == bindparam("name"))
_MODELS = Base.metadata.tables["registered_model"]
_TAKE_NUMBER = (
    update(_MODELS)
    .where(_MODELS.c.name == bindparam("model"))
    .values(
        latest_version=_MODELS.c.latest_version + 1,
        revision=_MODELS.c.revision + 1,
        update_time=bindparam("now"),
    )
    .returning(_MODELS.c.id, _MODELS.c.latest_version, _MODELS.c.archive_time)
)


_GET_ID = select(_MODELS.c.id).where(_MODELS.c.name == bindparam("model"))


class SqlModels:
    """`ports.ModelStore`."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def add(self, name: str, description: str, tags: Mapping[str, str], time: datetime) -> Model:
        row = {
            "name": name,
            "description": description,
            "latest_version": 0,
            "revision": 1,
            "create_time": time,
            "update_time": time,
        }
        if not insert_or_ignore(self._session, ModelRow, [row]):
            raise exists(name)
        model = self.get(name)
        if not tags:
            return model
        write_tags(self._session, ModelTagRow, ModelTagRow.model_id, model.id, {}, tags)
        return self.get(name)

    def get(self, name: str) -> Model:
        return self._one(self._session.scalars(_BY_NAME, {"name": name}).one_or_none(), name)

    def get_id(self, name: str) -> int:
        found = self._session.connection().scalar(_GET_ID, {"model": name})
        if found is None:
            raise ModelNotFound(f"there is no model {name!r}", metadata={"model": name})
        return int(found)

    def lock(self, name: str) -> Model:
        statement = select(ModelRow).where(ModelRow.name == name).with_for_update()
        return self._one(self._session.scalars(statement).one_or_none(), name)

    def search(self, search: Search, *, archived: bool, limit: int) -> list[Hit[Model]]:
        fixed = [] if archived else [ModelRow.archive_time.is_(None)]
        places = Finder(self._session, MODELS, fixed).places(search, limit)
        ids = [place.id for place in places]
        rows = self._session.scalars(select(ModelRow).where(one_of(self._session, ModelRow.id, ids))).all()
        found = {model.id: model for model in self._models(rows)}
        return [Hit(found[place.id], place) for place in places]

    def update(
        self,
        model: Model,
        *,
        description: str,
        tags: Mapping[str, str],
        archive_time: datetime | None,
        time: datetime,
        create_time: datetime | None = None,
    ) -> Model:
        self._session.execute(
            update(ModelRow)
            .where(ModelRow.id == model.id)
            .values(
                description=description,
                create_time=create_time or model.create_time,
                archive_time=archive_time,
                update_time=time,
                revision=ModelRow.revision + 1,
            )
            .execution_options(synchronize_session=False)
        )
        write_tags(self._session, ModelTagRow, ModelTagRow.model_id, model.id, dict(model.tags), tags)
        return self.get(model.name)

    def touch(self, model: Model, time: datetime) -> None:
        self._session.execute(
            update(ModelRow)
            .where(ModelRow.id == model.id)
            .values(update_time=time, revision=ModelRow.revision + 1)
            .execution_options(synchronize_session=False)
        )

    def rename(self, model: Model, name: str, time: datetime) -> Model:
        # Nobody else writes meanwhile: what is free now stays free.
        if self._session.scalar(select(ModelRow.id).where(ModelRow.name == name)) is not None:
            raise exists(name)
        self._session.execute(
            update(ModelRow)
            .where(ModelRow.id == model.id)
            .values(name=name, update_time=time, revision=ModelRow.revision + 1)
            .execution_options(synchronize_session=False)
        )
        return self.get(name)

    def next_number(self, name: str, time: datetime) -> Numbered:
        taken = self._session.connection().execute(_TAKE_NUMBER, {"model": name, "now": time}).first()
        if taken is None:
            raise ModelNotFound(f"there is no model {name!r}", metadata={"model": name})
        return Numbered(*taken)

    def _one(self, row: ModelRow | None, name: str) -> Model:
        if row is None:
            raise ModelNotFound(f"there is no model {name!r}", metadata={"model": name})
        return self._models([row])[0]

    def _models(self, rows: Sequence[ModelRow]) -> list[Model]:
        aliases: dict[int, list[Alias]] = {row.id: [] for row in rows}
        names = {row.id: row.name for row in rows}
        dialect = self._session.get_bind().dialect.name
        found = self._session.execute(_aliases_of(dialect), {"ids": as_list(dialect, list(names))})
        for alias, number, policy in found:
            aliases[alias.model_id].append(to_alias(alias, names[alias.model_id], number, policy))
        tags = read_tags(self._session, ModelTagRow, ModelTagRow.model_id, list(names))
        return [
            Model(
                id=row.id,
                name=row.name,
                description=row.description,
                tags=tags[row.id],
                create_time=row.create_time,
                update_time=row.update_time,
                archive_time=row.archive_time,
                latest_version=row.latest_version,
                revision=row.revision,
                aliases=tuple(aliases[row.id]),
            )
            for row in rows
        ]


@lru_cache
def _aliases_of(dialect: str) -> Executable:
    """The aliases of some models that point at a version, with its number and their policy."""
    return (
        select(AliasRow, VersionRow.number, protecting())
        .join(VersionRow, VersionRow.id == AliasRow.version_id)
        .where(among(dialect, AliasRow.model_id, "ids"))
        .order_by(AliasRow.name)
    )


def exists(name: str) -> ModelExists:
    """The error for a name that is taken, if only by an archived model."""
    return ModelExists(
        f"a model named {name!r} exists already; choose another name or use that one",
        metadata={"model": name},
    )


def protecting(alias: type[AliasRow] = AliasRow) -> ScalarSelect[Any]:
    """The promotion policy of an alias row, as a column: its id, null where there is none."""
    return (
        select(PolicyRow.id)
        .where(
            PolicyRow.model_id == alias.model_id, PolicyRow.alias == alias.name, PolicyRow.rules.is_not(None)
        )
        .correlate(alias)
        .scalar_subquery()
    )


def to_alias(row: AliasRow, model: str, number: int, policy: int | None) -> Alias:
    """An alias row that points at a version of the model. policy: the id of its promotion policy."""
    return Alias(
        ref=AliasRef(model, row.name),
        version=VersionRef(model, number),
        revision=row.revision,
        actor=row.actor,
        reason=row.reason,
        update_time=row.update_time,
        id=row.id,
        protected=policy is not None,
    )
