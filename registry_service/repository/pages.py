"""Pages of ordered, filtered lists by keyset: what is added meanwhile shifts and repeats nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import ColumnElement, Select, and_, exists, func, literal, not_, or_, select, tuple_
from sqlalchemy.orm import Session, aliased

from registry_service.filtering.ast import And, Comparison, Expression, Not, Order, comparisons
from registry_service.filtering.search import Place, Search
from registry_service.repository.conditions import Comparer, Condition
from registry_service.repository.sources import Attribute, Column, Rows, Source
from registry_service.tables import Base

# So many rows of an index are counted to find out whether it leads to few.
_MANY = 1_000


@dataclass(frozen=True)
class Target:
    """A table that lists are made of. fields: by their names in filters. joins: the tables whose columns
    fields name, and by what."""

    table: type[Base]
    id: Attribute
    fields: Mapping[str, Source]
    joins: Mapping[str, tuple[type[Base], Condition]] = field(default_factory=dict)


@dataclass(frozen=True)
class _Key:
    """What a list is sorted by."""

    column: ColumnElement[Any]
    descending: bool


class Finder:
    """Finds the pages of one list."""

    def __init__(self, session: Session, target: Target, fixed: Sequence[Condition] = ()) -> None:
        """fixed: holds for all of the list, whatever is searched."""
        self._session, self._target, self._fixed = session, target, tuple(fixed)
        self._compare = Comparer(session.get_bind().dialect.name, self._is_short)

    def places(self, search: Search, limit: int) -> list[Place]:
        """At most `limit` places behind `search.after`, in order.

        Things without a value of the first order come last; the other orders must be of fields that always
        have one.
        """
        first = search.orders[0] if search.orders else None
        source = None if first is None else self._target.fields[first.field]
        if first is None or not (
            isinstance(source, Rows) or (isinstance(source, Column) and source.nullable)
        ):
            return self._with_value(search, limit)
        found: list[Place] = []
        if search.after is None or search.after.values[0] is not None:
            found = self._with_value(search, limit)
        if len(found) < limit:
            found += self._without_value(search, source, first, limit - len(found))
        return found

    def _is_short(self, query: Select[Any]) -> bool:
        some = query.limit(_MANY).subquery()
        return self._session.execute(select(func.count()).select_from(some)).scalar_one() < _MANY

    def _with_value(self, search: Search, limit: int) -> list[Place]:
        statement = self._statement(search)
        keys: list[_Key] = []
        row_id: ColumnElement[int] = self._target.id
        for order in search.orders:
            source = self._target.fields[order.field]
            if isinstance(source, Rows):
                # The rows of this order, beside those the filter may look at.
                rows = aliased(source.value.class_)
                link, value = getattr(rows, source.link.key), getattr(rows, source.value.key)
                key = getattr(rows, _key_of(source))
                statement = statement.join(rows, and_(link == self._target.id, key == order.key))
                keys.append(_Key(value, order.descending))
            elif isinstance(source, Column):
                if source.nullable:
                    statement = statement.where(source.value.is_not(None))
                keys.append(_Key(source.value, order.descending))
            else:
                raise ValueError(f"{order.field} orders nothing")
        keys.append(_Key(row_id, keys[0].descending if keys else True))
        if search.after is not None:
            statement = statement.where(_beyond(keys, [*search.after.values, search.after.id]))
        return self._read(statement, keys, limit)

    def _without_value(self, search: Search, source: Source, order: Order, limit: int) -> list[Place]:
        statement = self._statement(search)
        if isinstance(source, Rows):
            has = exists().where(
                source.link == source.owner, source.value.class_.__table__.c[_key_of(source)] == order.key
            )
            statement = statement.where(not_(has))
        elif isinstance(source, Column):
            statement = statement.where(source.value.is_(None))
        keys = [_Key(self._target.id, order.descending)]
        after = search.after
        if after is not None and after.values[0] is None:
            statement = statement.where(_beyond(keys, [after.id]))
        return [Place((None,), place.id) for place in self._read(statement, keys, limit)]

    def _statement(self, search: Search) -> Select[Any]:
        statement: Select[Any] = select().select_from(self._target.table)
        for name in self._tables(search):
            table, condition = self._target.joins[name]
            statement = statement.join(table, condition)
        statement = statement.where(*self._fixed)
        if search.where is not None:
            statement = statement.where(*self._conjuncts(search.where))
        return statement

    def _tables(self, search: Search) -> list[str]:
        """The joins that fields of the search need."""
        names = [comparison.field for comparison in comparisons(search.where)] if search.where else []
        names += [order.field for order in search.orders]
        needed = {join for name in names for join in getattr(self._target.fields[name], "joins", ())}
        return [name for name in self._target.joins if name in needed]

    def _conjuncts(self, expression: Expression) -> list[Condition]:
        if isinstance(expression, And):
            return [condition for part in expression.parts for condition in self._conjuncts(part)]
        return [self._condition(expression)]

    def _condition(self, expression: Expression) -> Condition:
        if isinstance(expression, Comparison):
            return self._target.fields[expression.field].condition(expression, self._compare)
        if isinstance(expression, Not):
            return not_(self._condition(expression.part))
        join = and_ if isinstance(expression, And) else or_
        return join(*[self._condition(part) for part in expression.parts])

    def _read(self, statement: Select[Any], keys: Sequence[_Key], limit: int) -> list[Place]:
        ordered = [key.column.desc() if key.descending else key.column.asc() for key in keys]
        statement = statement.add_columns(*[key.column for key in keys]).order_by(*ordered).limit(limit)
        return [Place(tuple(row[:-1]), row[-1]) for row in self._session.execute(statement)]


def _beyond(keys: Sequence[_Key], values: Sequence[Any]) -> Condition:
    """Behind these values, in the order of the keys."""
    bound = [literal(value, key.column.type) for key, value in zip(keys, values, strict=True)]
    if len({key.descending for key in keys}) == 1:
        return _behind_all(keys, bound)
    ties = [key.column == value for key, value in zip(keys, bound, strict=True)]
    steps = [and_(*ties[:index], _past(keys[index], bound[index])) for index in range(len(keys))]
    # The first key alone bounds what an index has to look at.
    return and_(or_(_past(keys[0], bound[0]), ties[0]), or_(*steps))


def _behind_all(keys: Sequence[_Key], bound: Sequence[ColumnElement[Any]]) -> Condition:
    if len(keys) == 1:
        return _past(keys[0], bound[0])
    left, right = tuple_(*[key.column for key in keys]), tuple_(*bound)
    return left < right if keys[0].descending else left > right


def _past(key: _Key, value: ColumnElement[Any]) -> Condition:
    return key.column < value if key.descending else key.column > value


def _key_of(source: Rows) -> str:
    if source.key is None:
        raise ValueError("a list orders nothing")
    return str(source.key.key)
