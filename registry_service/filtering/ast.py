"""What a filter asks for, whatever language it was written in.

A tree has two truth values only. A comparison with something that has no value (a tag that is not there, a
time not yet set) is false, unless it says `unset_matches`; so `Not` of it is true.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum


class Operator(StrEnum):
    EQUAL = "="
    NOT_EQUAL = "!="
    LESS = "<"
    LESS_OR_EQUAL = "<="
    GREATER = ">"
    GREATER_OR_EQUAL = ">="
    #: There is a value at all. The comparison's own value is None.
    PRESENT = ":*"
    #: SQL's patterns: % for any text, _ for any character, nothing escaped. LIKE minds the case, ILIKE does
    #: not (of the letters A to Z).
    LIKE = "LIKE"
    ILIKE = "ILIKE"
    #: The value is a tuple.
    IN = "IN"
    NOT_IN = "NOT IN"


@dataclass(frozen=True)
class Pattern:
    """Text with any other text before or after it: the operand of EQUAL and NOT_EQUAL. Minds the case."""

    text: str
    any_before: bool = False
    any_after: bool = False

    def matches(self, value: str) -> bool:
        if self.any_before and self.any_after:
            return self.text in value
        if self.any_before:
            return value.endswith(self.text)
        return value.startswith(self.text) if self.any_after else value == self.text


Scalar = str | int | float | bool | datetime
Value = Scalar | Pattern | tuple[Scalar, ...] | None


@dataclass(frozen=True)
class Comparison:
    """field: a name of `fields.py`. key: of a map's entry. Of a list ("aliases", "datasets") EQUAL means that
    one of its items is equal.

    value: of the type of the field; moments are zone-aware. unset_matches: holds, too, where there is nothing
    to compare (MLflow's rule for != and NOT IN of tags).
    """

    field: str
    operator: Operator
    value: Value = None
    key: str | None = None
    unset_matches: bool = False


@dataclass(frozen=True)
class Not:
    part: Expression


@dataclass(frozen=True)
class And:
    parts: tuple[Expression, ...]


@dataclass(frozen=True)
class Or:
    parts: tuple[Expression, ...]


Expression = Comparison | Not | And | Or


def comparisons(expression: Expression) -> Iterator[Comparison]:
    """Every comparison of a tree, from left to right."""
    if isinstance(expression, Comparison):
        yield expression
    elif isinstance(expression, Not):
        yield from comparisons(expression.part)
    else:
        for part in expression.parts:
            yield from comparisons(part)


@dataclass(frozen=True)
class Order:
    """What a list is sorted by: a field (key: of a map's entry). Things without a value come last in both
    directions."""

    field: str
    descending: bool = False
    key: str | None = None
