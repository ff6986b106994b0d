"""Filters of random shape, as trees and as text; what they mean, in plain Python."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from hypothesis import strategies as st

from registry_service.filtering.ast import (
    And,
    Comparison,
    Expression,
    Not,
    Operator,
    Or,
    Pattern,
    Value,
)
from registry_service.filtering.fields import Field, Resource, Shape, Type

#: Of things that are filtered: the values of a field, by key where it is a map.
Facts = Mapping[str, Any]

START = datetime(2026, 3, 1, tzinfo=UTC)
WORDS = (
    "",
    "a",
    "A",
    "ab",
    "a*",
    "*",
    "b%",
    "_",
    "[a]",
    "é",
    'q"uote',
    "back\\slash",
    "a b",
    "mlflow.x",
)
LAST = "\U0010ffff"
KEYS = ("k", "K", "mlflow.x", "a b", 'q"', "é")
NUMBERS = (-1.5, 0.0, 0.25, 0.5, 0.75, 1e300)
_COMPARE: dict[Operator, Callable[[Any, Any], bool]] = {
    Operator.EQUAL: lambda a, b: bool(a == b),
    Operator.NOT_EQUAL: lambda a, b: bool(a != b),
    Operator.LESS: lambda a, b: bool(a < b),
    Operator.LESS_OR_EQUAL: lambda a, b: bool(a <= b),
    Operator.GREATER: lambda a, b: bool(a > b),
    Operator.GREATER_OR_EQUAL: lambda a, b: bool(a >= b),
    Operator.IN: lambda a, b: a in b,
    Operator.NOT_IN: lambda a, b: a not in b,
}


def holds(expression: Expression, facts: Facts) -> bool:
    """The meaning of a filter."""
    if isinstance(expression, And):
        return all(holds(part, facts) for part in expression.parts)
    if isinstance(expression, Or):
        return any(holds(part, facts) for part in expression.parts)
    if isinstance(expression, Not):
        return not holds(expression.part, facts)
    return _compares(expression, facts[expression.field])


def _compares(comparison: Comparison, value: Any) -> bool:
    if isinstance(value, Mapping):
        if comparison.key is None:
            return bool(value)
        value = value.get(comparison.key)
    if isinstance(value, Sequence) and not isinstance(value, str):
        if comparison.operator is Operator.PRESENT:
            return bool(value)
        return any(_compares(comparison, item) for item in value)
    if value is None:
        return comparison.unset_matches
    return comparison.operator is Operator.PRESENT or _one(comparison.operator, value, comparison.value)


def _one(operator: Operator, value: Any, asked: Value) -> bool:
    if isinstance(asked, Pattern):
        return asked.matches(value) is not (operator is Operator.NOT_EQUAL)
    if operator in (Operator.LIKE, Operator.ILIKE):
        return _like(value, str(asked), folded=operator is Operator.ILIKE)
    return _COMPARE[operator](value, asked)


def _like(value: str, pattern: str, *, folded: bool) -> bool:
    if folded:
        value, pattern = ("".join(c.lower() if c.isascii() else c for c in text) for text in (value, pattern))
    if not pattern:
        return not value
    if pattern[0] == "%":
        return any(_like(value[index:], pattern[1:], folded=False) for index in range(len(value) + 1))
    return bool(value) and pattern[0] in ("_", value[0]) and _like(value[1:], pattern[1:], folded=False)


def trees(
    resource: Resource, words: Sequence[str] = WORDS, *, mlflow: bool = False
) -> st.SearchStrategy[Expression]:
    """Of comparisons that text can express, or those of MLflow's language, too."""
    fields = list(resource.fields.values())
    leaves = st.sampled_from(fields).flatmap(lambda field: _comparison(field, words))
    if mlflow:
        leaves |= st.sampled_from(fields).flatmap(lambda field: _of_mlflow(field, words))
    return st.recursive(
        leaves,
        lambda parts: st.one_of(
            parts.map(Not),
            st.lists(parts, min_size=2, max_size=3).map(lambda some: And(tuple(some))),
            st.lists(parts, min_size=2, max_size=3).map(lambda some: Or(tuple(some))),
        ),
        max_leaves=6,
    )


