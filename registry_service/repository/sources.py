"""Where the value of a field is kept, and how a comparison with it is asked in SQL."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

from sqlalchemy import Double, Select, Text, and_, cast, exists, func, literal, not_, or_, select

from registry_service.filtering.ast import Comparison, Operator, Pattern
from registry_service.repository.conditions import Comparer, Condition, constant

#: A column, or an attribute of a table's class, which stands for one.
Attribute = Any
#: The longest value, in characters, that the index of values holds; databases refuse entries much longer.
INDEXED = 200


_INDEXED = (
    Operator.PRESENT,
    Operator.EQUAL,
    Operator.LESS,
    Operator.LESS_OR_EQUAL,
    Operator.GREATER,
    Operator.GREATER_OR_EQUAL,
)


class Source(Protocol):
    """Of one field."""

    def condition(self, comparison: Comparison, compare: Comparer) -> Condition:
        """True or false for every row."""


@dataclass(frozen=True)
class Column:
    """A column of the row, or of a row joined to it.

    joins: what has to be joined for that, by name. owner, id: where this row holds the id of the joined one,
    and that id, if there are few joined ones for many of these rows.
    """

    value: Attribute
    joins: tuple[str, ...] = ()
    nullable: bool = False
    owner: Attribute = None
    id: Attribute = None

    def owners(self, comparison: Comparison, compare: Comparer) -> Select[Any] | None:
        """The ids of the joined rows for which it holds."""
        return None if self.owner is None else select(self.id).where(self.condition(comparison, compare))

    def condition(self, comparison: Comparison, compare: Comparer) -> Condition:
        if self.nullable:
            return compare.of_nullable(self.value, comparison)
        return compare.holds(self.value, comparison)


@dataclass(frozen=True)
class Flag:
    """A condition of the row that is itself the value."""

    holds: Condition
    joins: tuple[str, ...] = ()

    def condition(self, comparison: Comparison, compare: Comparer) -> Condition:
        if comparison.operator is Operator.PRESENT:
            return constant(True)
        wanted = bool(comparison.value) is not (comparison.operator is Operator.NOT_EQUAL)
        return self.holds if wanted else not_(self.holds)


@dataclass(frozen=True)
class Through:
    """A column of the one row that a foreign key, which may be NULL, refers to by its id."""

    key: Attribute
    id: Attribute
    value: Attribute

    def condition(self, comparison: Comparison, compare: Comparer) -> Condition:
        if comparison.operator is Operator.PRESENT:
            present: Condition = self.key.is_not(None)
            return present
        found = select(self.id).where(compare.holds(self.value, comparison))
        if comparison.unset_matches:
            return or_(self.key.is_(None), self.key.in_(found))
        return and_(self.key.is_not(None), self.key.in_(found))


@dataclass(frozen=True)
class Rows:
    """Rows of another table about this one: the items of a list, or, with a key, the entries of a map.

    owner: the id of this row. link: where those rows hold it. short: holds for the values in an index, the
    others being longer than INDEXED. also: what else ties a row to this one.
    """

    owner: Attribute
    link: Attribute
    value: Attribute
    key: Attribute | None = None
    short: Condition | None = None
    also: Condition | None = None

    def condition(self, comparison: Comparison, compare: Comparer) -> Condition:
        entry = self._entry(comparison)
        if comparison.operator is Operator.PRESENT:
            return exists().where(self.link == self.owner, *entry)
        found = exists().where(self.link == self.owner, *entry, self._holds(comparison, compare))
        if comparison.unset_matches:
            return or_(found, not_(exists().where(self.link == self.owner, *entry)))
        return found

    def owners(self, comparison: Comparison, compare: Comparer) -> Select[Any] | None:
        """The ids for which it holds, where an index finds them; else None."""
        asked, value = comparison.operator, comparison.value
        if asked is Operator.PRESENT and comparison.key is None:
            return None
        if asked not in _INDEXED or (
            isinstance(value, Pattern) and (self.short is not None or value.any_before)
        ):
            return None
        holds = [] if asked is Operator.PRESENT else [self._holds(comparison, compare)]
        return select(self.link).where(self.link.is_not(None), *self._entry(comparison), *holds)

    def _entry(self, comparison: Comparison) -> list[Condition]:
        conditions = [] if self.also is None else [self.also]
        if self.key is not None and comparison.key is not None:
            conditions.append(self.key == comparison.key)
        return conditions

    def _holds(self, comparison: Comparison, compare: Comparer) -> Condition:
        holds, value = compare.holds(self.value, comparison), comparison.value
        equal = comparison.operator is Operator.EQUAL and isinstance(value, str)
        if self.short is None or not equal or len(str(value)) > INDEXED:
            return holds
        return and_(holds, self.short)


@dataclass(frozen=True)
class Document:
    """A map kept as JSON. numeric: its values are numbers, else texts; none is null."""

    value: Attribute
    numeric: bool = False

    def condition(self, comparison: Comparison, compare: Comparer) -> Condition:
        if compare.sqlite:
            return self._in_sqlite(comparison, compare)
        if comparison.key is None:
            return cast(self.value, Text) != "{}"
        entry = self.value.op("->>", return_type=Text())(literal(comparison.key, Text()))
        return compare.of_nullable(cast(entry, Double) if self.numeric else entry, comparison)

    def _in_sqlite(self, comparison: Comparison, compare: Comparer) -> Condition:
        entries = func.json_each(self.value).table_valued("key", "value")
        if comparison.key is None:
            return exists().select_from(entries)
        of_key = entries.c.key == comparison.key
        if comparison.operator is Operator.PRESENT:
            return exists().where(of_key)
        found = exists().where(of_key, compare.holds(entries.c.value, comparison))
        return or_(found, not_(exists().where(of_key))) if comparison.unset_matches else found
