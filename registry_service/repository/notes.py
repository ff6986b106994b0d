"""Tags and last metrics, kept as rows so that they can be searched."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from functools import lru_cache

from sqlalchemy import Executable, delete, insert, select, update
from sqlalchemy.orm import InstrumentedAttribute, Session

from registry_service.repository.common import among, as_list
from registry_service.tables import ModelTagRow, VersionMetricRow, VersionTagRow

_Tags = type[ModelTagRow] | type[VersionTagRow]


def read_tags(
    session: Session, table: _Tags, owner: InstrumentedAttribute[int], ids: Sequence[int]
) -> defaultdict[int, dict[str, str]]:
    """Tags by owner, in the order of their keys."""
    found: defaultdict[int, dict[str, str]] = defaultdict(dict)
    connection = session.connection()
    dialect = connection.dialect.name
    statement = _tags_of(table, owner.key, dialect)
    for owner_id, key, value in connection.execute(statement, {"ids": as_list(dialect, ids)}):
        found[owner_id][key] = value
    return found


@lru_cache
def _tags_of(table: _Tags, owner_name: str, dialect: str) -> Executable:
    owner: InstrumentedAttribute[int] = getattr(table, owner_name)
    return (
        select(owner, table.key, table.value).where(among(dialect, owner, "ids")).order_by(owner, table.key)
    )


def write_tags(
    session: Session,
    table: _Tags,
    owner: InstrumentedAttribute[int],
    owner_id: int,
    before: Mapping[str, str],
    after: Mapping[str, str],
) -> None:
    """Makes the owner's tags those of `after`."""
    gone = [key for key in before if key not in after]
    if gone:
        session.execute(delete(table).where(owner == owner_id, table.key.in_(gone)))
    for key, value in after.items():
        if key not in before:
            session.execute(insert(table).values({owner.key: owner_id, "key": key, "value": value}))
        elif before[key] != value:
            session.execute(update(table).where(owner == owner_id, table.key == key).values(value=value))


def upsert_metric(session: Session, version_id: int, name: str, value: float) -> None:
    """The last value of a metric of a version."""
    of_version = VersionMetricRow.version_id == version_id
    changed = session.execute(
        update(VersionMetricRow)
        .where(of_version, VersionMetricRow.name == name)
        .values(value=value)
        .returning(VersionMetricRow.version_id)
        .execution_options(synchronize_session=False)
    ).first()
    if changed is None:
        session.execute(insert(VersionMetricRow).values(version_id=version_id, name=name, value=value))
