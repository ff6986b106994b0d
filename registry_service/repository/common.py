"""What the stores share."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Any, TypeVar

from sqlalchemy import (
    ARRAY,
    BigInteger,
    ColumnElement,
    Integer,
    Text,
    any_,
    bindparam,
    func,
    literal,
    select,
)
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.orm import Session

from registry_service.tables import Base

T = TypeVar("T")

# SQLite takes 32,766 parameters in a statement, PostgreSQL 65,535.
_MOST_PARAMETERS = 10_000


def insert_or_ignore(session: Session, table: type[Base], rows: Sequence[Mapping[str, Any]]) -> int:
    """Inserts the rows whose keys are new; returns how many. Waits for other transactions that are
    inserting the same key."""
    if not rows:
        return 0
    insert = sqlite.insert if session.get_bind().dialect.name == "sqlite" else postgresql.insert
    # RETURNING, because the drivers disagree on the row count of an insert that was ignored.
    statement = insert(table).on_conflict_do_nothing().returning(literal(1))
    return sum(session.execute(statement.values(**row)).first() is not None for row in rows)


def one_of(session: Session, column: Any, ids: Sequence[int]) -> ColumnElement[bool]:
    """Whether a column holds one of these ids, of which there may be very many: they are one parameter."""
    found: ColumnElement[bool]
    if session.get_bind().dialect.name == "sqlite":
        each = func.json_each(json.dumps(ids)).table_valued("value")
        found = column.in_(select(each.c.value))
    else:
        found = column == func.any(literal(ids, ARRAY(BigInteger)))
    return found


def chunks(items: Iterable[T]) -> Iterator[list[T]]:
    """Lists short enough for the parameters of one statement."""
    rest = iter(items)
    while part := list(islice(rest, _MOST_PARAMETERS)):
        yield part


def among(dialect: str, column: Any, parameter: str) -> ColumnElement[bool]:
    """That a column is one of the ids in a parameter, which `as_list` makes: one parameter however many they
    are, so that one statement serves every list."""
    if dialect == "sqlite":
        values = func.json_each(bindparam(parameter, type_=Text())).table_valued("value")
        return column.in_(select(values.c.value.cast(Integer)))  # type: ignore[no-any-return]
    return column == any_(bindparam(parameter, type_=postgresql.ARRAY(BigInteger())))  # type: ignore[no-any-return]


def as_list(dialect: str, ids: Sequence[int]) -> Any:
    """The value of a parameter of `among`."""
    return json.dumps(ids) if dialect == "sqlite" else ids