def _comparison(field: Field, words: Sequence[str]) -> st.SearchStrategy[Expression]:
    keys = st.sampled_from(KEYS) if field.shape is Shape.MAP else st.none()
    present = keys.map(lambda key: Comparison(field.name, Operator.PRESENT, None, key))
    plain = [Operator.EQUAL] if field.shape is Shape.LIST else [Operator.EQUAL, Operator.NOT_EQUAL]
    ordered = [Operator.LESS, Operator.LESS_OR_EQUAL, Operator.GREATER, Operator.GREATER_OR_EQUAL]
    if field.type in (Type.INTEGER, Type.NUMBER, Type.TIME):
        plain += ordered
    compared = st.builds(Comparison, st.just(field.name), st.sampled_from(plain), _values(field, words), keys)
    return present | compared


def _of_mlflow(field: Field, words: Sequence[str]) -> st.SearchStrategy[Expression]:
    keys = st.sampled_from(KEYS) if field.shape is Shape.MAP else st.none()
    if field.type is not Type.TEXT or field.shape is Shape.LIST:
        return _comparison(field, words)
    some = st.sampled_from(list(words))
    patterns = st.lists(st.sampled_from([*words, "%", "_", "a%", "%B", "É"]), max_size=2).map("".join)
    name = st.just(field.name)
    like = st.builds(Comparison, name, st.sampled_from([Operator.LIKE, Operator.ILIKE]), patterns, keys)
    lists = st.lists(some, min_size=1, max_size=3).map(tuple)
    among = st.builds(
        Comparison, name, st.sampled_from([Operator.IN, Operator.NOT_IN]), lists, keys, st.booleans()
    )
    unequal = st.builds(Comparison, name, st.just(Operator.NOT_EQUAL), some, keys, st.just(True))
    return like | among | unequal


def _values(field: Field, words: Sequence[str]) -> st.SearchStrategy[Any]:
    if field.type is Type.TEXT:
        texts = st.sampled_from(list(words))
        return texts | st.builds(Pattern, texts, st.booleans(), st.booleans()).filter(
            # Two ways to write the same: a text, or any text at all.
            lambda p: (p.any_before or p.any_after) and not (p.any_before and not p.any_after and not p.text)
        )
    if field.type is Type.CHOICE:
        return st.sampled_from(field.choices)
    if field.type is Type.INTEGER:
        return st.integers(-1, 6)
    if field.type is Type.NUMBER:
        return st.sampled_from(NUMBERS)
    if field.type is Type.BOOLEAN:
        return st.booleans()
    return st.integers(-2, 60).map(lambda steps: START + timedelta(milliseconds=steps))


def text_of(expression: Expression) -> str:
    """A filter that parses to the tree."""
    if isinstance(expression, Not):
        return f"NOT {text_of(expression.part)}"
    if isinstance(expression, And | Or):
        word = " AND " if isinstance(expression, And) else " OR "
        return f"({word.join(text_of(part) for part in expression.parts)})"
    path = expression.field + ("" if expression.key is None else f".{_quoted(expression.key)}")
    if expression.operator is Operator.PRESENT:
        return f"{path}:*"
    return f"{path} {expression.operator} {_literal(expression.value)}"


def _literal(value: Value) -> str:
    if isinstance(value, Pattern):
        return _quoted(value.text, "*" * value.any_before, "*" * value.any_after)
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, bool):
        return str(value).lower()
    return _quoted(value) if isinstance(value, str) else str(value)


def _quoted(text: str, before: str = "", after: str = "") -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"').replace("*", "\\*")
    return f'"{before}{escaped}{after}"'
