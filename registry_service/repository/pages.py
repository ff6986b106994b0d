"""Pages of ordered, filtered lists by keyset: what is added meanwhile shifts and repeats nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import ColumnElement, Select, and_, literal, not_, or_, select, tuple_
from sqlalchemy.orm import Session, aliased

from registry_service.filtering.ast import And, Comparison, Expression, Not, Operator, Order, comparisons
from registry_service.filtering.search import Place, Search
from registry_service.repository.common import one_of
from registry_service.repository.conditions import Comparer, Condition, constant
from registry_service.repository.sources import Attribute, Column, Rows, Source
from registry_service.tables import Base

#: So many rows are found by their ids and sorted.
_FEW = 1_000


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

    def __init__(
        self,
        session: Session,
        target: Target,
        fixed: Sequence[Condition] = (),
        joined: Mapping[str, Condition] | None = None,
    ) -> None:
        """fixed: holds for all of the list, whatever is searched. joined: the same about a table that may be
        joined, so that its indexes can serve."""
        self._session, self._target, self._fixed = session, target, tuple(fixed)
        self._joined = joined or {}
        self._known: dict[Comparison, Condition | None] = {}
        self._compare = Comparer(session.get_bind().dialect.name)

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

    def _with_value(self, search: Search, limit: int) -> list[Place]:
        statement, keys = self._ordered(self._statement(search), search.orders)
        keys.append(_Key(self._target.id, keys[0].descending if keys else True))
        if search.after is not None:
            statement = statement.where(_beyond(keys, [*search.after.values, search.after.id]))
        return self._read(statement, keys, limit)

    def _without_value(self, search: Search, source: Source, first: Order, limit: int) -> list[Place]:
        statement = self._statement(search)
        if isinstance(source, Rows):
            present = Comparison(first.field, Operator.PRESENT, None, first.key)
            statement = statement.where(not_(source.condition(present, self._compare)))
        elif isinstance(source, Column):
            statement = statement.where(source.value.is_(None))
        statement, keys = self._ordered(statement, search.orders[1:])
        keys.append(_Key(self._target.id, first.descending))
        after = search.after
        if after is not None and after.values[0] is None:
            statement = statement.where(_beyond(keys, [*after.values[1:], after.id]))
        return [Place((None, *place.values), place.id) for place in self._read(statement, keys, limit)]

    def _ordered(self, statement: Select[Any], orders: Sequence[Order]) -> tuple[Select[Any], list[_Key]]:
        """Those that have values of the orders, and what they are."""
        keys: list[_Key] = []
        for order in orders:
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
        return statement, keys

    def _statement(self, search: Search) -> Select[Any]:
        statement: Select[Any] = select().select_from(self._target.table)
        for name in self._tables(search):
            table, condition = self._target.joins[name]
            statement = statement.join(table, condition)
            if name in self._joined:
                statement = statement.where(self._joined[name])
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
        few = self._few(expression)
        return [self._condition(expression) if few is None else few]

    def _few(self, expression: Expression) -> Condition | None:
        """A condition that few rows meet, by their ids; None for others.

        Without it a database has to guess whether to look for the few, and then to sort them, or to go
        through the list in its order until a page is full. The first is right for few, the second for many.
        """
        if not isinstance(expression, Comparison) or expression.unset_matches:
            return None
        if expression in self._known:
            return self._known[expression]
        source = self._target.fields[expression.field]
        owners = source.owners(expression, self._compare) if isinstance(source, Column | Rows) else None
        found: Condition | None = None
        if owners is not None and isinstance(source, Column | Rows):
            ids = list(self._session.scalars(owners.limit(_FEW + 1)))
            if not ids:
                found = constant(False)
            elif len(ids) <= _FEW:
                found = one_of(self._session, source.owner, ids)
        self._known[expression] = found
        return found

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
        return [Place(tuple(row[:-1]), row[-1]) for row in self._session.connection().execute(statement)]


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
