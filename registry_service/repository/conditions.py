"""Comparisons in SQL, with the same answers on SQLite and PostgreSQL: by code point, minding the case.

Every condition is true or false, never NULL, so that NOT means what it says.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from string import ascii_lowercase, ascii_uppercase
from typing import Any

from sqlalchemy import ColumnElement, and_, collate, false, func, literal, or_, true

from registry_service.filtering.ast import Comparison, Operator, Pattern

Condition = ColumnElement[bool]

_PLAIN: dict[Operator, Callable[[Any, Any], Any]] = {
    Operator.EQUAL: operator.eq,
    Operator.NOT_EQUAL: operator.ne,
    Operator.LESS: operator.lt,
    Operator.LESS_OR_EQUAL: operator.le,
    Operator.GREATER: operator.gt,
    Operator.GREATER_OR_EQUAL: operator.ge,
}
_LOWER = str.maketrans(ascii_uppercase, ascii_lowercase)
_GLOB = str.maketrans({"%": "*", "_": "?", "*": "[*]", "?": "[?]", "[": "[[]"})
_SURROGATES = range(0xD800, 0xE000)


class Comparer:
    """Conditions for one database.

    dialect: "sqlite" or "postgresql".
    """

    def __init__(self, dialect: str) -> None:
        self._sqlite = dialect == "sqlite"

    @property
    def sqlite(self) -> bool:
        return self._sqlite

    def holds(self, column: ColumnElement[Any], comparison: Comparison) -> Condition:
        """Whether a value compares so; NULL where it is NULL."""
        value, asked = comparison.value, comparison.operator
        if asked is Operator.PRESENT:
            return column.is_not(None)
        if isinstance(value, Pattern):
            found = self.matches(column, value)
            return ~found if asked is Operator.NOT_EQUAL else found
        if asked is Operator.IN or asked is Operator.NOT_IN:
            items = value if isinstance(value, tuple) else (value,)
            return column.in_(items) if asked is Operator.IN else column.not_in(items)
        if asked is Operator.LIKE or asked is Operator.ILIKE:
            return self._like(column, str(value), folded=asked is Operator.ILIKE)
        result: Condition = _PLAIN[asked](column, value)
        return result

    def of_nullable(self, column: ColumnElement[Any], comparison: Comparison) -> Condition:
        """As `holds`, and decided where there is no value."""
        if comparison.unset_matches:
            return or_(column.is_(None), self.holds(column, comparison))
        return and_(column.is_not(None), self.holds(column, comparison))

    def matches(self, column: ColumnElement[Any], pattern: Pattern) -> Condition:
        text = pattern.text
        if not text:
            return column.is_not(None)
        if pattern.any_before and pattern.any_after:
            find = func.instr if self._sqlite else func.strpos
            return find(column, text) > 0
        if pattern.any_before:
            end = func.substr(column, -len(text)) if self._sqlite else func.right(column, len(text))
            return end == text
        return self.begins(column, text)

    def begins(self, column: ColumnElement[Any], text: str) -> Condition:
        """As a range, which an index can answer."""
        by_code_point = column if self._sqlite else collate(column, "C")
        end = behind(text)
        if end is None:
            return by_code_point >= text
        return and_(by_code_point >= text, by_code_point < end)

    def _like(self, column: ColumnElement[Any], pattern: str, *, folded: bool) -> Condition:
        if folded:
            # Of the letters A to Z, as SQLite does it: PostgreSQL with the rules of "C".
            column = func.lower(column if self._sqlite else collate(column, "C"))
            pattern = pattern.translate(_LOWER)
        if self._sqlite:
            # LIKE would not mind the case.
            return column.op("GLOB", is_comparison=True)(literal(pattern.translate(_GLOB)))
        return column.like(pattern.replace("\\", "\\\\"))


def behind(text: str) -> str | None:
    """The least text greater than all that begin with this one; None when there is none."""
    for index in range(len(text) - 1, -1, -1):
        code = ord(text[index]) + 1
        if code in _SURROGATES:
            code = _SURROGATES.stop
        if code <= 0x10FFFF:
            return text[:index] + chr(code)
    return None


def constant(holds: bool) -> Condition:
    return true() if holds else false()
